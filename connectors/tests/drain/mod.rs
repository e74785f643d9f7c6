//! Reads a partition as the engine does, and the same bytes as simply as it can be done, to compare the two.
#![allow(dead_code)]

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate::connector::{PartitionStatus, Polled, Position, Source, SourceReader};

/// What stands at an offset: a record, or a malformed line with what was kept of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Record(Value),
    Malformed { why: Why, raw: Vec<u8> },
}

/// The kinds of what can be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NoUtf8,
    TooLong(u64),
    NoJson,
}

pub(crate) type Log = BTreeMap<u64, Found>;

/// A reader of one partition.
pub(crate) struct Partition<T>(Box<dyn SourceReader<T>>);

/// Opens a partition at a position.
pub(crate) fn open<S: Source>(
    source: &S,
    partition: &str,
    position: Option<&Position>,
) -> tidegate::Result<Partition<S::Item>> {
    let mut reader = source.reader()?;
    reader.open(partition, position)?;
    Ok(Partition(reader))
}

impl<T> Partition<T> {
    pub(crate) fn poll(&mut self, out: &mut Polled<T>, budget: usize) -> tidegate::Result<PartitionStatus> {
        self.0.poll(0, out, budget)
    }

    pub(crate) fn position(&self) -> Position {
        self.0.position(0)
    }
}

/// Polls once, adds what was found to `log` and returns how much it was.
pub(crate) fn poll(
    partition: &mut Partition<Value>,
    budget: usize,
    log: &mut Log,
) -> (usize, PartitionStatus) {
    let mut out = Polled::new();
    let status = partition.poll(&mut out, budget).unwrap();
    let found = out.len();
    let (records, malformed) = out.take();
    let records = records.into_iter().map(|(offset, value)| (offset, Found::Record(value)));
    let malformed = malformed
        .into_iter()
        .map(|(offset, error, raw)| (offset, Found::Malformed { why: why(&error), raw }));
    for (offset, what) in records.chain(malformed) {
        assert_eq!(log.insert(offset, what), None, "offset {offset} twice");
    }
    (found, status)
}

/// Polls until there is nothing more for now.
pub(crate) fn drain(partition: &mut Partition<Value>, log: &mut Log) -> PartitionStatus {
    loop {
        let (_, status) = poll(partition, 1_000, log);
        if status != PartitionStatus::More {
            return status;
        }
    }
}

fn why(error: &str) -> Why {
    if error.starts_with("not UTF-8 from byte ") {
        return Why::NoUtf8;
    }
    match error.strip_prefix("the line has ") {
        Some(rest) => Why::TooLong(rest.split(' ').next().unwrap().parse().unwrap()),
        None => {
            assert!(error.contains(" at column ") && !error.contains("line"), "{error}");
            Why::NoJson
        }
    }
}

/// The definition: what a file of these bytes holds. A last line without its newline counts if `bounded`.
pub(crate) fn naive(bytes: &[u8], bounded: bool, max_line_bytes: usize) -> Log {
    let mut log = Log::new();
    let mut offset = 0;
    for with_newline in bytes.split_inclusive(|byte| *byte == b'\n') {
        let start = offset;
        offset += with_newline.len() as u64;
        let raw = match with_newline.strip_suffix(b"\n") {
            Some(line) => line,
            None if bounded => with_newline,
            None => break,
        };
        let line = raw.strip_suffix(b"\r").unwrap_or(raw);
        if line.len() > max_line_bytes {
            let mut kept = &raw[..raw.len().min(4_096)];
            if let Err(error) = std::str::from_utf8(kept)
                && error.error_len().is_none()
            {
                kept = &kept[..error.valid_up_to()];
            }
            let why = Why::TooLong(raw.len() as u64);
            log.insert(start, Found::Malformed { why, raw: kept.to_vec() });
            continue;
        }
        if line.iter().all(|byte| b" \t\r".contains(byte)) {
            continue;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| start == 0);
        if text.is_some_and(|text| text.iter().all(|byte| b" \t\r".contains(byte))) {
            continue;
        }
        let found = match std::str::from_utf8(text.unwrap_or(line)).map(serde_json::from_str) {
            Ok(Ok(value)) => Found::Record(value),
            Ok(Err(_)) => Found::Malformed { why: Why::NoJson, raw: line.to_vec() },
            Err(_) => Found::Malformed { why: Why::NoUtf8, raw: line.to_vec() },
        };
        log.insert(start, found);
    }
    log
}
