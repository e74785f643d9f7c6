//! `tidegate logs`: what the processes of a job's attempt have logged.

use std::collections::BTreeMap;
use std::fmt::Write;

use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::{JobDetails, Logs, ProcessLog};

use super::Session;
use super::watch::Watch;
use crate::options::LogsOptions;
use crate::output::{answer, say};

/// Prints the logs of an attempt's processes. With `--follow`, those of later attempts, too, unless one was named.
pub(crate) fn logs(session: &Session, options: &LogsOptions) -> Result<()> {
    let job = session.find(&options.job)?;
    let details = session.details(job)?;
    let attempt = options.attempt.unwrap_or(details.summary.attempt);
    if attempt == 0 && !options.follow {
        return Err(not_yet(&details));
    }
    let mut reader = Reader::new(session, job, attempt);
    if options.follow {
        return follow(&mut reader, options);
    }
    reader.read_all(&details)?;
    if reader.positions.values().all(|position| *position == 0) {
        say(format_args!("Attempt {attempt} of the job {} has logged nothing.", details.summary.name));
    }
    Ok(())
}

fn not_yet(job: &JobDetails) -> Error {
    let waits_for = job.waits_for.as_ref().map_or_else(String::new, |what| format!(", it waits: {what}"));
    Error::job(format!("the job {} has not run yet{waits_for}", job.summary.name))
}

/// Reads until the job is over, or nobody reads the output any more.
fn follow(reader: &mut Reader<'_>, options: &LogsOptions) -> Result<()> {
    let mut watch = Watch::new();
    watch.until(|_| {
        // Asked for before the log is read: what a job has logged by its end is in the log then.
        let details = reader.session.details(reader.job)?;
        let is_read = reader.read_new(&details)?;
        let newest = details.summary.attempt;
        if is_read && options.attempt.is_none() && newest != reader.attempt {
            reader.finish()?;
            say(format_args!("attempt {newest}:"));
            *reader = Reader::new(reader.session, reader.job, newest);
            return Ok(None);
        }
        let is_over = details.summary.state.is_over() || newest > reader.attempt;
        Ok((!is_read || is_over).then_some(()))
    })?;
    reader.finish().map(drop)
}

/// Reads the logs of an attempt bit by bit.
struct Reader<'a> {
    session: &'a Session,
    job: JobId,
    attempt: u32,
    /// How far each taskmanager's log was read.
    positions: BTreeMap<String, u64>,
    /// The line of each log whose end was not read yet.
    unfinished: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn new(session: &'a Session, job: JobId, attempt: u32) -> Self {
        Self { session, job, attempt, positions: BTreeMap::new(), unfinished: BTreeMap::new() }
    }

    fn read_all(&mut self, details: &JobDetails) -> Result<bool> {
        Ok(self.read_new(details)? && self.finish()?)
    }

    /// Prints what was logged since the last call. False if nobody reads the output any more.
    fn read_new(&mut self, details: &JobDetails) -> Result<bool> {
        if self.attempt == 0 {
            return Ok(true);
        }
        for log in self.next_parts(details)? {
            let taskmanager = log.taskmanager.clone();
            let mut part = Some(log);
            // An answer has a part of a long log.
            while let Some(log) = part.take() {
                if !self.print(&log)? {
                    return Ok(false);
                }
                self.positions.insert(taskmanager.clone(), log.position);
                part = self.part(&taskmanager, log.position)?.filter(|log| !log.text.is_empty());
            }
        }
        Ok(true)
    }

    /// The next part of every log. The jobmanager knows whose there are; later, processes may have been added.
    fn next_parts(&mut self, details: &JobDetails) -> Result<Vec<ProcessLog>> {
        if self.positions.is_empty() {
            let target = format!("/v1/jobs/{}/logs?attempt={}&from=0", self.job, self.attempt);
            return Ok(self.session.client.get::<Logs>(&target)?.logs);
        }
        let of_attempt = details.processes.iter().filter(|_| details.summary.attempt == self.attempt);
        for process in of_attempt {
            self.positions.entry(process.taskmanager.clone()).or_default();
        }
        let parts = self.positions.iter().map(|(taskmanager, from)| self.part(taskmanager, *from));
        parts.filter_map(Result::transpose).collect()
    }

    fn part(&self, taskmanager: &str, from: u64) -> Result<Option<ProcessLog>> {
        let (job, attempt, taskmanager) = (self.job, self.attempt, encoded(taskmanager));
        let target = format!("/v1/jobs/{job}/logs?attempt={attempt}&taskmanager={taskmanager}&from={from}");
        Ok(self.session.client.get::<Logs>(&target)?.logs.into_iter().next())
    }

    /// Prints the whole lines of a part. False if nobody reads the output any more.
    fn print(&mut self, log: &ProcessLog) -> Result<bool> {
        if self.session.is_json() {
            let line = format_args!("{}\n", serde_json::to_string(log)?);
            return if log.text.is_empty() { Ok(true) } else { answer(line) };
        }
        let text = self.unfinished.remove(&log.taskmanager).unwrap_or_default() + &log.text;
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        self.unfinished.insert(log.taskmanager.clone(), text[end..].to_owned());
        answer(self.labelled(&log.taskmanager, &text[..end]))
    }

    /// Prints what is left of the logs' last lines.
    fn finish(&mut self) -> Result<bool> {
        let mut is_read = true;
        for (taskmanager, line) in std::mem::take(&mut self.unfinished) {
            is_read = is_read && (line.is_empty() || answer(self.labelled(&taskmanager, &line))?);
        }
        Ok(is_read)
    }

    /// Whole lines, each with its taskmanager in front.
    fn labelled(&self, taskmanager: &str, text: &str) -> String {
        text.lines().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{taskmanager} | {line}");
            all
        })
    }
}

/// A text as a part of a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}
