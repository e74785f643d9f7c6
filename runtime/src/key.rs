//! Keys: what a keyed stream is partitioned by, and the hash that outlives the process.
//!
//! The hash of a key determines its key group, and the key group determines where its state lies in a snapshot. So the hash
//! must be the same in every process, on every platform, for ever; Rust's own hashers do not guarantee that. This hash
//! serializes the key with serde and folds rapidhash v3 (nano) over the bytes of its parts; a golden test fixes the values.

use std::rc::Rc;

use serde::ser::{self, Serialize};

/// A key: a string, a number, or any type that derives serde's traits, compared by equality.
///
/// Floating-point numbers are not suitable as keys (`NaN` is equal to nothing); equal keys must have equal serializations.
/// A type that a snapshot [cannot keep](crate::KeyedProcess#what-can-be-kept) cannot be a key of a step with state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "`{Self}` cannot be a key",
    note = "a key derives `Clone`, `PartialEq`, `Eq` and serde's `Serialize` and `Deserialize`, and owns what it holds",
    note = "for text take the whole `String`, `key_by(|r| &r.name)`, not a `&str` of it; for a floating-point number a rounded \
            integer, `key_by_value(|r| r.x.round() as i64)`; for a combination a tuple, \
            `key_by_value(|r| (r.name.clone(), r.n))`"
)]
pub trait Key: Serialize + serde::de::DeserializeOwned + Eq + Clone + Send + 'static {}

impl<K: Serialize + serde::de::DeserializeOwned + Eq + Clone + Send + 'static> Key for K {}

/// How the key of a record is found.
pub(crate) enum KeyFn<T, K> {
    /// It is a part of the record.
    Part(Rc<dyn Fn(&T) -> &K>),
    /// It is computed from the record.
    Computed(Rc<dyn Fn(&T) -> K>),
}

impl<T, K> Clone for KeyFn<T, K> {
    fn clone(&self) -> Self {
        match self {
            Self::Part(f) => Self::Part(f.clone()),
            Self::Computed(f) => Self::Computed(f.clone()),
        }
    }
}

impl<T, K> KeyFn<T, K> {
    /// Runs `f` on the key of `record`.
    #[inline(always)]
    pub(crate) fn with<R>(&self, record: &T, f: impl FnOnce(&K) -> R) -> R {
        match self {
            Self::Part(part) => f(part(record)),
            Self::Computed(key) => f(&key(record)),
        }
    }
}

/// The stable hash of a key.
#[inline]
pub(crate) fn hash<K: Serialize>(key: &K) -> u64 {
    let mut hasher = KeyHasher(0);
    // Only a type whose own `serialize` refuses a value can fail; such a value has no part in the hash.
    let _ = key.serialize(&mut hasher);
    hasher.0
}

/// Folds a key's parts into one number.
struct KeyHasher(u64);

impl KeyHasher {
    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        let part = rapidhash::v3::rapidhash_v3_nano_inline::<true, false>(
            bytes,
            &rapidhash::v3::DEFAULT_RAPID_SECRETS,
        );
        self.number(part);
    }

    /// A folded 128-bit product with odd constants, as in wyhash: every bit of either input reaches all bits of the result.
    #[inline(always)]
    fn number(&mut self, part: u64) {
        let left = part ^ 0x9E37_79B9_7F4A_7C15;
        let right = self.0.rotate_left(23) ^ 0xD1B5_4A32_D192_ED03;
        let product = u128::from(left) * u128::from(right);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// The error of a key whose own `serialize` fails; the hasher itself never fails.
#[derive(Debug)]
struct NoHash;

impl std::fmt::Display for NoHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the key refused to be serialized")
    }
}

impl std::error::Error for NoHash {}

impl ser::Error for NoHash {
    fn custom<M: std::fmt::Display>(_: M) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($name:ident: $type:ty),*) => {
        $(#[inline(always)] fn $name(self, v: $type) -> Result<(), NoHash> { self.number(v as u64); Ok(()) })*
    };
}

impl ser::Serializer for &mut KeyHasher {
    type Ok = ();
    type Error = NoHash;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_char: char
    }

    fn serialize_i128(self, v: i128) -> Result<(), NoHash> {
        self.bytes(&v.to_le_bytes());
        Ok(())
    }

    fn serialize_u128(self, v: u128) -> Result<(), NoHash> {
        self.bytes(&v.to_le_bytes());
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), NoHash> {
        self.number(u64::from(v.to_bits()));
        Ok(())
    }

    fn serialize_f64(self, v: f64) -> Result<(), NoHash> {
        self.number(v.to_bits());
        Ok(())
    }

    #[inline(always)]
    fn serialize_str(self, v: &str) -> Result<(), NoHash> {
        self.bytes(v.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), NoHash> {
        self.bytes(v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), NoHash> {
        self.number(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NoHash> {
        self.number(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NoHash> {
        self.number(0);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NoHash> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), NoHash> {
        self.number(u64::from(index));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NoHash> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NoHash> {
        self.number(u64::from(index));
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, NoHash> {
        self.number(length.unwrap_or(usize::MAX) as u64);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NoHash> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NoHash> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, NoHash> {
        self.number(u64::from(index));
        Ok(self)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, NoHash> {
        self.serialize_seq(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NoHash> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, NoHash> {
        self.number(u64::from(index));
        Ok(self)
    }
}

macro_rules! compound {
    ($($trait:ident { $($method:ident($($arg:ident: $type:ty)?)),* })*) => {$(
        impl ser::$trait for &mut KeyHasher {
            type Ok = ();
            type Error = NoHash;
            $(fn $method<T: Serialize + ?Sized>(&mut self, $($arg: $type,)? value: &T) -> Result<(), NoHash> {
                value.serialize(&mut **self)
            })*
            fn end(self) -> Result<(), NoHash> {
                Ok(())
            }
        }
    )*};
}

compound! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(_name: &'static str) }
    SerializeStructVariant { serialize_field(_name: &'static str) }
}
