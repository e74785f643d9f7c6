//! The output of a process, as it is written.
//!
//! The newest part is in `<attempt>-<first slot>.log`. When it is full, it is renamed to `<attempt>-<first slot>.<n>.log`,
//! where n is the number of bytes that were written before it, and the oldest part is removed. So the position of every
//! byte in the whole output follows from the names and the sizes of the files.
//!
//! A disk that is full or broken loses lines, and never stops a process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::taskmanager::ProcessId;
use tidegate_protocol::{Attempt, JobId, Slot};

use crate::data_directory;

/// A longer line is written in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How much output is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most bytes of a file.
    pub(crate) bytes: u64,
    /// The most files of a process.
    pub(crate) files: usize,
}

/// A part of the output of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The bytes before it.
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
}

impl Part {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// The directory with the logs of a job.
pub(crate) fn directory(logs: &Path, job: JobId) -> PathBuf {
    logs.join(job.to_string())
}

/// The parts of all logs in a directory, the oldest first.
pub(crate) fn parts(directory: &Path) -> BTreeMap<(Attempt, Slot), Vec<Part>> {
    let mut parts: BTreeMap<(Attempt, Slot), Vec<Part>> = BTreeMap::new();
    let mut newest = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return parts };
    for entry in entries.flatten() {
        let (Some((attempt, slot, start)), Ok(metadata)) = (parse(&entry.path()), entry.metadata()) else {
            continue;
        };
        let part = Part { start: start.unwrap_or(0), bytes: metadata.len(), path: entry.path() };
        let log = parts.entry((attempt, slot)).or_default();
        if start.is_some() { log.push(part) } else { newest.push(((attempt, slot), part)) }
    }
    for log in parts.values_mut() {
        log.sort_by_key(|part| part.start);
    }
    for (log, part) in newest {
        let log = parts.entry(log).or_default();
        let start = log.last().map_or(0, Part::end);
        log.push(Part { start, ..part });
    }
    parts
}

fn parse(path: &Path) -> Option<(Attempt, Slot, Option<u64>)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let (name, start) = match name.split_once('.') {
        Some((name, start)) => (name, Some(start.parse().ok()?)),
        None => (name, None),
    };
    let (attempt, slot) = name.split_once('-')?;
    Some((Attempt(attempt.parse().ok()?), Slot(slot.parse().ok()?), start))
}

/// The log of a process that runs.
#[derive(Debug)]
pub(crate) struct LogFile {
    directory: PathBuf,
    process: ProcessId,
    limits: Limits,
    /// The newest part; None if it could not be opened.
    file: Option<File>,
    /// The bytes before the newest part, and in it.
    start: u64,
    bytes: u64,
    is_broken: bool,
}

impl LogFile {
    /// Opens the log of a process; what it contains is kept.
    pub(crate) fn open(logs: &Path, process: ProcessId, limits: Limits) -> Self {
        let directory = directory(logs, process.job);
        let _ = data_directory::create(&directory);
        let parts = parts(&directory).remove(&(process.attempt, process.first)).unwrap_or_default();
        let mut this = Self { directory, process, limits, file: None, start: 0, bytes: 0, is_broken: false };
        let newest = this.path(None);
        match parts.last() {
            Some(part) if part.path == newest => (this.start, this.bytes) = (part.start, part.bytes),
            Some(part) => this.start = part.end(),
            None => {}
        }
        this.create();
        this
    }

    fn path(&self, start: Option<u64>) -> PathBuf {
        let name = format!("{}-{}", self.process.attempt, self.process.first);
        self.directory.join(start.map_or(format!("{name}.log"), |start| format!("{name}.{start}.log")))
    }

    fn create(&mut self) {
        let file = File::options().append(true).create(true).mode(0o600).open(self.path(None));
        self.file = file.map_err(|error| self.complain(&error)).ok();
    }

    /// Writes whole lines, or a part of a long one.
    fn write(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let room = self.limits.bytes.saturating_sub(self.bytes);
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(text.len());
            let fitting =
                if room == text.len() { room } else { last_newline(&text[..room]).map_or(0, |at| at + 1) };
            let count = match fitting {
                0 if self.bytes > 0 => {
                    if !self.rotate() {
                        return;
                    }
                    continue;
                }
                // A line that is longer than a file may be has one for itself.
                0 => text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1),
                fitting => fitting,
            };
            self.append(&text[..count]);
            text = &text[count..];
        }
    }

    fn append(&mut self, text: &[u8]) {
        if self.file.is_none() {
            // The disk may be well again.
            self.create();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(text) {
            Ok(()) => self.bytes += text.len() as u64,
            Err(error) => {
                self.bytes = file.metadata().map_or(self.bytes, |metadata| metadata.len());
                self.complain(&error);
            }
        }
    }

    /// Begins a new file. False if the old one cannot be renamed.
    fn rotate(&mut self) -> bool {
        if let Err(error) = fs::rename(self.path(None), self.path(Some(self.start))) {
            self.complain(&error);
            return false;
        }
        (self.start, self.bytes) = (self.start + self.bytes, 0);
        self.create();
        let mut parts = parts(&self.directory);
        let parts = parts.remove(&(self.process.attempt, self.process.first)).unwrap_or_default();
        for part in parts.iter().rev().skip(self.limits.files.max(1)) {
            if let Err(error) = fs::remove_file(&part.path) {
                self.complain(&error);
            }
        }
        true
    }

    fn complain(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.is_broken, true) {
            let path = self.path(None);
            tracing::warn!(target: "tidegate", "output of a job is lost, {} cannot be written: {error}", path.display());
        }
    }
}

/// Copies the output of a process to its log, by the line, until it is closed. Returns the last line with a text.
pub(crate) fn copy(mut from: impl Read, log: &Arc<Mutex<LogFile>>) -> String {
    let write = |text: &[u8]| log.lock().unwrap_or_else(PoisonError::into_inner).write(text);
    let (mut buffer, mut filled, mut last) = (vec![0; LINE_BYTES_MAX], 0, String::new());
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
            Ok(count) => filled += count,
        }
        let lines = match last_newline(&buffer[..filled]) {
            Some(end) => end + 1,
            None if filled == buffer.len() => filled,
            None => continue,
        };
        write(&buffer[..lines]);
        note_last(&buffer[..lines], &mut last);
        buffer.copy_within(lines..filled, 0);
        filled -= lines;
    }
    if filled > 0 {
        note_last(&buffer[..filled], &mut last);
        // So that the line of another stream does not follow on it.
        buffer.truncate(filled);
        buffer.push(b'\n');
        write(&buffer);
    }
    last
}

fn last_newline(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| *byte == b'\n')
}

fn note_last(lines: &[u8], last: &mut String) {
    let mut lines = lines.rsplit(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    if let Some(line) = lines.find(|line| !line.is_empty()) {
        *last = String::from_utf8_lossy(line).into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn process(attempt: u32, first: u32) -> ProcessId {
        ProcessId { job: JobId([7; 16]), attempt: Attempt(attempt), first: Slot(first) }
    }

    #[test]
    fn a_log_is_rotated_and_its_positions_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { bytes: 10, files: 3 };
        let mut log = LogFile::open(directory.path(), process(3, 1), limits);
        (0..5).for_each(|i| log.write(format!("line-{i}\n").as_bytes()));
        let of = |log: &LogFile| parts(&log.directory).remove(&(Attempt(3), Slot(1))).unwrap();
        let starts: Vec<_> = of(&log).iter().map(|part| (part.start, part.bytes)).collect();
        assert_eq!(starts, [(14, 7), (21, 7), (28, 7)]);
        let mut again = LogFile::open(directory.path(), process(3, 1), limits);
        again.write(b"a\n");
        again.write(b"another\n");
        let starts: Vec<_> = of(&again).iter().map(|part| (part.start, part.bytes)).collect();
        assert_eq!(starts, [(21, 7), (28, 9), (37, 8)]);
        again.write(&[b'x'; 100]);
        assert_eq!(of(&again).last().unwrap().end(), 145, "a long line is whole");
        again.write(b"123\n456\n789\n0\n");
        let starts: Vec<_> = of(&again).iter().map(|part| (part.start, part.bytes)).collect();
        assert_eq!(starts, [(45, 100), (145, 8), (153, 6)], "many lines at once");
        fs::remove_dir_all(&again.directory).unwrap();
        again.write(b"lost, because there is no directory\n");
    }

    #[test]
    fn lines_are_kept_as_they_are_also_without_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let log =
            Mutex::new(LogFile::open(directory.path(), process(1, 0), Limits { bytes: 1 << 20, files: 2 }));
        let log = Arc::new(log);
        let long = "y".repeat(2 * LINE_BYTES_MAX + 5);
        let text = format!("a\n\n{long}\n  the last ä\n \nend");
        assert_eq!(copy(text.as_bytes(), &log), "end");
        assert_eq!(copy(&b"\n"[..], &log), "");
        let written = fs::read(directory.path().join(format!("{}/1-0.log", JobId([7; 16])))).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), format!("{text}\n\n"));
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(JobId([7; 16]).to_string()), "").unwrap();
        let log = LogFile::open(directory.path(), process(1, 0), Limits { bytes: 1, files: 1 });
        assert_eq!(copy(&b"a\nb\nc\n"[..], &Arc::new(Mutex::new(log))), "c");
    }
}
