//! Logs for who asks for them, and which of them are kept.
//!
//! A log is read from a position in the whole output of a process. If an attempt has several processes on this host, the
//! answer has the text of each under a heading; its position is the sum of theirs, and which positions these are is
//! remembered for the latest answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tidegate_protocol::{Attempt, JobId, Slot};

use crate::log_file::{self, Part};

/// The most bytes of an answer.
const BYTES_MAX: u64 = 16 << 20;
/// The answers about several processes that can be continued.
const CURSORS_MAX: usize = 64;
/// How many attempts of a job have logs.
const ATTEMPTS_MAX: usize = 20;
/// How long the logs of a job are kept after the last line.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where an answer about several processes has ended.
type Positions = BTreeMap<Slot, u64>;

/// The logs of all jobs.
#[derive(Debug)]
pub(crate) struct LogReader {
    logs: PathBuf,
    cursors: Mutex<VecDeque<((JobId, Attempt, u64), Positions)>>,
}

impl LogReader {
    pub(crate) fn new(logs: PathBuf) -> Self {
        Self { logs, cursors: Mutex::default() }
    }

    /// The text of an attempt's logs from a position, or their last lines, and the position behind it.
    pub(crate) fn read(
        &self,
        job: JobId,
        attempt: Option<Attempt>,
        from: Option<u64>,
        bytes: u64,
    ) -> (String, u64) {
        let bytes = bytes.min(BYTES_MAX);
        let parts = log_file::parts(&log_file::directory(&self.logs, job));
        let newest = parts.keys().map(|(attempt, _)| *attempt).max();
        let Some(attempt) = attempt.or(newest) else { return (String::new(), from.unwrap_or(0)) };
        let logs: Vec<(Slot, Vec<Part>)> = parts
            .into_iter()
            .filter(|((a, _), _)| *a == attempt)
            .map(|((_, slot), log)| (slot, log))
            .collect();
        match &*logs {
            [] => (String::new(), from.unwrap_or(0)),
            [(_, log)] => {
                let (text, position) = read(log, from, bytes);
                (String::from_utf8_lossy(&text).into_owned(), position)
            }
            _ => self.read_several(&logs, (job, attempt), from, bytes),
        }
    }

    fn read_several(
        &self,
        logs: &[(Slot, Vec<Part>)],
        (job, attempt): (JobId, Attempt),
        from: Option<u64>,
        bytes: u64,
    ) -> (String, u64) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let before = from.and_then(|from| {
            if from == 0 {
                return Some(Positions::new());
            }
            let of_answer = |(key, _): &&(_, _)| *key == (job, attempt, from);
            cursors.iter().rev().find(of_answer).map(|(_, positions)| positions.clone())
        });
        let (mut text, mut positions) = (String::new(), Positions::new());
        for (slot, log) in logs {
            let from = before.as_ref().map(|before| before.get(slot).copied().unwrap_or(0));
            let (part, position) = read(log, from, bytes / logs.len() as u64);
            if !part.is_empty() {
                text.push_str(&format!("==> process of worker {slot} <==\n"));
                text.push_str(&String::from_utf8_lossy(&part));
            }
            positions.insert(*slot, position);
        }
        let position = positions.values().fold(0, |sum: u64, position| sum.saturating_add(*position));
        cursors.push_back(((job, attempt, position), positions));
        if cursors.len() > CURSORS_MAX {
            cursors.pop_front();
        }
        (text, position)
    }

    /// Removes the logs of old attempts, and those of jobs that have written nothing for a week and have no process.
    pub(crate) fn remove_old(&self, active: &BTreeSet<JobId>) {
        let Ok(jobs) = fs::read_dir(&self.logs) else { return };
        for entry in jobs.flatten() {
            let job = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(job) = job else { continue };
            // What cannot be removed is tried again.
            if !active.contains(&job) && last_write(&entry.path()).elapsed().is_ok_and(|age| age > KEPT) {
                let _ = fs::remove_dir_all(entry.path());
                continue;
            }
            let parts = log_file::parts(&entry.path());
            let attempts: BTreeSet<Attempt> = parts.keys().map(|(attempt, _)| *attempt).collect();
            let kept: BTreeSet<&Attempt> = attempts.iter().rev().take(ATTEMPTS_MAX).collect();
            for (_, log) in parts.iter().filter(|((attempt, _), _)| !kept.contains(attempt)) {
                log.iter().for_each(|part| drop(fs::remove_file(&part.path)));
            }
        }
    }
}

fn last_write(directory: &Path) -> SystemTime {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let written = |path: PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let own = written(directory.to_owned());
    files.filter_map(written).max().or(own).unwrap_or_else(SystemTime::now)
}

/// The text of one log from a position, or its last lines; and the position behind it.
fn read(log: &[Part], from: Option<u64>, bytes: u64) -> (Vec<u8>, u64) {
    let (oldest, end) = (log.first().map_or(0, |part| part.start), log.last().map_or(0, Part::end));
    let start = from.unwrap_or(end.saturating_sub(bytes)).clamp(oldest, end);
    let mut text = Vec::new();
    for part in log.iter().filter(|part| part.end() > start) {
        let skipped = start.saturating_sub(part.start);
        let wanted = (bytes - text.len() as u64).min(part.bytes - skipped);
        let read = File::open(&part.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(skipped))?;
            file.take(wanted).read_to_end(&mut text)
        });
        // A part that was removed meanwhile: what follows it would be at a wrong position.
        if read.ok() != Some(wanted as usize) {
            break;
        }
    }
    let position = start + text.len() as u64;
    let newline = |byte: &u8| *byte == b'\n';
    if from.is_none() && start > oldest {
        // Lines are whole, unless one is longer than what is wanted.
        let first = text.iter().position(newline).filter(|at| at + 1 < text.len());
        text.drain(..first.map_or(0, |at| at + 1));
    }
    if position < end
        && let Some(last) = text.iter().rposition(newline)
    {
        let cut = text.len() - (last + 1);
        text.truncate(last + 1);
        return (text, position - cut as u64);
    }
    (text, position)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tidegate_protocol::taskmanager::ProcessId;

    use super::*;
    use crate::log_file::{Limits, LogFile, copy};

    const JOB: JobId = JobId([7; 16]);

    fn write(logs: &Path, (attempt, first): (u32, u32), text: &str) {
        let process = ProcessId { job: JOB, attempt: Attempt(attempt), first: Slot(first) };
        let log = LogFile::open(logs, process, Limits { bytes: 30, files: 3 });
        copy(text.as_bytes(), &Arc::new(Mutex::new(log)));
    }

    #[test]
    fn the_last_lines_are_whole_and_a_log_is_followed_from_a_position() {
        let logs = tempfile::tempdir().unwrap();
        let reader = LogReader::new(logs.path().to_owned());
        assert_eq!(reader.read(JOB, None, None, 100), (String::new(), 0));
        for i in 0..15 {
            write(logs.path(), (1, 0), &format!("line {i:02}\n"));
        }
        let all = reader.read(JOB, None, None, 1000);
        assert_eq!(all.0.lines().count(), 9);
        assert!(all.0.starts_with("line 06\n") && all.0.ends_with("line 14\n"));
        assert_eq!(all.1, 15 * 8);
        assert_eq!(reader.read(JOB, None, None, 20), ("line 13\nline 14\n".to_owned(), 120));
        assert_eq!(reader.read(JOB, Some(Attempt(1)), Some(120), 20), (String::new(), 120));
        assert_eq!(reader.read(JOB, Some(Attempt(1)), Some(0), 20), ("line 06\nline 07\n".to_owned(), 64));
        assert_eq!(reader.read(JOB, Some(Attempt(1)), Some(500), 20).1, 120);
        write(logs.path(), (1, 0), "more\n");
        assert_eq!(reader.read(JOB, None, Some(120), 20), ("more\n".to_owned(), 125));
        assert_eq!(reader.read(JOB, Some(Attempt(9)), None, 20), (String::new(), 0));
        write(logs.path(), (2, 0), "new\n");
        assert_eq!(reader.read(JOB, None, None, 20), ("new\n".to_owned(), 4));
    }

    #[test]
    fn the_logs_of_several_processes_are_followed_together() {
        let logs = tempfile::tempdir().unwrap();
        let reader = LogReader::new(logs.path().to_owned());
        write(logs.path(), (1, 0), "a\n");
        write(logs.path(), (1, 2), "b\n");
        let (text, position) = reader.read(JOB, None, None, 1000);
        assert_eq!(text, "==> process of worker 0 <==\na\n==> process of worker 2 <==\nb\n");
        write(logs.path(), (1, 2), "c\n");
        let (text, next) = reader.read(JOB, None, Some(position), 1000);
        assert_eq!((text.as_str(), next), ("==> process of worker 2 <==\nc\n", position + 2));
        assert_eq!(reader.read(JOB, None, Some(next), 1000), (String::new(), next));
        // Whoever wants all begins at 0, and not at the last lines that fit into an answer.
        let (text, position) = reader.read(JOB, None, Some(0), 4);
        assert_eq!(text, "==> process of worker 0 <==\na\n==> process of worker 2 <==\nb\n");
        assert_eq!(reader.read(JOB, None, Some(position), 4).0, "==> process of worker 2 <==\nc\n");
    }

    #[test]
    fn the_logs_of_twenty_attempts_are_kept_for_a_week() {
        let logs = tempfile::tempdir().unwrap();
        let reader = LogReader::new(logs.path().to_owned());
        for attempt in 1..=25 {
            write(logs.path(), (attempt, 0), "a\n");
        }
        reader.remove_old(&BTreeSet::new());
        let directory = log_file::directory(logs.path(), JOB);
        let parts = log_file::parts(&directory);
        assert_eq!(parts.len(), 20);
        assert_eq!(parts.keys().next().unwrap().0, Attempt(6));
        for part in parts.values().flatten() {
            File::open(&part.path).unwrap().set_modified(SystemTime::now() - 2 * KEPT).unwrap();
        }
        reader.remove_old(&BTreeSet::from([JOB]));
        assert!(directory.exists());
        reader.remove_old(&BTreeSet::new());
        assert!(!directory.exists());
    }
}
