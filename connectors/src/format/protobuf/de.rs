//! A message as serde sees it: a struct of its fields.
//!
//! Fields that are not set and whose presence is known (`optional`, messages, those of a `oneof`) are left out; others have their
//! default value. An enum is the name of its value, or its number if the schema has no name for it.

use std::borrow::Cow;
use std::collections::hash_map;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value,
};
use serde::de::value::{Error, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A message.
pub(super) struct MessageDeserializer<'a>(pub(super) &'a DynamicMessage);

impl<'de> Deserializer<'de> for MessageDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let descriptor = self.0.descriptor();
        let is_there = |field: &FieldDescriptor| !field.supports_presence() || self.0.has_field(field);
        let fields: Vec<_> = descriptor.fields().filter(is_there).collect();
        visitor.visit_map(Fields { message: self.0, fields: fields.into_iter(), value: None })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct map struct
        enum identifier ignored_any
    }
}

struct Fields<'a> {
    message: &'a DynamicMessage,
    fields: std::vec::IntoIter<FieldDescriptor>,
    value: Option<FieldDescriptor>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        let key = seed.deserialize(field.name().into_deserializer());
        self.value = Some(field);
        key.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let field = self.value.take().ok_or_else(|| serde::de::Error::custom("a value before its key"))?;
        let value: Cow<'_, Value> = self.message.get_field(&field);
        let in_field = |error: Error| serde::de::Error::custom(format!("field {}: {error}", field.name()));
        seed.deserialize(ValueDeserializer { value: &value, kind: &field.kind() }).map_err(in_field)
    }
}

/// A value of a field; of a list, a map or a message also what is in it.
struct ValueDeserializer<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl<'de> Deserializer<'de> for ValueDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::I32(value) => visitor.visit_i32(*value),
            Value::I64(value) => visitor.visit_i64(*value),
            Value::U32(value) => visitor.visit_u32(*value),
            Value::U64(value) => visitor.visit_u64(*value),
            Value::F32(value) => visitor.visit_f32(*value),
            Value::F64(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Bytes(value) => visitor.visit_bytes(value),
            Value::EnumNumber(number) => match name_of(self.kind, *number) {
                Some(name) => visitor.visit_str(name),
                None => visitor.visit_i32(*number),
            },
            Value::Message(message) => MessageDeserializer(message).deserialize_any(visitor),
            Value::List(values) => visitor.visit_seq(Items { values: values.iter(), kind: self.kind }),
            Value::Map(entries) => {
                // The kind of a map is the message that its entries are.
                let kind =
                    self.kind.as_message().map_or(self.kind.clone(), |e| e.map_entry_value_field().kind());
                visitor.visit_map(Entries { entries: entries.iter(), value: None, kind })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes can be read as a list of numbers, which a `Vec<u8>` is for serde.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::<_, Error>::new(bytes.iter().copied())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::EnumNumber(number) => match name_of(self.kind, *number) {
                Some(name) => visitor.visit_enum(name.into_deserializer()),
                None => Err(serde::de::Error::custom(format!("{number} is no value of the enum"))),
            },
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Message(message) => MessageDeserializer(message).deserialize_enum(name, variants, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Message(message) => MessageDeserializer(message).deserialize_unit(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf tuple tuple_struct map struct
        unit_struct identifier ignored_any
    }
}

fn name_of(kind: &Kind, number: i32) -> Option<&str> {
    let values: &EnumDescriptor = kind.as_enum()?;
    // The descriptor hands out values that own what they refer to, so the name is looked for among the borrowed definitions.
    let definition = values.enum_descriptor_proto();
    definition.value.iter().find(|value| value.number() == number).map(|value| value.name())
}

struct Items<'a> {
    values: std::slice::Iter<'a, Value>,
    kind: &'a Kind,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.values.next() else { return Ok(None) };
        seed.deserialize(ValueDeserializer { value, kind: self.kind }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

struct Entries<'a> {
    entries: hash_map::Iter<'a, MapKey, Value>,
    value: Option<&'a Value>,
    kind: Kind,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let key = match key {
            MapKey::Bool(key) => seed.deserialize((*key).into_deserializer()),
            MapKey::I32(key) => seed.deserialize((*key).into_deserializer()),
            MapKey::I64(key) => seed.deserialize((*key).into_deserializer()),
            MapKey::U32(key) => seed.deserialize((*key).into_deserializer()),
            MapKey::U64(key) => seed.deserialize((*key).into_deserializer()),
            MapKey::String(key) => seed.deserialize(key.as_str().into_deserializer()),
        };
        key.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| serde::de::Error::custom("a value before its key"))?;
        seed.deserialize(ValueDeserializer { value, kind: &self.kind })
    }
}
