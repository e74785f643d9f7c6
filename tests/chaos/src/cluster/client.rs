//! The command line by which users talk to the cluster.

use crate::cluster::processes::Pid;
use crate::failure::{Context, Failure, Result};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A question that is answered at once may take so long on a busy machine.
const QUESTION: Duration = Duration::from_secs(10);

/// What is known of a job.
#[derive(Debug, Clone)]
pub struct JobInfo {
    /// `RUNNING`, `RESTARTING`, `FINISHED` and so on.
    pub state: String,
    /// Which start of the job it is.
    pub attempt: u64,
    /// Its workers.
    pub parallelism: u64,
    /// Its processes, each with the taskmanager that runs it.
    pub processes: Vec<(String, Pid)>,
    /// The directory of its snapshots.
    pub checkpoint_directory: String,
}

impl JobInfo {
    /// True if nothing follows.
    pub fn is_over(&self) -> bool {
        ["FINISHED", "FAILED", "CANCELED"].contains(&self.state.as_str())
    }

    fn of(answer: &Value) -> Option<JobInfo> {
        let process = |process: &Value| {
            Some((process["taskmanager"].as_str()?.to_owned(), Pid::try_from(process["pid"].as_u64()?).ok()?))
        };
        Some(JobInfo {
            state: answer["state"].as_str()?.to_owned(),
            attempt: answer["attempt"].as_u64()?,
            parallelism: answer["parallelism"].as_u64()?,
            processes: answer["processes"].as_array()?.iter().filter_map(process).collect(),
            checkpoint_directory: answer["checkpoint_directory"].as_str()?.to_owned(),
        })
    }
}

/// Starts `tidegate` with a verb.
pub struct Client {
    /// Makes the command, with all that comes before the verb.
    pub command: Box<dyn Fn() -> Command>,
}

impl Client {
    /// Runs a verb to its end, and returns what it prints.
    pub fn run(&self, words: &[&str], patience: Duration) -> Result<String> {
        self.start(words)?.result(patience)
    }

    /// Starts a verb.
    pub fn start(&self, words: &[&str]) -> Result<Verb> {
        let mut command = (self.command)();
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("cannot start tidegate")?;
        Ok(Verb { words: words.join(" "), child, started: Instant::now() })
    }

    /// What is known of the job; None while the cluster does not answer.
    pub fn info(&self, job: &str) -> Option<JobInfo> {
        let said = self.run(&["info", job, "-o", "json"], QUESTION).ok()?;
        JobInfo::of(&serde_json::from_str(&said).ok()?)
    }

    /// What a verb prints, or why it does not, for people.
    pub fn shown(&self, words: &[&str]) -> String {
        self.run(words, QUESTION).unwrap_or_else(|failure| failure.to_string())
    }
}

/// A verb that is under way. Dropping it kills the process.
pub struct Verb {
    words: String,
    child: Child,
    started: Instant,
}

impl Verb {
    /// Waits for its end, at most until it has run for `patience`, and returns what it has printed.
    pub fn result(mut self, patience: Duration) -> Result<String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for tidegate")? {
                break status;
            }
            if self.started.elapsed() > patience {
                let seconds = patience.as_secs();
                return Err(Failure::new(format!("tidegate {} hangs: no end after {seconds} s", self.words)));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = read(self.child.stdout.take());
        if status.success() {
            return Ok(said);
        }
        let why = read(self.child.stderr.take());
        Err(Failure::new(format!("tidegate {}: {status}: {}", self.words, why.trim())))
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Verbs print less than a pipe holds.
fn read(pipe: Option<impl Read>) -> String {
    let mut said = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let answer = serde_json::json!({"state": "RUNNING", "attempt": 3, "parallelism": 4, "checkpoint_directory": "/s/jobs/1",
            "processes": [{"taskmanager": "tm-1", "pid": 77, "slots": [0]}, {"taskmanager": "tm-2", "pid": null, "slots": [1]}]});
        let info = JobInfo::of(&answer).expect("complete");
        assert_eq!((info.state.as_str(), info.attempt, info.parallelism), ("RUNNING", 3, 4));
        assert_eq!(info.processes, [("tm-1".to_owned(), 77)]);
        assert!(!info.is_over());
    }

    #[test]
    fn a_verb_that_fails_says_why_and_one_that_hangs_is_ended() {
        let client = Client { command: Box::new(|| Command::new("sh")) };
        let failure = client
            .run(&["-c", "echo no such job >&2; exit 3"], QUESTION)
            .expect_err("exit code 3")
            .to_string();
        assert!(failure.ends_with("no such job"), "{failure}");
        let failure = client.run(&["-c", "sleep 60"], Duration::ZERO).expect_err("hangs").to_string();
        assert!(failure.contains("hangs"), "{failure}");
    }
}
