//! Messages whose values are Protobuf.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use prost_reflect::DynamicMessage;
use prost_reflect::prost;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, Result as JobResult};

use super::format::{MessageFormat, ReadError, value};
use super::message::Message;
use super::outgoing::OutgoingMessage;
use super::record_format::{Keyed, RecordFormat};
use super::schema_registry::{
    By, Registered, RegisteredSchema, SchemaRegistry, SchemaType, SinkSchema, SourceSchema,
};
use super::wire_format;
use super::{KafkaSink, KafkaSource, TopicSink, TopicSource};
use crate::format::protobuf::{ProtobufFile, ProtobufSchema};

impl ProtobufSchema {
    /// With a registry: a sink registers the .proto file there, a source reads messages of this type whose schemas are registered.
    ///
    /// A sink needs a schema that was made by [`ProtobufSchema::parse`]: a registry keeps the text.
    pub fn registered(self, registry: &SchemaRegistry) -> Registered<Self> {
        Registered::new(self, registry)
    }
}

impl From<ProtobufSchema> for SourceSchema<ProtobufSchema> {
    fn from(schema: ProtobufSchema) -> Self {
        Self(By::Given(schema))
    }
}

impl From<ProtobufSchema> for SinkSchema<ProtobufSchema> {
    fn from(schema: ProtobufSchema) -> Self {
        Self::plain(schema)
    }
}

impl TopicSource {
    /// Reads every value as a message of Protobuf, into a `T`, whose fields are called as in the .proto file.
    ///
    /// The schema is given as
    /// - a [`ProtobufSchema`]: all values are messages of this type, with nothing in front of them;
    /// - a [`&SchemaRegistry`](SchemaRegistry): values have the id of their schema in front, and which message of it they are;
    /// - a [`ProtobufSchema::registered`]: the same, and they are read by this schema. A message of another type is malformed.
    ///
    /// ```no_run
    /// use tidegate_connectors::{Kafka, ProtobufSchema};
    /// # use tidegate_connectors::kafka::SchemaRegistry;
    /// # #[derive(serde::Deserialize)]
    /// # struct Reading {}
    /// # fn build(kafka: Kafka, registry: SchemaRegistry) -> tidegate::Result<()> {
    /// let one_type = ProtobufSchema::load("plant.descriptors", "plant.Reading")?;
    /// let readings = kafka.topic("readings").protobuf::<Reading>(one_type);
    /// let registered = kafka.topic("readings").protobuf::<Reading>(&registry);
    /// # let _ = (readings, registered);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn protobuf<T: DeserializeOwned + 'static>(
        self,
        schema: impl Into<SourceSchema<ProtobufSchema>>,
    ) -> KafkaSource<Protobuf<T>> {
        KafkaSource::new(self, Protobuf(Messages::new(schema.into()), PhantomData))
    }

    /// The same, but the messages as they are, with their descriptors.
    #[must_use]
    pub fn dynamic_protobuf(
        self,
        schema: impl Into<SourceSchema<ProtobufSchema>>,
    ) -> KafkaSource<DynamicProtobuf> {
        KafkaSource::new(self, DynamicProtobuf(Messages::new(schema.into())))
    }

    /// Reads every value as a message of a type that prost (0.14) has generated. There is nothing in front of a value.
    #[must_use]
    pub fn prost<T: prost::Message + Default + 'static>(self) -> KafkaSource<Prost<T>> {
        KafkaSource::new(self, Prost(PhantomData))
    }
}

impl TopicSink {
    /// Writes every record as a message of Protobuf, without a key.
    ///
    /// The schema is given as a [`ProtobufSchema`], or as a [`ProtobufSchema::registered`]; that is registered when the job starts, under
    /// the subject `TOPIC-value`, and values have its id in front.
    #[must_use]
    pub fn protobuf(self, schema: impl Into<SinkSchema<ProtobufSchema>>) -> KafkaSink<ProtobufValue> {
        KafkaSink { topic: self, format: ProtobufValue::new(schema.into()) }
    }

    /// The same, with a key that is a part of the record.
    #[must_use]
    pub fn protobuf_by_key<T, B, K>(
        self,
        schema: impl Into<SinkSchema<ProtobufSchema>>,
        key: K,
    ) -> KafkaSink<Keyed<K, ProtobufValue>>
    where
        B: AsRef<[u8]> + ?Sized,
        K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    {
        KafkaSink { topic: self, format: Keyed { key, format: ProtobufValue::new(schema.into()) } }
    }

    /// Writes every record, which is of a type that prost (0.14) has generated, without a key.
    #[must_use]
    pub fn prost(self) -> KafkaSink<ProstValue> {
        KafkaSink { topic: self, format: ProstValue }
    }

    /// The same, with a key that is a part of the record.
    #[must_use]
    pub fn prost_by_key<T, B, K>(self, key: K) -> KafkaSink<Keyed<K, ProstValue>>
    where
        B: AsRef<[u8]> + ?Sized,
        K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    {
        KafkaSink { topic: self, format: Keyed { key, format: ProstValue } }
    }
}

/// Values that are each a message of Protobuf, as a `T`.
pub struct Protobuf<T>(Messages, PhantomData<fn() -> T>);

impl<T> Clone for Protobuf<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T> std::fmt::Debug for Protobuf<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Protobuf").field(&self.0.schema).finish()
    }
}

impl<T: DeserializeOwned + 'static> MessageFormat for Protobuf<T> {
    type Item = T;

    fn check(&self) -> JobResult<()> {
        self.0.schema.check()
    }

    fn read(&mut self, message: &Message<'_>) -> Result<T, ReadError> {
        self.0.read(value(message)?, ProtobufSchema::read)
    }
}

/// Values that are each a message of Protobuf, as a [`DynamicMessage`].
#[derive(Clone, Debug)]
pub struct DynamicProtobuf(Messages);

impl MessageFormat for DynamicProtobuf {
    type Item = DynamicMessage;

    fn check(&self) -> JobResult<()> {
        self.0.schema.check()
    }

    fn read(&mut self, message: &Message<'_>) -> Result<DynamicMessage, ReadError> {
        self.0.read(value(message)?, ProtobufSchema::message)
    }
}

/// What says of which type a message is.
#[derive(Clone, Debug)]
struct Messages {
    schema: SourceSchema<ProtobufSchema>,
    files: HashMap<u32, Result<Arc<ProtobufFile>, String>>,
    /// The types that messages were of.
    types: HashMap<(u32, Vec<usize>), ProtobufSchema>,
}

impl Messages {
    fn new(schema: SourceSchema<ProtobufSchema>) -> Self {
        Self { schema, files: HashMap::new(), types: HashMap::new() }
    }

    fn read<T>(
        &mut self,
        value: &[u8],
        read: impl FnOnce(&ProtobufSchema, &[u8]) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let (registry, reader) = match &self.schema.0 {
            By::Given(schema) => return Ok(read(schema, value)?),
            By::Ids(registry, reader) => (registry, reader.as_ref()),
        };
        let (id, rest) = wire_format::split(value)?;
        let (indexes, bytes) = wire_format::split_indexes(rest)?;
        let of_schema = |what: String| ReadError::Malformed(format!("{what} (its schema has the id {id})"));
        let key = (id, indexes);
        if let Some(found) = self.types.get(&key) {
            return read(found, bytes).map_err(of_schema);
        }
        let file = match self.files.get(&id) {
            Some(file) => file,
            None => {
                let schema = registry.schemas().schema(id)?;
                self.files.entry(id).or_insert(compiled(&schema).map(Arc::new))
            }
        };
        let found = match file {
            Ok(file) => type_of(file, &key.1, reader),
            Err(why) => Err(format!("the schema cannot be used: {why}")),
        };
        let found = found.map_err(of_schema)?;
        read(self.types.entry(key).or_insert(found), bytes).map_err(of_schema)
    }
}

fn compiled(schema: &RegisteredSchema) -> Result<ProtobufFile, String> {
    let schema = schema.of_type(SchemaType::Protobuf)?;
    let others: Vec<_> =
        schema.references.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    ProtobufFile::compile(&schema.text, &others)
}

/// The type of the message at these indexes, which is read by the reader's schema if there is one.
fn type_of(
    file: &ProtobufFile,
    indexes: &[usize],
    reader: Option<&ProtobufSchema>,
) -> Result<ProtobufSchema, String> {
    let found =
        file.at(indexes).ok_or_else(|| format!("there is no message {indexes:?} in the .proto file"))?;
    match reader {
        Some(reader) if reader.name() != found.name() => {
            Err(format!("it is a message {}, and the job reads {}", found.name(), reader.name()))
        }
        Some(reader) => Ok(reader.clone()),
        None => Ok(found),
    }
}

/// Values that are each a message of a type that prost has generated.
pub struct Prost<T>(PhantomData<fn() -> T>);

impl<T> Clone for Prost<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T> std::fmt::Debug for Prost<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prost")
    }
}

impl<T: prost::Message + Default + 'static> MessageFormat for Prost<T> {
    type Item = T;

    fn read(&mut self, message: &Message<'_>) -> Result<T, ReadError> {
        let decoded = T::decode(value(message)?);
        Ok(decoded.map_err(|error| {
            format!("it is not a message of the type {}: {error}", std::any::type_name::<T>())
        })?)
    }
}

/// The record as a message of Protobuf.
#[derive(Clone, Debug)]
pub struct ProtobufValue {
    schema: SinkSchema<ProtobufSchema>,
    /// What stands in front of a value.
    head: Vec<u8>,
}

impl ProtobufValue {
    fn new(schema: SinkSchema<ProtobufSchema>) -> Self {
        Self { schema, head: Vec::new() }
    }

    /// The registry keeps the .proto file.
    fn text(&self) -> JobResult<&str> {
        self.schema.schema.text().ok_or_else(|| {
            Error::job(format!(
                "the schema of {} was made from descriptors, and a schema registry wants the text of the .proto file: make it by \
                 ProtobufSchema::parse",
                self.schema.schema.name()
            ))
        })
    }
}

impl<T: Serialize> RecordFormat<T> for ProtobufValue {
    fn check(&self) -> JobResult<()> {
        if self.schema.registered.is_some() {
            self.text()?;
        }
        self.schema.check()
    }

    fn open(&mut self, topic: &str) -> JobResult<()> {
        if let Some(registered) = &self.schema.registered {
            let mut head = wire_format::head(registered.id(topic, SchemaType::Protobuf, self.text()?)?);
            wire_format::write_indexes(&self.schema.schema.indexes(), &mut head);
            self.head = head;
        }
        Ok(())
    }

    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        let value = message.value();
        value.extend_from_slice(&self.head);
        self.schema.schema.write(record, value)
    }
}

/// The record as the message of Protobuf that it is.
#[derive(Clone, Copy, Debug)]
pub struct ProstValue;

impl<T: prost::Message> RecordFormat<T> for ProstValue {
    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        record.encode(message.value()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
