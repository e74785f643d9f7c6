//! The embedded log: a directory of files of JSON lines.
//!
//! A partition is a file `part-*.jsonl`, a position is the byte offset of a line's start, and a record is a line. That
//! is enough of a log to run and test a job without a broker, and any program that appends lines can feed it.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidegate_connector_api::{Polled, Source};
//! use tidegate_connectors::FileLog;
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Reading {
//!     device: String,
//!     celsius: f64,
//! }
//!
//! # fn main() -> tidegate::Result<()> {
//! let directory = tempfile::tempdir()?;
//! std::fs::write(directory.path().join("part-0.jsonl"), "{\"device\":\"a\",\"celsius\":21.5}\n")?;
//!
//! // In a job: job.source("readings", FileLog::partitions(directory).json::<Reading>())
//! let source = FileLog::partitions(&directory).json::<Reading>();
//! let (mut reader, mut polled) = (source.reader()?, Polled::new());
//! for (number, partition) in source.partitions()?.iter().enumerate() {
//!     reader.open(partition, None)?;
//!     reader.poll(number, &mut polled, 1_000)?;
//! }
//! assert_eq!(polled.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Reading: what happens when
//!
//! A source is *bounded* by default, and *followed* with [`FileLogSource::follow`]. An error ends the job with a
//! message that names the file, the offset and what to do.
//!
//! | case | bounded | followed |
//! |---|---|---|
//! | end of the file | the partition has ended, when the end is first met | caught up; what is appended later is read |
//! | last line without its newline | is a line | waits for its newline |
//! | new partition file | not looked for | read from its beginning |
//! | line that is not JSON, or not of the record's type | malformed, at its offset | the same |
//! | line that is not UTF-8 | malformed, with the number of the first byte that is not UTF-8; the lines around it are read | the same |
//! | line longer than [`FileLogSource::max_line_bytes`] | malformed, its first 4 KiB kept; skipped in bounded memory | the same, once its newline is there |
//! | byte order mark in front of the first line | is not part of the line, but counts for `max_line_bytes` | the same |
//! | CRLF | the `\r` in front of the newline is no part of the line | the same |
//! | line of nothing but spaces, tabs and `\r` | skipped, counted nowhere | the same |
//! | directory missing, not a directory, or without permission | error | error |
//! | directory without a `part-*.jsonl` | error | waits for the first one |
//! | `part-*.jsonl` that is not a file (a directory, a pipe), or whose name is not UTF-8 | error | error |
//! | other files, hidden files | ignored | ignored |
//! | file does not exist any more when it is opened | error | error |
//! | file is removed, renamed or replaced while it is read | read to its end: it stays open | read to its end, then an error within 0.1 s of being polled |
//! | file is truncated to less than was read of it | error, when the end is reached | error, when the end is reached |
//! | restart at an offset beyond the file's end, or in the middle of a line | error | error |
//! | restart behind a last line that had no newline | goes on if the file is as it was, or a newline follows; else an error | goes on if a newline follows; else an error |
//! | partition of a finished run has grown | [`has_more`](tidegate_connector_api::Source::has_more) says so | |
//! | file of a finished run was removed | has no more | |
//!
//! One case is not detected: a file that is truncated and has grown beyond the old offset again before its next check.
//! Write to a log only by appending, and rotate it by starting a new `part-*.jsonl`.
//!
//! # Writing
//!
//! A worker writes the records of an epoch to a hidden file, [`Writer::stage`](tidegate_connector_api::Writer::stage)
//! makes that file part of the snapshot, and publishing renames it to `part-<slot>-<epoch>.jsonl`. So a reader of the
//! files that have no leading dot sees only whole files at any time. An epoch without records makes no file.
//!
//! | case | outcome |
//! |---|---|
//! | output directory missing | made |
//! | a staged file is published again | nothing happens, if the visible file has its length and, as far as checked, its checksum |
//! | a visible file of the same name has another content | error; nothing is overwritten |
//! | a staged file has another length, or another checksum | error; nothing is published |
//! | a file is neither staged nor visible | error that says what is lost: the number of records, the epoch, the path |
//! | staged files of an older attempt | removed at the start |
//! | published files of epochs after the restored one | removed at the start, and named in the log |
//! | a job without a snapshot finds published files | error: they belong to another run; nothing is removed |
//! | another run writes to the directory | error at the start |
//! | an older attempt of the same job on a cluster still runs | the newer one takes the directory over without waiting for it |
//! | an older attempt comes after a newer one, or after another job has taken the directory over | error; nothing is removed |
//! | disk full, or any other failure to write | error; the epoch is not staged |
//! | a number that is NaN or infinite | written as `null`, as JSON has none |
//! | a record that cannot be written as JSON (a map whose keys are not strings, say, or a type whose `serialize` refuses a value) | error that names its type: the job ends, and ends again at the same record; a `try_map` in front of the sink refuses such records |
//!
//! The checksum is verified for everything that an earlier attempt has staged, and wherever a piece of output has both a
//! staged and a visible file. For what this attempt has staged itself only the length is compared: reading every byte of
//! the output again would cost as much as writing it. Leave the published files of the newest epoch where they are until a
//! later one is there; a restart looks for them.
//!
//! Not here: who calls this when, and what becomes of malformed lines (the engine); another format than JSON lines.

mod lines;
mod names;
mod partition;
mod publisher;
mod reader;
mod sink;
mod source;
mod storage;
mod target;
mod writer;

use std::path::Path;

pub use sink::{FileLogSink, JsonSink};
pub use source::{FileLogSource, JsonLines};

/// A directory of files of JSON lines: where a job reads from or writes to.
#[derive(Clone, Copy, Debug)]
pub struct FileLog;

impl FileLog {
    /// Reads the files `part-*.jsonl` of a directory, each from its beginning to its end.
    pub fn partitions(directory: impl AsRef<Path>) -> FileLogSource {
        FileLogSource::new(directory.as_ref())
    }

    /// Writes files `part-<slot>-<epoch>.jsonl` into a directory, which is made if it is missing.
    ///
    /// The returned sink takes dead letters; [`FileLogSink::json`] makes it a sink of records of any type.
    pub fn sink(directory: impl AsRef<Path>) -> FileLogSink {
        FileLogSink::new(directory.as_ref())
    }
}
