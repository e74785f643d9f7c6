//! Topics of Apache Kafka.
//!
//! A partition is a partition of a topic, a position is the offset of the next message, and a record is a message. The client is
//! librdkafka; all of its settings can be given, as [`KafkaSetting`]s.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use tidegate_connectors::{Kafka, KafkaSetting};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Reading {
//!     device: String,
//!     celsius: f64,
//! }
//!
//! # fn build(job: &mut tidegate::Job) -> tidegate::Result<()> {
//! let kafka = Kafka::new([KafkaSetting::new("bootstrap.servers", "localhost:9092")?]);
//! job.source("readings", kafka.topic("sensor-data").json::<Reading>())
//!     .dead_letters(kafka.sink("sensor-dead"))
//!     .filter(|reading| reading.celsius > 90.0)
//!     .sink("hot", kafka.sink("alerts").json_by_key(|reading: &Reading| &reading.device));
//! # Ok(())
//! # }
//! ```
//!
//! # Writing
//!
//! A worker writes the messages of an epoch to a staged file, which becomes part of the snapshot. When the snapshot is complete,
//! the slot's publisher sends them in a short transaction, and commits a *marker* with them: an offset of a consumer group that is
//! called like the transactional id, with the epoch, and the number and checksum of what was staged. Whatever fails, the next try begins
//! with a new producer, which fences the old one and has its transaction aborted, and then asks for the marker: the output is there as a
//! whole, or is sent again. So it does not matter whether a commit that was not answered went through, nor how long the brokers, the job
//! or both were away.
//!
//! Not here: who calls this when (the engine).

mod admin;
#[cfg(feature = "avro")]
mod avro;
mod client;
mod committer;
mod consumer;
mod delivery;
mod direct;
mod format;
mod location;
mod marker;
mod message;
mod names;
mod outgoing;
mod output;
mod producer;
#[cfg(feature = "protobuf")]
mod protobuf;
mod publisher;
mod reach;
mod reader;
mod record_format;
#[cfg(feature = "schema-registry")]
mod schema_registry;
mod settings;
mod sink;
mod source;
mod start;
mod topics;
mod transactions;
#[cfg(feature = "schema-registry")]
mod wire_format;
mod writer;

#[cfg(feature = "avro")]
pub use avro::{Avro, AvroValue};

pub use delivery::DeliveryGuarantee;
pub use format::{Bytes, Json, MessageFormat, ReadError, Utf8, With};
pub use location::Location;
pub use message::Message;
pub use outgoing::OutgoingMessage;
#[cfg(feature = "protobuf")]
pub use protobuf::{DynamicProtobuf, Prost, ProstValue, Protobuf, ProtobufValue};
pub use record_format::{JsonValue, Keyed, RecordFormat, WrittenBy};
#[cfg(feature = "schema-registry")]
pub use schema_registry::{Registered, SchemaRegistry, SinkSchema, SourceSchema};
pub use settings::KafkaSetting;
pub use sink::{KafkaSink, TopicSink, WhenUnknown};
pub use source::{KafkaSource, TopicSource};
pub use start::{Reset, Start};
pub use transactions::{BlockedPartition, PublishedOutput};

use settings::Settings;
use topics::Topics;

/// A cluster of brokers, with how to reach it: where a job reads topics from or writes them to.
#[derive(Clone, Debug)]
pub struct Kafka {
    settings: Settings,
    guarantee: DeliveryGuarantee,
}

impl Kafka {
    /// A cluster that is reached with these settings, `bootstrap.servers` among them. Of two with one key the last one counts.
    pub fn new(settings: impl IntoIterator<Item = KafkaSetting>) -> Self {
        Self { settings: settings.into_iter().collect(), guarantee: DeliveryGuarantee::default() }
    }

    /// What its sinks guarantee, unless they say otherwise; [`DeliveryGuarantee::ExactlyOnce`] if nothing is said.
    #[must_use]
    pub fn delivery(mut self, guarantee: DeliveryGuarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    /// Reads a topic, from the first message that is there to where it ends at the start.
    pub fn topic(&self, topic: &str) -> TopicSource {
        self.topics([topic])
    }

    /// Reads several topics, whose messages are of one format, in the same way. All of them have to be there.
    pub fn topics<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> TopicSource {
        TopicSource::new(self.settings.clone(), Topics::named(topics))
    }

    /// Reads all topics whose whole name fits a [regular expression](https://docs.rs/regex), also those that are made later, which are
    /// found within seconds. One that is deleted has ended. Topics of Kafka itself (`__consumer_offsets`) are left out.
    pub fn topic_pattern(&self, pattern: &str) -> TopicSource {
        TopicSource::new(self.settings.clone(), Topics::Pattern(pattern.to_owned()))
    }

    /// Writes to a topic.
    ///
    /// The returned sink takes dead letters; [`TopicSink::json`] makes it a sink of records of any type.
    pub fn sink(&self, topic: &str) -> TopicSink {
        TopicSink::new(self.settings.clone(), topic, self.guarantee)
    }
}
