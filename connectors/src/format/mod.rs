//! How records are written as bytes, and read back: formats, which any connector can use.
//!
//! - [`json`]: one JSON text a record.

pub(crate) mod json;
