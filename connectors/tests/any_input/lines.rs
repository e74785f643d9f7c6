//! Lines of every kind that a file may hold, described so that a failure can be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::job::Row;

/// The files of a case, by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A line, without what ends it.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Row(Row),
    /// A row of which only the beginning is there.
    Torn(Row, Index),
    /// A row in which one byte is another.
    Changed(Row, Index, u8),
    /// A row in which a field has been given another value.
    Field(Row, &'static str, &'static str),
    /// A row with so many levels of arrays in a field that nobody asks for.
    Deep(Row, usize),
    /// A row whose key has so many bytes.
    Long(Row, usize),
    Bytes(Vec<u8>),
    /// So many times the same byte.
    Same(u8, usize),
}

/// A line, and whether it ends with CRLF.
pub(crate) type Line = (Kind, bool);

pub(crate) fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec((kind(), prop::bool::weighted(0.1)), 0..40)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        12 => row().prop_map(Kind::Row),
        1 => (row(), any::<Index>()).prop_map(|(row, at)| Kind::Torn(row, at)),
        1 => (row(), any::<Index>(), any::<u8>()).prop_map(|(row, at, to)| Kind::Changed(row, at, to)),
        1 => (row(), select(&FIELDS[..]), select(&VALUES[..])).prop_map(|(row, f, to)| Kind::Field(row, f, to)),
        1 => (row(), 0usize..300).prop_map(|(row, levels)| Kind::Deep(row, levels)),
        1 => (row(), 0usize..300_000).prop_map(|(row, bytes)| Kind::Long(row, bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Kind::Bytes),
        1 => (select(&b"\0 \t\r[{\"\xff9"[..]), 0usize..5_000).prop_map(|(byte, times)| Kind::Same(byte, times)),
    ]
}

const FIELDS: [&str; 5] = ["id", "key", "at", "timer", "refuse"];
const VALUES: [&str; 16] = [
    "1e999",
    "-1e999",
    "1e-999",
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999999999999999999999",
    "-0",
    "1.5",
    "NaN",
    "null",
    "[]",
    "{}",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "[9223372036854775807,false]",
    "\"\u{10ffff}\"",
];

prop_compose! {
    fn row()(
        id: u64,
        key in prop_oneof![4 => "[a-d]", 1 => any::<String>()],
        at in time(),
        value in prop_oneof![Just(0.0), Just(-0.0), Just(1e308), Just(5e-324), any::<i32>().prop_map(f64::from)],
        timer in prop::option::weighted(0.5, (time(), any::<bool>())),
        refuse in prop::bool::weighted(0.1),
    ) -> Row {
        Row { id, key, at, value, timer, refuse }
    }
}

/// Mostly times that belong together, and any others.
pub(crate) fn time() -> impl Strategy<Value = i64> {
    let edges = [
        i64::MIN,
        i64::MIN + 1,
        -(1 << 60) - 1,
        -(1 << 60),
        -1,
        0,
        1 << 60,
        (1 << 60) + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    prop_oneof![
        8 => -2_000i64..10_000,
        1 => select(edges.to_vec()),
        1 => any::<i64>(),
    ]
}

impl Kind {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Row(row) => row.json().into_bytes(),
            Self::Torn(row, at) => {
                let mut bytes = row.json().into_bytes();
                bytes.truncate(at.index(bytes.len()));
                bytes
            }
            Self::Changed(row, at, to) => {
                let mut bytes = row.json().into_bytes();
                let at = at.index(bytes.len());
                bytes[at] = *to;
                bytes
            }
            Self::Field(row, field, to) => row.json_with(field, to).into_bytes(),
            Self::Deep(row, levels) => {
                let deep = format!("{}{}", "[".repeat(*levels), "]".repeat(*levels));
                row.json().replacen('{', &format!("{{\"more\":{deep},"), 1).into_bytes()
            }
            Self::Long(row, bytes) => Row { key: "k".repeat(*bytes), ..row.clone() }.json().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Same(byte, times) => vec![*byte; *times],
        }
    }
}

/// Writes the partitions; a file may be without a newline at its end.
pub(crate) fn write(directory: &Path, files: &[(Vec<Line>, bool)]) -> Files {
    fs::create_dir_all(directory).unwrap();
    let mut written = Files::new();
    for (number, (lines, ends)) in files.iter().enumerate() {
        let mut bytes = Vec::new();
        for (n, (line, crlf)) in lines.iter().enumerate() {
            bytes.extend(line.bytes());
            if *ends || n + 1 < lines.len() {
                bytes.extend(if *crlf { &b"\r\n"[..] } else { b"\n" });
            }
        }
        let name = format!("part-{number} \u{fc}.jsonl");
        fs::write(directory.join(&name), &bytes).unwrap();
        written.insert(name, bytes);
    }
    written
}
