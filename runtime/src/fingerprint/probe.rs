//! The deserializer of one place: notes what the type asks for, and answers with a dummy.

use std::any::type_name;

use serde::de::{self, Visitor};

use super::access::{Fields, Parts};
use super::node::{Kind, Node};
use super::run::{Frame, Run};

/// Dummies that a type is offered before it counts as dead.
pub(super) const DUMMIES: usize = 6;
/// The n-th dummy of a string: numbers and dates are what strings are most often parsed as.
const DUMMY_STRINGS: [&str; DUMMIES] =
    ["", "1", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00", "2000-01-01", "00:00:00"];
/// The length of the n-th dummy of a byte string: ids and hashes have a fixed one.
const DUMMY_LENGTHS: [usize; DUMMIES] = [0, 16, 32, 4, 8, 20];

/// Leaves that postcard cannot read, because its bytes do not contain the type of the value.
pub(super) const ASKING: [&str; 2] = ["any", "identifier"];

/// No value could be made. The reason is in the tree.
pub(super) type Refused = de::value::Error;

pub(super) fn refused<T>() -> Result<T, Refused> {
    Err(de::Error::custom("a dummy value was refused"))
}

/// The deserializer of one place.
pub(super) struct Probe<'a> {
    pub(super) node: &'a mut Node,
    pub(super) run: &'a mut Run,
}

impl<'a> Probe<'a> {
    /// Goes into a type with parts; `kind` is None for a newtype.
    fn enter<'de, V: Visitor<'de>>(
        self,
        kind: Option<Kind>,
        visitor: V,
        go: impl FnOnce(Probe<'_>, V) -> Result<V::Value, Refused>,
    ) -> Result<V::Value, Refused> {
        let Probe { node, run } = self;
        let frame = Frame { visitor: type_name::<V>(), kind };
        if run.meets_in_lean_part(&frame) {
            node.die(run);
            return refused();
        }
        let end = node.end(run, &frame);
        let go = |probe: Probe<'_>| {
            kind.map_or(Ok(()), |kind| probe.node.open(probe.run, kind))?;
            go(probe, visitor)
        };
        run.stack.push(frame);
        let result = match end {
            None => go(Probe { node, run: &mut *run }),
            Some(end) => node.lean(run, end, type_name::<V::Value>(), go),
        };
        run.stack.pop();
        result
    }

    /// Parts one after the other, as postcard gives the elements of a tuple and a sequence.
    pub(super) fn parts(self, count: usize) -> Parts<'a> {
        Parts { node: self.node, run: self.run, next: 0, count }
    }

    /// How many elements an option, a sequence or a map has here.
    fn elements(&self) -> usize {
        let hopeless = self.node.has_dead_part() && self.node.all_done();
        let bare = self.run.bare && !self.node.parts.iter().any(|part| part.on_the_way);
        let none = bare || self.node.emptied || self.run.lean_from.is_some();
        usize::from(!hopeless && !none && self.node.refusals == 0)
    }

    /// Fields in their order, as postcard gives them; by their numbers if one is to be left out.
    pub(super) fn visit_fields<'de, V: Visitor<'de>>(
        self,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let dead = self.node.has_dead_part();
        let parts = self.parts(count);
        if dead { visitor.visit_map(Fields(parts)) } else { visitor.visit_seq(parts) }
    }
}

/// A deserializer's methods for what has no parts: name in the fingerprint, the visitor's method, the n-th dummy.
macro_rules! leaves {
    ($($method:ident $name:literal $visit:ident |$n:ident| $dummy:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.node.open(self.run, Kind::Leaf($name))?;
            let $n = self.run.dummy;
            visitor.$visit($dummy)
        }
    )*};
}

/// The name of the type that an option's visitor has in its Some.
fn inside_option<'de, V: Visitor<'de>>() -> &'static str {
    let name = type_name::<V::Value>();
    name.strip_prefix("core::option::Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(name)
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Refused;

    leaves! {
        deserialize_bool "bool" visit_bool |n| n % 2 == 1;
        deserialize_i8 "i8" visit_i8 |n| n as i8;
        deserialize_i16 "i16" visit_i16 |n| n as i16;
        deserialize_i32 "i32" visit_i32 |n| n as i32;
        deserialize_i64 "i64" visit_i64 |n| n as i64;
        deserialize_i128 "i128" visit_i128 |n| n as i128;
        deserialize_u8 "u8" visit_u8 |n| n as u8;
        deserialize_u16 "u16" visit_u16 |n| n as u16;
        deserialize_u32 "u32" visit_u32 |n| n as u32;
        deserialize_u64 "u64" visit_u64 |n| n as u64;
        deserialize_u128 "u128" visit_u128 |n| n as u128;
        deserialize_f32 "f32" visit_f32 |n| n as f32;
        deserialize_f64 "f64" visit_f64 |n| n as f64;
        deserialize_char "char" visit_char |n| char::from(b'0' + n as u8);
        deserialize_str "str" visit_str |n| DUMMY_STRINGS[n];
        deserialize_string "str" visit_str |n| DUMMY_STRINGS[n];
        deserialize_bytes "bytes" visit_bytes |n| &[0; 32][..DUMMY_LENGTHS[n]];
        deserialize_byte_buf "bytes" visit_byte_buf |n| vec![0; DUMMY_LENGTHS[n]];
        deserialize_identifier "identifier" visit_u64 |n| n as u64;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.node.open(self.run, Kind::Leaf("any"))?;
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        // That is what a type does with a dummy that it does not expect; it need not be what it does with its own bytes.
        self.node.open(self.run, Kind::Leaf("ignored"))?;
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.node.open(self.run, Kind::Tuple(0))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(None, visitor, |probe, visitor| visitor.visit_newtype_struct(probe))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Option), visitor, |probe, visitor| match probe.elements() {
            0 => visitor.visit_none(),
            _ => {
                probe.node.part(0).attempt(probe.run, inside_option::<V>(), |inner| visitor.visit_some(inner))
            }
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Seq), visitor, |probe, visitor| {
            let count = probe.elements();
            visitor.visit_seq(probe.parts(count))
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Map), visitor, |probe, visitor| {
            let count = 2 * probe.elements();
            visitor.visit_map(probe.parts(count))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Tuple(len)), visitor, |probe, visitor| visitor.visit_seq(probe.parts(len)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>, visitor: V| probe.visit_fields(fields.len(), visitor);
        self.enter(Some(Kind::Struct(fields)), visitor, go)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Enum(variants)), visitor, |probe, visitor| visitor.visit_enum(probe))
    }
}
