//! How records are written as bytes, and read back: formats, which any connector can use.
//!
//! - [`json`]: one JSON text a record.
//! - `avro`: one Avro datum a record, of a schema that both sides know.
//! - `protobuf`: one Protobuf message a record, of a descriptor or of a type that prost has generated.

#[cfg(all(test, any(feature = "avro", feature = "protobuf")))]
mod any_bytes;
#[cfg(feature = "avro")]
pub(crate) mod avro;
pub(crate) mod json;
#[cfg(feature = "protobuf")]
pub(crate) mod protobuf;
