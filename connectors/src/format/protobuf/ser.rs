//! A record of any type as a message: what serde shows of it is fitted into the fields of the descriptor.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_value::Value as Given;

/// Makes a message of what is given, which is a struct or a map with a field's name as key. What is absent or `None` is not set.
///
/// # Errors
/// What does not fit, with the field.
pub(super) fn message(given: Given, descriptor: &MessageDescriptor) -> Result<DynamicMessage, String> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let fields = match plain(given) {
        Some(Given::Map(fields)) => fields,
        None | Some(Given::Unit) => return Ok(message),
        Some(other) => return Err(format!("{} is no message {}", shown(&other), descriptor.full_name())),
    };
    for (name, given) in fields {
        let Given::String(name) = name else {
            return Err(format!(
                "{} is no name of a field of the message {}",
                shown(&name),
                descriptor.full_name()
            ));
        };
        let field = descriptor
            .get_field_by_name(&name)
            .ok_or_else(|| format!("the message {} has no field {name}", descriptor.full_name()))?;
        let Some(given) = plain(given) else { continue };
        let value = value_of(given, &field).map_err(|error| format!("field {name}: {error}"))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

fn value_of(given: Given, field: &FieldDescriptor) -> Result<Value, String> {
    match (given, field.kind()) {
        (Given::Map(entries), Kind::Message(entry)) if field.is_map() => {
            let (keys, values) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let mut map = HashMap::with_capacity(entries.len());
            for (key, given) in entries {
                let Some(given) = plain(given) else { return Err("None is no value of a map".to_owned()) };
                map.insert(map_key(key, &keys)?, single(given, &values)?);
            }
            Ok(Value::Map(map))
        }
        (Given::Seq(items), kind) if field.is_list() => {
            let item = |given| match plain(given) {
                Some(given) => single(given, &kind),
                None => Err("None is no item of a list".to_owned()),
            };
            items.into_iter().map(item).collect::<Result<_, _>>().map(Value::List)
        }
        (given, _) if field.is_map() || field.is_list() => {
            Err(format!("{} is no {}", shown(&given), if field.is_map() { "map" } else { "list" }))
        }
        (given, kind) => single(given, &kind),
    }
}

fn single(given: Given, kind: &Kind) -> Result<Value, String> {
    let unfit = |given: &Given| format!("{} does not fit {kind:?}", shown(given));
    let value = match kind {
        Kind::Message(descriptor) => return message(given, descriptor).map(Value::Message),
        Kind::Enum(values) => match &given {
            Given::String(name) => match values.get_value_by_name(name) {
                Some(value) => Some(Value::EnumNumber(value.number())),
                None => return Err(format!("{name} is no value of the enum {}", values.full_name())),
            },
            given => number(given).map(Value::EnumNumber),
        },
        Kind::Double => float(&given).map(Value::F64),
        Kind::Float => float(&given).and_then(narrowed).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(&given).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(&given).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => number(&given).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => number(&given).map(Value::U64),
        Kind::Bool => match given {
            Given::Bool(value) => Some(Value::Bool(value)),
            _ => None,
        },
        Kind::String => match &given {
            Given::String(text) => Some(Value::String(text.clone())),
            Given::Char(letter) => Some(Value::String(letter.to_string())),
            _ => None,
        },
        Kind::Bytes => match &given {
            Given::Bytes(bytes) => Some(Value::Bytes(bytes.clone().into())),
            Given::Seq(numbers) => {
                let bytes: Option<Vec<u8>> = numbers.iter().map(number).collect();
                bytes.map(|bytes| Value::Bytes(bytes.into()))
            }
            _ => None,
        },
    };
    value.ok_or_else(|| unfit(&given))
}

fn map_key(given: Given, kind: &Kind) -> Result<MapKey, String> {
    let key = match (plain(given), kind) {
        (Some(given), kind) => single(given, kind)?.into_map_key(),
        (None, _) => None,
    };
    key.ok_or_else(|| format!("a key of a map does not fit {kind:?}"))
}

/// A whole number, in any width that it fits into.
fn number<T: TryFrom<i128>>(given: &Given) -> Option<T> {
    let number = match *given {
        Given::I8(number) => i128::from(number),
        Given::I16(number) => i128::from(number),
        Given::I32(number) => i128::from(number),
        Given::I64(number) => i128::from(number),
        Given::U8(number) => i128::from(number),
        Given::U16(number) => i128::from(number),
        Given::U32(number) => i128::from(number),
        Given::U64(number) => i128::from(number),
        _ => return None,
    };
    T::try_from(number).ok()
}

fn float(given: &Given) -> Option<f64> {
    match *given {
        Given::F32(number) => Some(f64::from(number)),
        Given::F64(number) => Some(number),
        ref other => number::<i64>(other).map(|number| number as f64),
    }
}

/// The same as a `float`, rounded; None if it is too large for one.
fn narrowed(number: f64) -> Option<f32> {
    let narrow = number as f32;
    (narrow.is_finite() || !number.is_finite()).then_some(narrow)
}

/// Without what serde wraps around a value; None if there is none.
fn plain(given: Given) -> Option<Given> {
    match given {
        Given::Option(None) => None,
        Given::Option(Some(given)) | Given::Newtype(given) => plain(*given),
        other => Some(other),
    }
}

fn shown(given: &Given) -> String {
    let mut text = format!("{given:?}");
    text.truncate(text.floor_char_boundary(80));
    text
}
