//! Messages whose values are Avro.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

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
use crate::format::avro::{AvroSchema, Decoder, Encoder};

impl AvroSchema {
    /// With a registry: a sink registers the schema there, a source reads messages of any registered schema as this one has them.
    pub fn registered(self, registry: &SchemaRegistry) -> Registered<Self> {
        Registered::new(self, registry)
    }
}

impl From<AvroSchema> for SourceSchema<AvroSchema> {
    fn from(schema: AvroSchema) -> Self {
        Self(By::Given(schema))
    }
}

impl From<AvroSchema> for SinkSchema<AvroSchema> {
    fn from(schema: AvroSchema) -> Self {
        Self::plain(schema)
    }
}

impl TopicSource {
    /// Reads every value as the Avro of a `T`.
    ///
    /// The schema is given as
    /// - an [`AvroSchema`]: that of all values, which have nothing in front of them;
    /// - a [`&SchemaRegistry`](SchemaRegistry): values have the id of their schema in front;
    /// - an [`AvroSchema::registered`]: the same, and they are read as this schema has them, by Avro's rules of resolution.
    ///
    /// ```no_run
    /// use tidegate_connectors::{AvroSchema, Kafka};
    /// # use tidegate_connectors::kafka::SchemaRegistry;
    /// # #[derive(serde::Deserialize)]
    /// # struct Reading {}
    /// # fn build(kafka: Kafka, registry: SchemaRegistry) -> tidegate::Result<()> {
    /// let one_schema = kafka.topic("readings").avro::<Reading>(AvroSchema::load("reading.avsc")?);
    /// let any_schema = kafka.topic("readings").avro::<Reading>(&registry);
    /// let resolved = kafka.topic("readings").avro::<Reading>(AvroSchema::load("reading.avsc")?.registered(&registry));
    /// # let _ = (one_schema, any_schema, resolved);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn avro<T: DeserializeOwned + 'static>(
        self,
        schema: impl Into<SourceSchema<AvroSchema>>,
    ) -> KafkaSource<Avro<T>> {
        KafkaSource::new(self, Avro::new(schema.into()))
    }
}

impl TopicSink {
    /// Writes every record as Avro, without a key.
    ///
    /// The schema is given as an [`AvroSchema`], or as an [`AvroSchema::registered`]; that is registered when the job starts, under the
    /// subject `TOPIC-value`, and values have its id in front.
    #[must_use]
    pub fn avro(self, schema: impl Into<SinkSchema<AvroSchema>>) -> KafkaSink<AvroValue> {
        KafkaSink { topic: self, format: AvroValue::new(schema.into()) }
    }

    /// The same, with a key that is a part of the record.
    #[must_use]
    pub fn avro_by_key<T, B, K>(
        self,
        schema: impl Into<SinkSchema<AvroSchema>>,
        key: K,
    ) -> KafkaSink<Keyed<K, AvroValue>>
    where
        B: AsRef<[u8]> + ?Sized,
        K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    {
        KafkaSink { topic: self, format: Keyed { key, format: AvroValue::new(schema.into()) } }
    }
}

/// Values that are each the Avro of a `T`.
pub struct Avro<T> {
    schema: SourceSchema<AvroSchema>,
    /// What reads values of the one schema, or of those of which messages have come.
    decoders: HashMap<Option<u32>, Result<Arc<Decoder>, String>>,
    item: PhantomData<fn() -> T>,
}

impl<T> Avro<T> {
    fn new(schema: SourceSchema<AvroSchema>) -> Self {
        Self { schema, decoders: HashMap::new(), item: PhantomData }
    }
}

impl<T> Clone for Avro<T> {
    fn clone(&self) -> Self {
        Self { schema: self.schema.clone(), decoders: self.decoders.clone(), item: PhantomData }
    }
}

impl<T> std::fmt::Debug for Avro<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Avro").field(&self.schema).finish()
    }
}

impl<T: DeserializeOwned + 'static> Avro<T> {
    fn read_value(&mut self, value: &[u8]) -> Result<T, ReadError> {
        let (id, datum) = match &self.schema.0 {
            By::Given(_) => (None, value),
            By::Ids(..) => {
                let (id, datum) = wire_format::split(value)?;
                (Some(id), datum)
            }
        };
        if !self.decoders.contains_key(&id) {
            let decoder = match (&self.schema.0, id) {
                (By::Given(schema), _) => Decoder::new(*schema, None),
                (By::Ids(registry, reader), id) => {
                    let id = id.unwrap_or_default();
                    let writer = registry.schemas().schema(id)?;
                    decoder(&writer, *reader)
                        .map_err(|why| format!("the schema with the id {id} cannot be used: {why}"))
                }
            };
            self.decoders.insert(id, decoder.map(Arc::new));
        }
        match self.decoders.get(&id) {
            Some(Ok(decoder)) => match (decoder.read(datum), id) {
                (Err(what), Some(id)) => Err(format!("{what} (its schema has the id {id})").into()),
                (read, _) => Ok(read?),
            },
            Some(Err(why)) => Err(why.clone().into()),
            None => Err(ReadError::NotYet),
        }
    }
}

fn decoder(writer: &RegisteredSchema, reader: Option<AvroSchema>) -> Result<Decoder, String> {
    let writer = writer.of_type(SchemaType::Avro)?;
    let references: Vec<&str> = writer.references.iter().map(|(_, text)| text.as_str()).collect();
    Decoder::new(AvroSchema::with_references(&writer.text, &references)?, reader)
}

impl<T: DeserializeOwned + 'static> MessageFormat for Avro<T> {
    type Item = T;

    fn check(&self) -> JobResult<()> {
        self.schema.check()
    }

    fn read(&mut self, message: &Message<'_>) -> Result<T, ReadError> {
        self.read_value(value(message)?)
    }
}

/// The record as Avro.
#[derive(Clone)]
pub struct AvroValue {
    schema: SinkSchema<AvroSchema>,
    opened: Option<Arc<Opened>>,
}

struct Opened {
    head: Vec<u8>,
    encoder: Encoder,
}

impl AvroValue {
    fn new(schema: SinkSchema<AvroSchema>) -> Self {
        Self { schema, opened: None }
    }
}

impl std::fmt::Debug for AvroValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AvroValue").field(&self.schema).finish()
    }
}

impl<T: Serialize> RecordFormat<T> for AvroValue {
    fn check(&self) -> JobResult<()> {
        self.schema.check()
    }

    fn open(&mut self, topic: &str) -> JobResult<()> {
        let head = match &self.schema.registered {
            Some(registered) => {
                wire_format::head(registered.id(topic, SchemaType::Avro, self.schema.schema.text())?)
            }
            None => Vec::new(),
        };
        let encoder = Encoder::new(self.schema.schema).map_err(Error::job)?;
        self.opened = Some(Arc::new(Opened { head, encoder }));
        Ok(())
    }

    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        let opened = self.opened.as_ref().ok_or("the format was not opened")?;
        let value = message.value();
        value.extend_from_slice(&opened.head);
        opened.encoder.write(record, value)
    }
}

#[cfg(test)]
mod tests;
