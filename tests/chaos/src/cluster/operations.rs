//! A rescale, a savepoint and a stop amid faults: in one case of two, something is killed while they are under way.
//!
//! Then an operation may fail, and must say so; the job goes on either way. Undisturbed, it must succeed.

use crate::cluster::fault::Fault;
use crate::cluster::inflict::{Inflicted, kill};
use crate::cluster::round::Round;
use crate::cluster::schedule::Draw;
use crate::failure::{Failure, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The longest time from the beginning of an operation to the kill in its middle.
const MIDDLE: Duration = Duration::from_millis(600);

/// How an operation went.
struct Done {
    /// What was killed in its middle; empty if nothing was.
    killed: String,
    /// What it printed, or why it failed.
    answer: Result<String>,
}

/// Rescales the job to any number of workers that there is room for.
pub fn rescale(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let workers = 1 + draw.dice[0] % u64::from(round.options.slots_total());
    let words = ["rescale", &round.job.clone(), "-p", &workers.to_string()].map(String::from);
    let began = SystemTime::now();
    let done = operate(round, draw, &words)?;
    // If the answer was lost, the job may have been rescaled nevertheless.
    let before = u64::from(round.parallelism);
    let wanted = |parallelism: u64| parallelism == workers || (done.answer.is_err() && parallelism == before);
    let info = round.info_when(|info| wanted(info.parallelism));
    let info = info.ok_or_else(|| Failure::new(format!("the job does not run with {workers} workers")))?;
    round.parallelism = info.parallelism as u32;
    Ok(Inflicted { over: began, ..Inflicted::now(format!("rescale to {workers}{}", done.told())) })
}

/// Makes a savepoint.
pub fn savepoint(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let dir = round.savepoints()?;
    let words = ["savepoint", &round.job, &dir.to_string_lossy(), "-o", "json"].map(String::from);
    let began = SystemTime::now();
    let done = operate(round, draw, &words)?;
    if let Ok(answer) = &done.answer {
        must_exist(&path_in(answer)?)?;
    }
    Ok(Inflicted { over: began, ..Inflicted::now(format!("savepoint{}", done.told())) })
}

/// Stops the job with a savepoint, and starts it from there as a new job.
pub fn stop(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let dir = round.savepoints()?;
    let words =
        ["stop", "--savepoint-path", &dir.to_string_lossy(), &round.job, "-o", "json"].map(String::from);
    let began = SystemTime::now();
    let done = operate(round, draw, &words)?;
    let told = done.told();
    // A stop whose savepoint has failed leaves the job running, or over with its checkpoints only.
    let info = round.info_when(|info| info.is_over() || (done.answer.is_err() && info.state == "RUNNING"));
    let info = info.ok_or_else(|| Failure::new("after a stop the job is neither over nor running"))?;
    if !info.is_over() {
        return Ok(Inflicted { over: began, ..Inflicted::now(format!("stop{told}; the job goes on")) });
    }
    if info.state != "FINISHED" {
        return Err(Failure::new(format!("after a stop the job is {}", info.state)));
    }
    let path = match &done.answer {
        Ok(answer) => path_in(answer)?,
        Err(_) => PathBuf::from(info.checkpoint_directory),
    };
    must_exist(&path)?;
    round.submit(Some(&path.to_string_lossy()))?;
    let what = format!("stop{told}; a new job starts from {}", path.display());
    Ok(Inflicted { over: began, ..Inflicted::now(what) })
}

/// Runs a verb to its end, with a kill in its middle if chance says so.
fn operate(round: &mut Round<'_>, draw: &Draw, words: &[String]) -> Result<Done> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verb = round.members.client.start(&words)?;
    let [_, when, what, which] = draw.dice;
    let mut killed = String::new();
    if what.is_multiple_of(2) {
        round.hold(MIDDLE.mul_f64((when % 1_000) as f64 / 1_000.0))?;
        let kills = [Fault::KillProcess, Fault::KillTaskmanager, Fault::KillJobmanager];
        let fault = kills[(what / 2 % 3) as usize];
        let is_too_late = fault == Fault::KillProcess && round.members.job_processes().is_empty();
        if !is_too_late {
            killed = kill(round, fault, which, draw.down)?;
        }
    }
    let answer = verb.result(2 * round.options.patience());
    match answer {
        Err(failure) if killed.is_empty() || failure.to_string().contains("hangs") => Err(failure),
        answer => Ok(Done { killed, answer }),
    }
}

impl Done {
    fn told(&self) -> String {
        let killed =
            if self.killed.is_empty() { String::new() } else { format!(", amid it {}", self.killed) };
        match &self.answer {
            Ok(_) => killed,
            Err(failure) => format!("{killed}, failed ({})", last_of(&failure.to_string())),
        }
    }
}

/// The end of a text that may be long.
fn last_of(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    let all: Vec<char> = line.chars().collect();
    all[all.len().saturating_sub(160)..].iter().collect()
}

fn path_in(answer: &str) -> Result<PathBuf> {
    let value: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
    let path = value["path"].as_str();
    let path = path.ok_or_else(|| Failure::new(format!("no path of a savepoint in the answer {answer}")))?;
    Ok(PathBuf::from(path.strip_prefix("file://").unwrap_or(path)))
}

fn must_exist(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    Err(Failure::new(format!("the cluster names the snapshot {}, and it is not there", path.display())))
}
