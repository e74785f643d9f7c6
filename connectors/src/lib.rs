//! Sources and sinks for Tidegate jobs.
//!
//! - [`file_log`]: a directory of files of JSON lines, read with [`FileLog::partitions`] and written with [`FileLog::sink`].
//! - `kafka`: topics of Apache Kafka, read with `Kafka::topic` and written with `Kafka::sink`. It is there with the cargo feature
//!   `kafka`, which needs OpenSSL and zlib. The features `avro` and `protobuf` are for messages of these formats.
//!
//! They are also the examples to follow for a connector of your own: everything here is built on the public traits of
//! [`tidegate_connector_api`].

pub mod file_log;
mod format;
#[cfg(feature = "kafka")]
pub mod kafka;

pub use file_log::FileLog;
#[cfg(feature = "avro")]
pub use format::avro::AvroSchema;
#[cfg(feature = "protobuf")]
pub use format::protobuf::ProtobufSchema;
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaSetting, Location};

/// Runs the source and the sink that the documentation shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/connectors.md")]
mod documentation {}
