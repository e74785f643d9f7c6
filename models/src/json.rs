//! Reads JSON as xgboost writes it, into [`Value`].
//!
//! That is JSON with one extension: `NaN` and `Infinity` may stand where a number stands (the threshold of a
//! categorical split, for one). They become texts, which `value` reads as numbers.
//!
//! A number goes from text to f64 to f32, which rounds twice. Of all f32 as xgboost writes them (all 2^31 were
//! tried) that changes one, 7.038531e-26, by one ulp. UBJSON has no such detour.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{error::Fault, value::Value};

/// Reads a whole file. Its depth is bounded by serde_json (128 levels), its memory by the file's length.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, Fault> {
    let quoted = quote_non_finite(bytes);
    serde_json::from_slice(&quoted).map_err(|error| Fault::corrupt(format!("not JSON: {error}")))
}

/// Puts quotes around every `NaN`, `Infinity` and `-Infinity` that is not inside a text.
fn quote_non_finite(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    if !WORDS[..2].iter().any(|word| bytes.windows(word.len()).any(|window| window == *word)) {
        return Cow::Borrowed(bytes);
    }
    let mut quoted = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    let mut in_text = false;
    while let Some(&byte) = rest.first() {
        let word = WORDS.iter().find(|word| !in_text && rest.starts_with(word));
        let taken = match (word, byte) {
            (Some(word), _) => word.len(),
            (None, b'\\') => rest.len().min(2),
            (None, _) => 1,
        };
        in_text ^= byte == b'"';
        let quote: &[u8] = if word.is_some() { b"\"" } else { b"" };
        quoted.extend_from_slice(quote);
        quoted.extend_from_slice(&rest[..taken]);
        quoted.extend_from_slice(quote);
        rest = &rest[taken..];
    }
    Cow::Owned(quoted)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_are_quoted_and_texts_are_left_alone() {
        let text = br#"{"NaN \" NaN":[NaN,-Infinity,1,Infinity,"\\"],"x":-1}"#;
        let quoted = br#"{"NaN \" NaN":["NaN","-Infinity",1,"Infinity","\\"],"x":-1}"#;
        assert_eq!(quote_non_finite(text).as_ref(), quoted.as_slice());
        assert!(read(text).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let Err(Fault::Corrupt(what)) = read("[".repeat(1_000_000).as_bytes()) else {
            panic!("must be refused")
        };
        assert!(what.contains("recursion limit"), "{what}");
    }
}
