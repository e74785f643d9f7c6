//! The heap memory of a value, estimated by a serializer that writes nothing.
//!
//! The encoded length of a value says little: a map with one entry of three bytes lies in a node for eleven entries of
//! sixteen. A serializer sees every part of a value, so it can tell what belongs to the value itself and what must lie
//! elsewhere: the elements of a list, the entries of a map, the bytes of a text, and what is larger than the place it is in
//! (behind a `Box`).
//!
//! The size of a field is that of its type. Elements of a collection are seen through references, so their size is the sum
//! of their parts. The kind of a collection follows from the name of its type, if it is one of the standard library. Its
//! capacity cannot be seen: it is assumed to be that of a collection that grew one element at a time, so that a list that
//! was allocated with its exact length counts for up to twice its size.

use std::mem::size_of_val;

use postcard::Error;
use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The size of a list, a text and a `BTreeMap`.
const COLLECTION: usize = size_of::<Vec<u8>>();
/// The size of an enum's discriminant, with its alignment.
const TAG: usize = size_of::<u64>();
/// The number of entries that a node of a `BTreeMap` has room for, and how many it holds when entries were added in order:
/// the standard library splits a full node in the middle.
const BTREE_NODE: (usize, usize) = (11, 6);
/// What a node of a `BTreeMap` has besides its entries.
const BTREE_LINKS: usize = 16;
/// Bytes of a hash table besides its places and a byte for each of them.
const HASHED_GROUP: usize = 16;
/// The size of a list's first allocation, in elements.
const LIST_START: usize = 4;

/// Bytes that a value takes besides its own size.
///
/// # Errors
/// If the type cannot serialize the value.
pub(crate) fn heap_size<T: Serialize + ?Sized>(value: &T) -> crate::Result<usize> {
    let mut heap = 0;
    value
        .serialize(Weigher::of(value, Some(size_of_val(value)), &mut heap))
        .map_err(super::store::cannot_serialize)?;
    Ok(heap)
}

/// The memory that an allocation of `bytes` bytes takes: with a word for the allocator, a multiple of 16 and at least 32.
/// This is how glibc does it; mimalloc rounds up by an eighth at most and takes less for very small allocations.
fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(16).max(32) }
}

/// How a collection lies in memory.
#[derive(Clone, Copy)]
enum Kind {
    /// One after the other.
    List,
    /// In nodes, as in a `BTreeMap`.
    Tree,
    /// In a table with free places, as in a `HashMap`.
    Hashed,
}

/// The kind of the collection that a type is, by its name; None for a type that is not known.
fn kind_of(type_name: &str) -> Option<Kind> {
    let path = type_name.trim_start_matches('&').split('<').next().unwrap_or("");
    match path.rsplit("::").next() {
        Some("Vec" | "VecDeque") => Some(Kind::List),
        Some("BTreeMap" | "BTreeSet") => Some(Kind::Tree),
        Some("HashMap" | "HashSet" | "IndexMap" | "IndexSet") => Some(Kind::Hashed),
        _ => None,
    }
}

/// Weighs one value, and returns its own size.
struct Weigher<'a> {
    /// The size of the value itself, if its type is known.
    own: Option<usize>,
    type_name: &'static str,
    heap: &'a mut usize,
}

impl<'a> Weigher<'a> {
    fn of<T: ?Sized>(_: &T, own: Option<usize>, heap: &'a mut usize) -> Self {
        Self { own, type_name: std::any::type_name::<T>(), heap }
    }

    fn allocate(self, bytes: usize) -> Result<usize, Error> {
        *self.heap += allocation(bytes);
        Ok(self.own.unwrap_or(COLLECTION))
    }
}

/// Adds up the parts of one value.
struct Parts<'a> {
    own: Option<usize>,
    type_name: &'static str,
    /// Parts so far.
    count: usize,
    /// The sizes of all parts, and of the largest: elements that are enums may be smaller than their type.
    all: usize,
    largest: usize,
    heap: &'a mut usize,
}

impl<'a> Parts<'a> {
    /// A value of which only the tag has been counted, if it has one.
    fn of(value: Weigher<'a>, tag: usize) -> Self {
        let Weigher { own, type_name, heap } = value;
        Self { own, type_name, count: 0, all: tag, largest: 0, heap }
    }

    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.all += bytes;
        self.largest = self.largest.max(bytes);
    }

    /// A part whose type is known.
    fn field<T: Serialize + ?Sized>(&mut self, field: &T) -> Result<(), Error> {
        let own = size_of_val(field);
        self.add(own);
        field.serialize(Weigher::of(field, Some(own), self.heap)).map(drop)
    }

    /// A part that is seen through a reference.
    fn element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        let own = element.serialize(Weigher::of(element, None, self.heap))?;
        self.add(own);
        Ok(())
    }

    /// The parts of a tuple, struct or variant: they are stored in the value itself, unless they are larger than it.
    fn in_place(self) -> Result<usize, Error> {
        let aligned = if self.all > TAG { self.all.next_multiple_of(TAG) } else { self.all };
        let own = self.own.unwrap_or(aligned);
        if self.all > own + TAG {
            *self.heap += allocation(self.all);
        }
        Ok(own)
    }

    /// The elements of a list or set.
    fn list(self) -> Result<usize, Error> {
        let (elements, largest) = (self.count, self.largest);
        self.collection(elements, largest, Kind::List)
    }

    /// The keys and values of a map.
    fn map(self) -> Result<usize, Error> {
        let entries = self.count / 2;
        let entry = self.all.checked_div(entries).unwrap_or(0);
        self.collection(entries, entry, Kind::Tree)
    }

    /// Counts `elements` elements of this size, in a collection of the given kind if its type is not known.
    fn collection(self, elements: usize, size: usize, kind: Kind) -> Result<usize, Error> {
        if elements > 0 {
            *self.heap += match kind_of(self.type_name).unwrap_or(kind) {
                Kind::List => allocation(elements.next_power_of_two().max(LIST_START) * size),
                Kind::Tree => {
                    let (places, used) = BTREE_NODE;
                    let nodes = if elements <= places { 1 } else { elements.div_ceil(used) };
                    nodes * allocation(places * size + BTREE_LINKS)
                }
                // At most seven eighths of the places are in use, and each has a byte more.
                Kind::Hashed => {
                    let places = (elements * 8 / 7 + 1).next_power_of_two().max(LIST_START);
                    allocation(places * (size + 1) + HASHED_GROUP)
                }
            };
        }
        Ok(self.own.unwrap_or(COLLECTION))
    }
}

macro_rules! in_place {
    ($($name:ident: $number:ty),*) => {
        $(fn $name(self, _: $number) -> Result<usize, Error> {
            Ok(self.own.unwrap_or(size_of::<$number>()))
        })*
    };
}

impl<'a> Serializer for Weigher<'a> {
    type Ok = usize;
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    in_place! {
        serialize_bool: bool, serialize_char: char, serialize_f32: f32, serialize_f64: f64,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    fn serialize_str(self, text: &str) -> Result<usize, Error> {
        self.allocate(text.len())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<usize, Error> {
        self.allocate(bytes.len())
    }

    /// A text that is only made for writing is not part of the value, and does not count.
    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> Result<usize, Error> {
        Ok(self.own.unwrap_or(COLLECTION))
    }

    fn serialize_unit(self) -> Result<usize, Error> {
        Ok(self.own.unwrap_or(0))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<usize, Error> {
        self.serialize_unit()
    }

    fn serialize_none(self) -> Result<usize, Error> {
        Ok(self.own.unwrap_or(TAG))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<usize, Error> {
        let mut parts = Parts::of(self, TAG);
        parts.field(value)?;
        parts.in_place()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<usize, Error> {
        Ok(self.own.unwrap_or(TAG))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<usize, Error> {
        let mut parts = Parts::of(self, 0);
        parts.field(value)?;
        parts.in_place()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<usize, Error> {
        self.serialize_some(value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, 0))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, 0))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, 0))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, TAG))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, 0))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, 0))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        Ok(Parts::of(self, TAG))
    }

    /// As for the encoding of state: some types have another representation in human-readable formats.
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($kind:ident: $add:ident($($name:ty)?) is $part:ident, $end:ident;)*) => {
        $(impl $kind for Parts<'_> {
            type Ok = usize;
            type Error = Error;

            fn $add<T: Serialize + ?Sized>(&mut self, $(_: $name,)? part: &T) -> Result<(), Error> {
                self.$part(part)
            }

            fn end(self) -> Result<usize, Error> {
                self.$end()
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element() is element, list;
    SerializeTuple: serialize_element() is field, in_place;
    SerializeTupleStruct: serialize_field() is field, in_place;
    SerializeTupleVariant: serialize_field() is field, in_place;
    SerializeStruct: serialize_field(&'static str) is field, in_place;
    SerializeStructVariant: serialize_field(&'static str) is field, in_place;
}

impl SerializeMap for Parts<'_> {
    type Ok = usize;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<usize, Error> {
        self.map()
    }
}

#[cfg(test)]
mod tests;
