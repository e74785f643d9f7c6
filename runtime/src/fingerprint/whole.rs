//! Notices a field that a value leaves out when it is written.
//!
//! With `#[serde(skip_serializing_if)]` a field is written or not, depending on its value. A format that writes the names
//! of fields can handle that; postcard does not write them, and what follows would be read in place of the field. The
//! serializer of postcard ignores the call by which serde reports a field that is left out; this serializer reacts to
//! nothing else.

use std::fmt;

use serde::ser::{self, Serialize};

/// Why a value is not written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotWhole {
    /// This field of this struct or variant is left out.
    LeftOut { of: &'static str, field: &'static str },
    /// The value's own `serialize` refused.
    Refused,
}

impl fmt::Display for NotWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut { of, field } => {
                write!(f, "its field '{field}' (of {of}) is left out by #[serde(skip_serializing_if)]")
            }
            Self::Refused => f.write_str("its own 'serialize' refuses it"),
        }
    }
}

impl std::error::Error for NotWhole {}

impl ser::Error for NotWhole {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self::Refused
    }
}

/// The first field that a value leaves out.
pub(crate) fn left_out<T: Serialize + ?Sized>(value: &T) -> Option<NotWhole> {
    // Whether a value that refuses this serializer can be written is left to the format, for which it may have another
    // representation.
    value.serialize(Whole { of: "" }).err().filter(|found| *found != NotWhole::Refused)
}

/// Writes nothing, and fails at the first field that is left out.
#[derive(Clone, Copy)]
struct Whole {
    /// The struct or the variant that the fields belong to.
    of: &'static str,
}

/// A serializer's methods for what has no parts.
macro_rules! leaves {
    ($($method:ident: $type:ty),*) => {
        $(#[inline] fn $method(self, _: $type) -> Result<(), NotWhole> { Ok(()) })*
    };
}

impl ser::Serializer for Whole {
    type Ok = ();
    type Error = NotWhole;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    leaves! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_bytes: &[u8], serialize_unit_struct: &'static str
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_none(self) -> Result<(), NotWhole> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), NotWhole> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotWhole> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), NotWhole> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotWhole> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotWhole> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotWhole> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotWhole> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, of: &'static str, _: usize) -> Result<Self, NotWhole> {
        Ok(Self { of })
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        of: &'static str,
        _: usize,
    ) -> Result<Self, NotWhole> {
        Ok(Self { of })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, NotWhole> {
        Ok(self)
    }

    fn serialize_struct(self, of: &'static str, _: usize) -> Result<Self, NotWhole> {
        Ok(Self { of })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        of: &'static str,
        _: usize,
    ) -> Result<Self, NotWhole> {
        Ok(Self { of })
    }

    /// Does not make the text, which is not needed and costs time.
    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), NotWhole> {
        Ok(())
    }
}

/// The traits for what has parts; with `skips` those that report a field that is left out.
macro_rules! compound {
    ($($trait:ident { $($method:ident($($arg:ident: $type:ty)?)),* $(; $skips:ident)? })*) => {$(
        impl ser::$trait for Whole {
            type Ok = ();
            type Error = NotWhole;
            $(#[inline] fn $method<T: Serialize + ?Sized>(&mut self, $($arg: $type,)? value: &T) -> Result<(), NotWhole> {
                value.serialize(*self)
            })*
            $(#[cold] fn $skips(&mut self, field: &'static str) -> Result<(), NotWhole> {
                Err(NotWhole::LeftOut { of: self.of, field })
            })?
            fn end(self) -> Result<(), NotWhole> {
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
    SerializeStruct { serialize_field(_name: &'static str); skip_field }
    SerializeStructVariant { serialize_field(_name: &'static str); skip_field }
}
