//! A value as a schema has it: what a record of a job becomes before it is written, and what was written by one schema becomes when it
//! is read by another one.
//!
//! The library has the rules for numbers, texts and other values without parts, and they are used. For those with parts it tries a branch
//! of a union by resolving all that is in it, and does so again at every level, so that the time doubles with each; and it has no
//! place for unsigned numbers. Here a branch is chosen by looking at the value alone, and a record by its fields.

use std::collections::HashMap;

use apache_avro::schema::{NamesRef, RecordField, RecordSchema, Schema, UnionSchema};
use apache_avro::types::Value;

use super::explain;

/// What makes values fit.
pub(super) struct Fitting<'a> {
    /// The types that the schema refers to.
    pub(super) names: &'a NamesRef<'a>,
    /// Whether eight bytes are an `u64` of a record, which the library makes of one.
    pub(super) has_unsigned: bool,
}

impl<'a> Fitting<'a> {
    /// The value as the schema has it.
    ///
    /// # Errors
    /// What does not fit, with the fields that lead to it.
    pub(super) fn fit(&self, value: Value, schema: &'a Schema) -> Result<Value, String> {
        let schema = self.followed(schema)?;
        match (self.signed(value, schema)?, schema) {
            (Value::Union(_, value), schema) => self.fit(*value, schema),
            (value, Schema::Union(union)) => {
                let (at, branch) = self.branch(&value, union)?;
                Ok(Value::Union(at, Box::new(self.fit(value, branch)?)))
            }
            (Value::Record(fields), Schema::Record(record)) => {
                self.record(fields.into_iter().collect(), record)
            }
            (Value::Map(fields), Schema::Record(record)) => self.record(fields, record),
            (Value::Array(items), Schema::Array(array)) => {
                let items = items.into_iter().map(|item| self.fit(item, &array.items));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            (Value::Map(entries), Schema::Map(map)) => self.map(entries, &map.types),
            (Value::Record(fields), Schema::Map(map)) => self.map(fields, &map.types),
            (value, schema) => value.resolve_with_names(schema, self.names).map_err(explain),
        }
    }

    fn followed(&self, schema: &'a Schema) -> Result<&'a Schema, String> {
        match schema {
            Schema::Ref { name } => {
                self.names.get(name).copied().ok_or_else(|| format!("the schema does not say what {name} is"))
            }
            schema => Ok(schema),
        }
    }

    /// An unsigned number as a long, unless the schema wants the bytes.
    fn signed(&self, value: Value, schema: &Schema) -> Result<Value, String> {
        let is_fixed = |schema: &Schema| matches!(schema, Schema::Fixed(_) | Schema::Ref { .. });
        let wants_bytes = match schema {
            Schema::Union(union) => union.variants().iter().any(is_fixed),
            schema => is_fixed(schema),
        };
        match &value {
            Value::Fixed(8, bytes) if self.has_unsigned && !wants_bytes => {
                let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
                let long = i64::try_from(number).map_err(|_| format!("{number} is too large for a long"))?;
                Ok(Value::Long(long))
            }
            _ => Ok(value),
        }
    }

    fn map(
        &self,
        entries: impl IntoIterator<Item = (String, Value)>,
        schema: &'a Schema,
    ) -> Result<Value, String> {
        let entries = entries.into_iter().map(|(key, value)| Ok((key, self.fit(value, schema)?)));
        entries.collect::<Result<_, String>>().map(Value::Map)
    }

    fn record(&self, mut given: HashMap<String, Value>, record: &'a RecordSchema) -> Result<Value, String> {
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let name = names_of(field).find(|name| given.contains_key(*name));
            let value = match (name.and_then(|name| given.remove(name)), &field.default) {
                (Some(value), _) => value,
                (None, Some(default)) => Value::try_from(default.clone()).map_err(explain)?,
                (None, None) => {
                    return Err(format!("the field {} is missing, and has no default", field.name));
                }
            };
            let value = self.fit(value, &field.schema);
            fields
                .push((field.name.clone(), value.map_err(|error| format!("field {}: {error}", field.name))?));
        }
        Ok(Value::Record(fields))
    }

    /// The branch of a union that a value is of: one of its own kind, or else the first that it can be made to.
    fn branch(&self, value: &Value, union: &'a UnionSchema) -> Result<(u32, &'a Schema), String> {
        let variants = || (0..).zip(union.variants());
        for (at, variant) in variants() {
            if is_of(value, self.followed(variant)?) {
                return Ok((at, variant));
            }
        }
        for (at, variant) in variants() {
            let schema = self.followed(variant)?;
            let is_made = match schema {
                Schema::Array(_) | Schema::Map(_) | Schema::Record(_) => false,
                schema => value.clone().resolve_with_names(schema, self.names).is_ok(),
            };
            if is_made {
                return Ok((at, variant));
            }
        }
        Err(explain_value("no branch of the union fits", value))
    }
}

/// Whether a value is of the kind of a schema, without a conversion.
fn is_of(value: &Value, schema: &Schema) -> bool {
    match (value, schema) {
        (Value::Record(fields), Schema::Record(record)) => {
            has_fields(record, |name| fields.iter().any(|(given, _)| given == name))
        }
        (Value::Map(fields), Schema::Record(record)) => has_fields(record, |name| fields.contains_key(name)),
        (Value::String(symbol) | Value::Enum(_, symbol), Schema::Enum(symbols)) => {
            symbols.symbols.contains(symbol)
        }
        (Value::Fixed(size, _), Schema::Fixed(fixed)) => *size == fixed.size,
        (Value::Null, Schema::Null)
        | (Value::Boolean(_), Schema::Boolean)
        | (Value::Int(_), Schema::Int)
        | (Value::Long(_), Schema::Long)
        | (Value::Float(_), Schema::Float)
        | (Value::Double(_), Schema::Double)
        | (Value::Bytes(_), Schema::Bytes)
        | (Value::String(_), Schema::String)
        | (Value::Array(_), Schema::Array(_))
        | (Value::Map(_), Schema::Map(_)) => true,
        _ => false,
    }
}

/// Whether all fields are there that have no default.
fn has_fields(record: &RecordSchema, has: impl Fn(&str) -> bool) -> bool {
    record.fields.iter().all(|field| field.default.is_some() || names_of(field).any(&has))
}

fn names_of(field: &RecordField) -> impl Iterator<Item = &str> {
    std::iter::once(field.name.as_str()).chain(field.aliases.iter().map(String::as_str))
}

fn explain_value(what: &str, value: &Value) -> String {
    let mut shown = format!("{what}: {value:?}");
    shown.truncate(shown.floor_char_boundary(200));
    shown
}
