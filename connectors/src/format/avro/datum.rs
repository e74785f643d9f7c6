//! Whether bytes are a datum of a schema, and if not, where and why.
//!
//! The library decodes a string or a boolean that is cut off as null, leaves bytes behind the datum alone, makes buffers of the
//! length that the bytes claim, and follows a recursive type as deep as it goes, until the stack is full. So every datum is
//! checked first, without making anything of it.

use apache_avro::schema::{InnerDecimalSchema, NamesRef, Schema, UuidSchema};

/// How deep values may be nested: records, unions, arrays and maps count, so a list that is linked by a nullable field has some 80 items.
const DEPTH: usize = 256;

/// Checks that the bytes are one datum and nothing more.
///
/// # Errors
/// What is wrong, with the field and the byte.
pub(super) fn check(schema: &Schema, names: &NamesRef<'_>, bytes: &[u8]) -> Result<(), String> {
    let mut datum = Datum { names, bytes, at: 0, depth: 0, path: Vec::new() };
    datum.value(schema)?;
    match bytes.len() - datum.at {
        0 => Ok(()),
        rest => Err(format!(
            "{rest} bytes are left behind the datum, which ends at byte {}: it was written with another schema",
            datum.at
        )),
    }
}

struct Datum<'a> {
    names: &'a NamesRef<'a>,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// The fields that lead to where it is.
    path: Vec<&'a str>,
}

impl<'a> Datum<'a> {
    fn value(&mut self, schema: &'a Schema) -> Result<(), String> {
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => match self.take(1, "a boolean")? {
                [0 | 1] => Ok(()),
                other => Err(self.fault(&format!("a boolean is 0 or 1, and this is {}", other[0]))),
            },
            Schema::Int | Schema::Date | Schema::TimeMillis => {
                let number = self.number("an int")?;
                let fits = i32::try_from(number).map(drop);
                fits.map_err(|_| self.fault(&format!("{number} is too large for an int")))
            }
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => self.number("a long").map(drop),
            Schema::Float => self.take(4, "a float").map(drop),
            Schema::Double => self.take(8, "a double").map(drop),
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => {
                self.sized("bytes").map(drop)
            }
            Schema::String | Schema::Uuid(UuidSchema::String) => self.string(),
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.take(fixed.size, "a fixed").map(drop)
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => self.sized("a decimal").map(drop),
                InnerDecimalSchema::Fixed(fixed) => self.take(fixed.size, "a decimal").map(drop),
            },
            Schema::Enum(symbols) => self.choice("symbol of an enum", symbols.symbols.len()).map(drop),
            _ => self.deeper(schema),
        }
    }

    /// A value that has others in it.
    fn deeper(&mut self, schema: &'a Schema) -> Result<(), String> {
        if self.depth == DEPTH {
            return Err(self.fault(&format!("values are nested deeper than {DEPTH}")));
        }
        self.depth += 1;
        match schema {
            Schema::Array(array) => self.blocks("an array", |this| this.value(&array.items))?,
            Schema::Map(map) => self.blocks("a map", |this| {
                this.string()?;
                this.value(&map.types)
            })?,
            Schema::Union(union) => {
                let variants = union.variants();
                let chosen = self.choice("branch of a union", variants.len())?;
                self.value(&variants[chosen])?;
            }
            Schema::Record(record) => {
                for field in &record.fields {
                    self.path.push(&field.name);
                    self.value(&field.schema)?;
                    self.path.pop();
                }
            }
            Schema::Ref { name } => match self.names.get(name).copied() {
                Some(schema) => self.value(schema)?,
                None => return Err(self.fault(&format!("the schema does not say what {name} is"))),
            },
            other => return Err(self.fault(&format!("{other:?} is of no kind that is known"))),
        }
        self.depth -= 1;
        Ok(())
    }

    /// The blocks of an array or a map: each a number of items, or its negative and the bytes that they take.
    fn blocks(
        &mut self,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            let count = self.number(what)?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.number(what)?;
            }
            for n in 0..count.unsigned_abs() {
                let before = self.at;
                item(self)?;
                // Items that take no bytes can be any number.
                if self.at == before && n > self.bytes.len() as u64 {
                    return Err(self.fault(&format!("{what} of {count} items is longer than its bytes")));
                }
            }
        }
    }

    fn string(&mut self) -> Result<(), String> {
        let bytes = self.sized("a string")?;
        let from = self.at - bytes.len();
        simdutf8::compat::from_utf8(bytes).map(drop).map_err(|error| {
            let place = self.place();
            format!("a string is not UTF-8 from byte {} on{place}", from + error.valid_up_to())
        })
    }

    /// Bytes with their length in front of them.
    fn sized(&mut self, what: &str) -> Result<&'a [u8], String> {
        let length = self.number(what)?;
        match usize::try_from(length) {
            Ok(length) => self.take(length, what),
            Err(_) => Err(self.fault(&format!("the length of {what} is {length}"))),
        }
    }

    fn choice(&mut self, what: &str, of: usize) -> Result<usize, String> {
        let number = self.number(what)?;
        let chosen = usize::try_from(number).ok().filter(|chosen| *chosen < of);
        chosen.ok_or_else(|| self.fault(&format!("{what} {number} is not one of the {of} of the schema")))
    }

    fn number(&mut self, what: &str) -> Result<i64, String> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1, what)?[0];
            if shift == 63 && byte > 1 {
                return Err(self.fault("a number has more than 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
            shift += 7;
        }
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        if rest.len() < length {
            return Err(format!(
                "the value is cut off: {what} begins at byte {} and needs {length} bytes, and the value has {}{}",
                self.at,
                self.bytes.len(),
                self.place()
            ));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    #[cold]
    fn fault(&self, what: &str) -> String {
        format!("{what}, in front of byte {}{}", self.at, self.place())
    }

    fn place(&self) -> String {
        let path = self.path.join(".");
        let shown = path.floor_char_boundary(80);
        match (path.len(), shown) {
            (0, _) => String::new(),
            (all, shown) if all == shown => format!(", in the field {path}"),
            (_, shown) => format!(", in the field {}...", &path[..shown]),
        }
    }
}
