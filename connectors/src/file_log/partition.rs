//! One open file of JSON lines, polled for records.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use tidegate_connector_api::{PartitionStatus, Polled, Position};
use tidegate_protocol::Result;

use super::lines::{Line, Lines};
use crate::format::json;

/// The most that one poll reads, whatever its budget of records: blank and long lines cost time too.
const POLL_BYTES_MAX: usize = 1 << 20;

/// The byte order mark in UTF-8, which some editors write in front of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A partition that is read into records of the type `T`.
pub(super) struct JsonPartition<T> {
    at: At,
    followed: bool,
    item: PhantomData<fn() -> T>,
}

/// How far a partition is read. Behind its end only the position is left: a job may read ten thousands of files to their ends.
enum At {
    Open(Lines),
    Ended(u64),
}

impl<T> JsonPartition<T> {
    pub(super) fn new(lines: Lines, followed: bool) -> Self {
        Self { at: At::Open(lines), followed, item: PhantomData }
    }
}

impl<T: DeserializeOwned> JsonPartition<T> {
    pub(super) fn poll(&mut self, out: &mut Polled<T>, budget: usize) -> Result<PartitionStatus> {
        let At::Open(lines) = &mut self.at else { return Ok(PartitionStatus::Ended) };
        let before = lines.position();
        let status = read(lines, self.followed, out, budget);
        let position = lines.position();
        out.took((position - before) as usize);
        if let Ok(PartitionStatus::Ended) = status {
            self.at = At::Ended(position);
        }
        status
    }

    pub(super) fn position(&self) -> Position {
        match &self.at {
            At::Open(lines) => lines.position().into(),
            At::Ended(position) => (*position).into(),
        }
    }
}

fn read<T: DeserializeOwned>(
    lines: &mut Lines,
    followed: bool,
    out: &mut Polled<T>,
    budget: usize,
) -> Result<PartitionStatus> {
    let (mut left, mut bytes) = (budget, 0);
    loop {
        left -= lines.hand_out(left, |offset, line| take(out, offset, line));
        if left == 0 || bytes >= POLL_BYTES_MAX {
            return Ok(PartitionStatus::More);
        }
        match lines.fill()? {
            0 => return at_the_end(lines, followed, out),
            read => bytes += read,
        }
    }
}

#[cold]
fn at_the_end<T: DeserializeOwned>(
    lines: &mut Lines,
    followed: bool,
    out: &mut Polled<T>,
) -> Result<PartitionStatus> {
    lines.check_end(followed)?;
    if followed {
        return Ok(PartitionStatus::CaughtUp);
    }
    lines.hand_out_rest(|offset, line| take(out, offset, line));
    Ok(PartitionStatus::Ended)
}

#[inline]
fn take<T: DeserializeOwned>(out: &mut Polled<T>, offset: u64, line: Line<'_>) {
    match line {
        Line::Whole { bytes, utf8 } => {
            let line = if offset == 0 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
            match json::parse(line, utf8) {
                Ok(record) => out.record(offset, record),
                Err(_) if line.len() < bytes.len() && is_blank(line) => {}
                Err(error) => out.malformed(offset, error, bytes),
            }
        }
        Line::TooLong { first, bytes } => out.malformed(offset, too_long(bytes, first), first),
    }
}

#[cold]
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| b" \t\r".contains(byte))
}

#[cold]
fn too_long(bytes: u64, first: &[u8]) -> String {
    format!("the line has {bytes} bytes, more than max_line_bytes; the first {} are kept", first.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Reading {
        device_id: String,
        timestamp: i64,
        temperature: f64,
        vibration: f64,
        pressure: f64,
    }

    /// `cargo test --release -p tidegate-connectors -- --ignored --nocapture throughput`
    #[test]
    #[ignore = "a measurement"]
    fn throughput() {
        const ROWS: u32 = 2_000_000;
        let mut file = std::io::BufWriter::new(tempfile::NamedTempFile::new().unwrap());
        for n in 0..ROWS {
            let (device, time) = (n % 10_000, 1_700_000_000_000 + u64::from(n));
            let (t, v, p) =
                (f64::from(n % 9_999) / 100.0, f64::from(n % 97) / 10_000.0, f64::from(n % 777) / 10.0);
            writeln!(
                file,
                r#"{{"device_id":"dev-{device:05}","timestamp":{time},"temperature":{t},"vibration":{v},"pressure":{p}}}"#
            )
            .unwrap();
        }
        let file = file.into_inner().unwrap();
        let open = || Lines::open(file.path().to_owned(), 0, true, 16 << 20).unwrap();

        for _ in 0..3 {
            let (start, mut lines, mut found) = (Instant::now(), open(), 0);
            while lines.fill().unwrap() > 0 {
                found += lines.hand_out(usize::MAX, |_, _| {});
            }
            report("lines alone", found, start);

            let (start, mut found) = (Instant::now(), 0);
            let mut partition: JsonPartition<Reading> = JsonPartition::new(open(), false);
            let mut out = Polled::new();
            let mut status = PartitionStatus::More;
            while status != PartitionStatus::Ended {
                status = partition.poll(&mut out, 1_024).unwrap();
                found += out.len();
                out.take();
            }
            report("with serde_json into a struct with a String", found, start);
            assert_eq!(found, ROWS as usize);
        }
    }

    fn report(what: &str, rows: usize, start: Instant) {
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{what}: {:.1} M rows/s ({:.0} ns a row)",
            rows as f64 / seconds / 1e6,
            seconds * 1e9 / rows as f64
        );
    }
}
