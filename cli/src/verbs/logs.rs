//! `tidegate logs`: what the processes of a job's attempt have logged.
//!
//! Each log is on the host that has written it. Those of the hosts that answer are printed, and the others are named on
//! standard error: a log is wanted most when a host is gone. It is an error if there is nothing to print because of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::{JobDetails, Logs, ProcessLog, SilentTaskManager};

use super::Session;
use super::watch::Watch;
use crate::options::LogsOptions;
use crate::output::{answer, say};

/// What stays as it is in a part of a URL: letters, digits and the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Prints the logs of an attempt's processes. With `--follow`, those of later attempts, too, unless one was named.
pub(crate) fn logs(session: &Session, options: &LogsOptions) -> Result<()> {
    let job = session.find(&options.job)?;
    let details = session.details(job)?;
    let attempt = options.attempt.unwrap_or(details.summary.attempt);
    if attempt == 0 && !options.follow {
        return Err(not_yet(&details));
    }
    if attempt > details.summary.attempt {
        let (name, newest) = (&details.summary.name, details.summary.attempt);
        return Err(Error::job(format!(
            "the job {name} has no attempt {attempt}; its newest one is attempt {newest}"
        )));
    }
    let mut reader = Reader::new(session, job, attempt);
    if options.follow {
        follow(&mut reader, options)?;
    } else {
        reader.read_all(&details)?;
    }
    reader.check_has_printed(&details.summary.name)?;
    // Who follows a log was told when it happened.
    if !options.follow {
        reader.say_who_is_silent();
        if !reader.has_printed {
            say(format_args!("Attempt {attempt} of the job {} has logged nothing.", details.summary.name));
        }
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
        reader.say_who_is_silent();
        let newest = details.summary.attempt;
        if is_read && options.attempt.is_none() && newest != reader.attempt {
            reader.finish()?;
            say(format_args!("attempt {newest}:"));
            let has_printed = reader.has_printed;
            *reader = Reader { has_printed, ..Reader::new(reader.session, reader.job, newest) };
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
    /// Who has not answered the last time.
    silent: BTreeMap<String, SilentTaskManager>,
    /// The taskmanagers of which the user was told that they do not answer.
    told: BTreeSet<String>,
    /// Whether there was anything to print.
    has_printed: bool,
}

impl<'a> Reader<'a> {
    fn new(session: &'a Session, job: JobId, attempt: u32) -> Self {
        Self {
            session,
            job,
            attempt,
            positions: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            silent: BTreeMap::new(),
            told: BTreeSet::new(),
            has_printed: false,
        }
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
            return self.ask(&format!("/v1/jobs/{}/logs?attempt={}&from=0", self.job, self.attempt));
        }
        let of_attempt = details.processes.iter().filter(|_| details.summary.attempt == self.attempt);
        for process in of_attempt {
            self.positions.entry(process.taskmanager.clone()).or_default();
        }
        let positions = self.positions.clone();
        let parts = positions.iter().map(|(taskmanager, from)| self.part(taskmanager, *from));
        parts.filter_map(Result::transpose).collect()
    }

    fn part(&mut self, taskmanager: &str, from: u64) -> Result<Option<ProcessLog>> {
        let (job, attempt, taskmanager) = (self.job, self.attempt, encoded(taskmanager));
        let target = format!("/v1/jobs/{job}/logs?attempt={attempt}&taskmanager={taskmanager}&from={from}");
        Ok(self.ask(&target)?.into_iter().next())
    }

    /// Asks for parts of logs. Who does not answer is asked again the next time, from where its log was read to.
    fn ask(&mut self, target: &str) -> Result<Vec<ProcessLog>> {
        let Logs { logs, silent } = self.session.client.get(target)?;
        for log in &logs {
            self.silent.remove(&log.taskmanager);
        }
        for one in silent {
            self.positions.entry(one.taskmanager.clone()).or_default();
            self.silent.insert(one.taskmanager.clone(), one);
        }
        Ok(logs)
    }

    /// It is an error if there was nothing to print, and it may be on hosts that do not answer.
    fn check_has_printed(&self, job: &str) -> Result<()> {
        match named(self.silent.values()) {
            Some(silent) if !self.has_printed => Err(Error::environment(format!(
                "no log of attempt {} of the job {job} could be read, as these taskmanagers could not be asked: {silent}",
                self.attempt
            ))),
            _ => Ok(()),
        }
    }

    /// Tells the user who has stopped to answer since the last call.
    fn say_who_is_silent(&mut self) {
        let new = self.silent.values().filter(|one| !self.told.contains(&one.taskmanager));
        if let Some(silent) = named(new) {
            say(format_args!("These taskmanagers could not be asked for their logs: {silent}"));
        }
        self.told = self.silent.keys().cloned().collect();
    }

    /// Prints the whole lines of a part. False if nobody reads the output any more.
    fn print(&mut self, log: &ProcessLog) -> Result<bool> {
        self.has_printed |= !log.text.is_empty();
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

/// Who does not answer, and why; None if that is nobody.
fn named<'a>(silent: impl Iterator<Item = &'a SilentTaskManager>) -> Option<String> {
    let of_one = |one: &SilentTaskManager| match (&*one.host, &*one.reason) {
        ("", reason) => format!("{} ({reason})", one.taskmanager),
        (host, reason) => format!("{} at {host} ({reason})", one.taskmanager),
    };
    let all: Vec<String> = silent.map(of_one).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A text as a part of a query.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}
