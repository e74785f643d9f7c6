//! Reads UBJSON as xgboost writes it, into [`Value`].
//!
//! The format: a value is a marker byte and its content, all numbers big-endian. xgboost writes arrays as
//! `[#L<n>` and values, or `[$<type>#L<n>` and bare numbers, texts as `SL<n>` and bytes, objects as `{`, then
//! `L<n>`, key, value, ..., `}`. See <https://ubjson.org>. Other integer types for lengths are read too; objects
//! with a count or a type, which xgboost never writes, are not.

use crate::{error::Fault, value::Value};

/// Models are about 8 levels deep.
const DEPTH_MAX: usize = 64;

/// Reads a whole file. No length in it is trusted before the bytes are there, so memory is bounded by the file's.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, Fault> {
    let mut reader = Reader { rest: bytes, total: bytes.len(), depth: 0 };
    let marker = reader.byte()?;
    let value = reader.value(marker)?;
    if !reader.rest.is_empty() {
        return Err(reader.fault("the model ends here but the file goes on"));
    }
    Ok(value)
}

struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, marker: u8) -> Result<Value, Fault> {
        match marker {
            b'Z' => Ok(Value::Null),
            b'T' => Ok(Value::Bool(true)),
            b'F' => Ok(Value::Bool(false)),
            b'S' => Ok(Value::Text(self.text()?)),
            b'[' => self.nested(Self::array),
            b'{' => self.nested(Self::object),
            _ => Ok(Value::Number(self.number(marker)?)),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        if self.depth == DEPTH_MAX {
            return Err(self.fault(format_args!("values are nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Result<Value, Fault> {
        match self.peek()? {
            b'$' => self.typed_array(),
            b'#' => self.counted_array(),
            _ => self.open_array(),
        }
    }

    fn typed_array(&mut self) -> Result<Value, Fault> {
        self.skip(b'$')?;
        let kind = self.byte()?;
        self.skip(b'#')?;
        let count = self.length()?;
        let width = width(kind).ok_or_else(|| self.fault("an array of a type that is not a number"))?;
        let bytes = self.take(count.saturating_mul(width))?;
        Ok(Value::Numbers(bytes.chunks_exact(width).map(|number| decode(kind, number)).collect()))
    }

    fn counted_array(&mut self) -> Result<Value, Fault> {
        self.skip(b'#')?;
        let count = self.length()?;
        let mut items = Vec::new();
        for _ in 0..count {
            let marker = self.byte()?;
            items.push(self.value(marker)?);
        }
        Ok(Value::Array(items))
    }

    fn open_array(&mut self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.byte()? {
                b']' => return Ok(Value::Array(items)),
                marker => items.push(self.value(marker)?),
            }
        }
    }

    fn object(&mut self) -> Result<Value, Fault> {
        let mut members = Vec::new();
        while self.peek()? != b'}' {
            let key = self.text()?;
            let marker = self.byte()?;
            members.push((key, self.value(marker)?));
        }
        self.skip(b'}')?;
        Ok(Value::Object(members))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let length = self.length()?;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.fault("a text that is not UTF-8"))
    }

    fn length(&mut self) -> Result<usize, Fault> {
        let marker = self.byte()?;
        if matches!(marker, b'd' | b'D') {
            return Err(self.fault("a length that is not an integer"));
        }
        let number = self.number(marker)?;
        // No file is so long that an f64 would round its length; what is longer fails in `take`.
        if number < 0.0 { Err(self.fault("a negative length")) } else { Ok(number as usize) }
    }

    fn number(&mut self, marker: u8) -> Result<f64, Fault> {
        let width = width(marker).ok_or_else(|| self.fault(format_args!("unknown marker {marker:#04x}")))?;
        Ok(decode(marker, self.take(width)?))
    }

    fn skip(&mut self, wanted: u8) -> Result<(), Fault> {
        let found = self.byte()?;
        if found == wanted { Ok(()) } else { Err(self.fault(format_args!("no '{}' here", wanted as char))) }
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.rest.first().copied().ok_or_else(|| self.fault("the file is cut short"))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.fault("the file is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn fault(&self, what: impl std::fmt::Display) -> Fault {
        Fault::corrupt(format!("not UBJSON at byte {}: {what}", self.total - self.rest.len()))
    }
}

/// Bytes of one number of this type, never zero; none if it is not a numeric type.
fn width(kind: u8) -> Option<usize> {
    match kind {
        b'i' | b'U' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

/// The number in `bytes`, which are `width(kind)` long.
fn decode(kind: u8, bytes: &[u8]) -> f64 {
    let bits = bytes.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    match kind {
        b'i' => f64::from(bits as i8),
        b'I' => f64::from(bits as i16),
        b'l' => f64::from(bits as i32),
        b'L' => bits as i64 as f64,
        b'd' => f64::from(f32::from_bits(bits as u32)),
        b'D' => f64::from_bits(bits),
        _ => bits as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        match read(bytes) {
            Err(Fault::Corrupt(what)) => what,
            other => panic!("not refused as corrupt: {other:?}"),
        }
    }

    #[test]
    fn every_numeric_type_is_read() {
        let bytes = b"[i\xffU\xffI\xff\xfel\xff\xff\xff\xfdL\xff\xff\xff\xff\xff\xff\xff\xfcd\x3f\x00\x00\x00D\x3f\xe0\0\0\0\0\0\0]";
        let numbers = [-1.0, 255.0, -2.0, -3.0, -4.0, 0.5, 0.5].map(Value::Number);
        assert_eq!(read(bytes), Ok(Value::Array(numbers.into())));
    }

    #[test]
    fn typed_and_counted_arrays_and_objects_are_read() {
        let bytes = b"{U\x01a[$I#U\x02\0\x01\xff\xffi\x01b[#l\0\0\0\x02TZ}";
        let members = [
            ("a".to_string(), Value::Numbers(vec![1.0, -1.0])),
            ("b".to_string(), Value::Array(vec![Value::Bool(true), Value::Null])),
        ];
        assert_eq!(read(bytes), Ok(Value::Object(members.into())));
    }

    #[test]
    fn lengths_are_not_trusted() {
        assert!(refusal(b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff").contains("cut short"));
        assert!(refusal(b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff").contains("cut short"));
        assert!(refusal(b"SL\x7f\xff\xff\xff\xff\xff\xff\xff").contains("cut short"));
        assert!(refusal(b"SL\xff\xff\xff\xff\xff\xff\xff\xff").contains("negative length"));
        assert!(refusal(b"Sd\x7f\x80\0\0").contains("not an integer"));
        assert!(refusal(b"[$Z#L\x7f\xff\xff\xff\xff\xff\xff\xff").contains("not a number"));
    }

    #[test]
    fn depth_and_trailing_bytes_are_bounded() {
        assert!(refusal(&b"[".repeat(1_000_000)).contains("deeper than 64"));
        assert!(refusal(b"ZZ").contains("goes on"));
    }
}
