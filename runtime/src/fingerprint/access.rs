//! How the parts of a place are given to a visitor.

use std::any::type_name;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::node::{Kind, Node};
use super::probe::{Probe, Refused, refused};
use super::run::Run;

/// The parts of a place, one after the other.
pub(super) struct Parts<'a> {
    pub(super) node: &'a mut Node,
    pub(super) run: &'a mut Run,
    pub(super) next: usize,
    pub(super) count: usize,
}

impl Parts<'_> {
    fn fill_next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.next += 1;
        self.node.part(self.next - 1).fill(self.run, seed)
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.next == self.count { Ok(None) } else { self.fill_next(seed).map(Some) }
    }
}

/// The one entry of a map.
impl<'de> de::MapAccess<'de> for Parts<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.fill_next(seed)
    }

    /// As the other two methods, but visits the value of a dead key as well.
    fn next_entry_seed<K: DeserializeSeed<'de>, V: DeserializeSeed<'de>>(
        &mut self,
        key: K,
        value: V,
    ) -> Result<Option<(K::Value, V::Value)>, Refused> {
        let key = self.next_key_seed(key);
        if key.is_err() && self.node.part(0).dead {
            drop(self.next_value_seed(value)?);
            return refused();
        }
        key?.map(|key| Ok((key, self.next_value_seed(value)?))).transpose()
    }
}

/// The fields of a struct by their numbers, without the dead ones.
pub(super) struct Fields<'a>(pub(super) Parts<'a>);

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Parts { node, next, count, .. } = &mut self.0;
        while *next < *count && node.part(*next).dead {
            *next += 1;
        }
        if *next == *count { Ok(None) } else { seed.deserialize(number(*next)).map(Some) }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.0.fill_next(seed)
    }
}

/// The variant that the walk chooses.
impl<'de> de::EnumAccess<'de> for Probe<'_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refused> {
        let Probe { node, run } = self;
        let Some(index) = node.choose(run) else {
            return refused();
        };
        let Ok(tag) = seed.deserialize(number(index)) else {
            // There are no more variants: some of the names are aliases.
            node.parts.truncate(index);
            run.news += 1;
            return refused();
        };
        Ok((tag, Probe { node: &mut node.parts[index], run }))
    }
}

fn number(index: usize) -> U32Deserializer<Refused> {
    (index as u32).into_deserializer()
}

impl Probe<'_> {
    fn variant<R>(
        self,
        kind: Kind,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.node.attempt(self.run, type_name, |probe| {
            probe.node.open(probe.run, kind)?;
            go(probe)
        })
    }
}

/// The content of a variant.
impl<'de> de::VariantAccess<'de> for Probe<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.variant(Kind::Tuple(0), "()", |_| Ok(()))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        let go = |probe: Probe<'_>| probe.node.part(0).fill(probe.run, seed);
        self.variant(Kind::Tuple(1), type_name::<S::Value>(), go)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| visitor.visit_seq(probe.parts(len));
        self.variant(Kind::Tuple(len), type_name::<V::Value>(), go)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| probe.visit_fields(fields.len(), visitor);
        self.variant(Kind::Struct(fields), type_name::<V::Value>(), go)
    }
}
