//! `tidegate info`.

use serde::Serialize;
use serde_json::Value;
use tidegate_protocol::Result;
use tidegate_protocol::manifest::Totals;
use tidegate_rest::jobs::{JobDetails, JobFailure, JobProcess, JobState};
use tidegate_rest::why::Why;

use super::skew::skew;
use super::{JobInList, Session, why};
use crate::options::JobOption;
use crate::output::{Table, answer, answer_json, quoted, snake_case, span, utc};

/// Shows a job.
pub(crate) fn info(session: &Session, job: &JobOption) -> Result<()> {
    let id = session.find(job)?;
    let mut job = session.details(id)?;
    // What only its processes know. A job is shown without that if they cannot be asked, as while the leader changes.
    let runs = matches!(job.summary.state, JobState::Running | JobState::Stopping);
    let why = if runs { session.client.get::<Why>(&format!("/v1/jobs/{id}/why")).ok() } else { None };
    let awaited: Vec<String> = why.iter().flat_map(why::awaited).collect();
    if !awaited.is_empty() {
        job.waits_for = Some(awaited.join("; "));
    }
    let skew: Vec<String> = why.iter().flat_map(skew).collect();
    if session.is_json() {
        answer_json(&Info::of(&job, &skew)?)?;
    } else {
        answer(table(&job, &skew))?;
    }
    Ok(())
}

/// A job in the command line's JSON.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    summary: JobInList,
    auto_parallelism: bool,
    max_parallelism: u32,
    waits_for: Option<&'a str>,
    skew: &'a [String],
    failure: Option<&'a JobFailure>,
    restarts: u32,
    processes: &'a [JobProcess],
    checkpoints: Value,
    totals: &'a Totals,
    executable: &'a str,
    arguments: &'a [String],
    checkpoint_directory: &'a str,
}

impl<'a> Info<'a> {
    fn of(job: &'a JobDetails, skew: &'a [String]) -> Result<Self> {
        Ok(Self {
            summary: JobInList::from(&job.summary),
            auto_parallelism: job.auto_parallelism,
            max_parallelism: job.max_parallelism,
            waits_for: job.waits_for.as_deref(),
            skew,
            failure: job.failure.as_ref(),
            restarts: job.restarts,
            processes: &job.processes,
            checkpoints: snake_case(&job.checkpoints)?,
            totals: &job.totals,
            executable: &job.executable,
            arguments: &job.arguments,
            checkpoint_directory: &job.checkpoint_directory,
        })
    }
}

fn table(job: &JobDetails, skew: &[String]) -> Table {
    let summary = &job.summary;
    let mut table = Table::new(["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("Job", summary.name.clone());
    row("Id", summary.jid.to_string());
    row("State", summary.state.to_string());
    if let Some(waits_for) = &job.waits_for {
        row("Waits for", waits_for.clone());
    }
    row("Attempt", attempt(job));
    if let Some(JobFailure { attempt, cause, timestamp }) = &job.failure {
        row("Last failure", format!("of attempt {attempt}, {}: {cause}", utc(*timestamp)));
    }
    match summary.end_time {
        None => row("Submitted", format!("{}, {} ago", utc(summary.start_time), span(summary.duration))),
        Some(end) => {
            row("Submitted", utc(summary.start_time));
            row("Over since", format!("{}, after {}", utc(end), span(summary.duration)));
        }
    }
    let auto = if job.auto_parallelism { "automatic, " } else { "" };
    row("Workers", format!("{} ({auto}at most {})", summary.parallelism, job.max_parallelism));
    row("Checkpoints", checkpoints(job));
    skew.iter().for_each(|skew| row("Uneven", skew.clone()));
    totals(&job.totals).for_each(|line| row("Totals", line));
    row("Directory", job.checkpoint_directory.clone());
    row("Executable", job.executable.clone());
    if !job.arguments.is_empty() {
        let arguments: Vec<String> = job.arguments.iter().map(|argument| quoted(argument)).collect();
        row("Arguments", arguments.join(" "));
    }
    for process in &job.processes {
        row("Process", self::process(process));
    }
    table
}

/// What each operator has counted: `in: records in 1000, malformed 3`.
pub(super) fn totals(totals: &Totals) -> impl Iterator<Item = String> + use<'_> {
    totals.iter().filter_map(|(uid, counters)| {
        let counted = counters.iter().filter(|(_, count)| **count > 0);
        let counted: Vec<String> =
            counted.map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
        (!counted.is_empty()).then(|| format!("{uid}: {}", counted.join(", ")))
    })
}

fn attempt(job: &JobDetails) -> String {
    match (job.summary.attempt, job.restarts) {
        (0, _) => "none yet".to_owned(),
        (attempt, 0) => attempt.to_string(),
        (attempt, 1) => format!("{attempt} (1 restart)"),
        (attempt, restarts) => format!("{attempt} ({restarts} restarts)"),
    }
}

fn checkpoints(job: &JobDetails) -> String {
    let counts = &job.checkpoints;
    let last = counts.last_epoch.map_or_else(String::new, |epoch| format!(", the last one of epoch {epoch}"));
    let aborted = if counts.aborted == 0 { String::new() } else { format!(", {} aborted", counts.aborted) };
    format!("{} completed{last}{aborted}", counts.completed)
}

fn process(process: &JobProcess) -> String {
    let slots: Vec<String> = process.slots.iter().map(u32::to_string).collect();
    let pid = process.pid.map_or_else(|| "not started yet".to_owned(), |pid| format!("pid {pid}"));
    let workers = if slots.len() == 1 { "worker" } else { "workers" };
    format!("{pid} on {}, {workers} {}", process.taskmanager, slots.join(" "))
}
