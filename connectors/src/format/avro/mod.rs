//! Avro: a record is one datum, without a header; its schema is known from elsewhere.
//!
//! Decoding and encoding go through the library's `Value`: its direct path from bytes to a type demands that names and widths are
//! equal. Before it is decoded, a datum is checked ([`datum`]), and values are fitted into schemas here ([`fit`]).

mod datum;
mod fit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{ResolvedSchema, Schema};
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, ErrorContext, Result as JobResult};

use datum::check;
use fit::Fitting;

/// How many bytes of the library's messages are kept: they show whole values and schemas.
const MESSAGE: usize = 400;

/// A schema of Avro.
#[derive(Clone, Copy)]
pub struct AvroSchema(&'static Parsed);

/// A schema that stays for as long as the process: what refers to parts of it needs no lifetime, and there are few.
struct Parsed {
    text: String,
    schema: &'static Schema,
    names: ResolvedSchema<'static>,
}

impl AvroSchema {
    /// A schema as JSON, which refers to no type of another schema.
    ///
    /// ```
    /// use tidegate_connectors::AvroSchema;
    ///
    /// let schema = AvroSchema::parse(
    ///     r#"{"type": "record", "name": "Reading", "fields": [
    ///         {"name": "device", "type": "string"},
    ///         {"name": "celsius", "type": ["null", "double"], "default": null}
    ///     ]}"#,
    /// )?;
    /// # let _ = schema;
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// If it is not a schema.
    pub fn parse(text: &str) -> JobResult<Self> {
        Self::with_references(text, &[]).map_err(Error::job)
    }

    /// A schema from a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not a schema.
    pub fn load(path: impl AsRef<Path>) -> JobResult<Self> {
        let path = path.as_ref();
        let of_file = || format!("the Avro schema in {}", path.display());
        let text = std::fs::read_to_string(path).context(of_file)?;
        Self::parse(&text).map_err(|error| error.context(of_file()))
    }

    /// A schema that refers to types of others, which stand in front of those that refer to them.
    pub(crate) fn with_references(text: &str, others: &[&str]) -> Result<Self, String> {
        static KNOWN: Mutex<BTreeMap<Vec<String>, &'static Parsed>> = Mutex::new(BTreeMap::new());
        let key: Vec<String> = others.iter().chain([&text]).map(|&text| text.to_owned()).collect();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parsed) = known.get(&key) {
            return Ok(Self(parsed));
        }
        let parsed = parse(text, others).map_err(|error| format!("it is not a schema of Avro: {error}"))?;
        let schema: &'static Schema = Box::leak(Box::new(parsed));
        let names = ResolvedSchema::new(schema).map_err(explain)?;
        let parsed = Box::leak(Box::new(Parsed { text: text.to_owned(), schema, names }));
        known.insert(key, parsed);
        Ok(Self(parsed))
    }

    /// The schema as it was given.
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

fn parse(text: &str, others: &[&str]) -> Result<Schema, String> {
    if others.is_empty() {
        return Schema::parse_str(text).map_err(explain);
    }
    let (mut schema, others) = Schema::parse_str_with_list(text, others).map_err(explain)?;
    schema.denormalize(&others).map_err(explain)?;
    Ok(schema)
}

impl std::fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AvroSchema({})", self.0.text)
    }
}

/// Reads what was written with one schema, as it is or as another one has it.
pub(crate) struct Decoder {
    writer: AvroSchema,
    datum: GenericDatumReader<'static>,
    reader: Option<AvroSchema>,
}

impl Decoder {
    /// Reads data of `writer`; if there is a `reader`, as that has them.
    pub(crate) fn new(writer: AvroSchema, reader: Option<AvroSchema>) -> Result<Self, String> {
        let names = writer.0.names.clone();
        let datum = GenericDatumReader::builder(writer.0.schema).resolved_writer_schemata(names).build();
        Ok(Self { writer, datum: datum.map_err(explain)?, reader })
    }

    /// Reads a datum, which is all of the bytes.
    pub(crate) fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, String> {
        check(self.writer.0.schema, self.writer.0.names.get_names(), bytes)?;
        let mut value = self.datum.read_value(&mut &bytes[..]).map_err(explain)?;
        if let Some(AvroSchema(reader)) = self.reader {
            let fitting = Fitting { names: reader.names.get_names(), has_unsigned: false };
            let fitted = fitting.fit(value, reader.schema);
            value = fitted.map_err(|error| format!("it does not fit the schema of the job: {error}"))?;
        }
        apache_avro::from_value(&value).map_err(|error| {
            format!("it does not fit the type {}: {}", std::any::type_name::<T>(), explain(error))
        })
    }
}

/// Writes records with a schema.
pub(crate) struct Encoder {
    schema: AvroSchema,
    writer: GenericDatumWriter<'static>,
}

impl Encoder {
    pub(crate) fn new(schema: AvroSchema) -> Result<Self, String> {
        let names = schema.0.names.clone();
        let writer = GenericDatumWriter::builder(schema.0.schema).resolved_schemata(names).build();
        Ok(Self { schema, writer: writer.map_err(explain)? })
    }

    /// Appends a record as a datum.
    pub(crate) fn write<T: Serialize>(&self, record: &T, out: &mut Vec<u8>) -> Result<(), String> {
        let value = apache_avro::to_value(record).map_err(explain)?;
        let fitting = Fitting { names: self.schema.0.names.get_names(), has_unsigned: true };
        let value = fitting.fit(value, self.schema.0.schema)?;
        self.writer.write_value_ref(out, &value).map(drop).map_err(explain)
    }
}

/// What the library says, cut to a length that a log can bear.
fn explain(error: apache_avro::Error) -> String {
    let mut text = error.to_string();
    if text.len() > MESSAGE {
        text.truncate(text.floor_char_boundary(MESSAGE));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests;
