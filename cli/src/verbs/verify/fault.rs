//! The faults that a user allows, in turns and at random instants.
//!
//! What is killed here is looked up in `/proc` first: it has to be a process of this verification's job, or the parent of one. A process
//! number alone may belong to somebody else on this host.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use tidegate_protocol::{Error, ErrorContext, JobId, Result};
use tidegate_rest::jobs::JobDetails;

use super::interrupt::Interrupt;
use crate::options::ExactlyOnceOptions;
use crate::output::say;

/// For how long a process of the job is looked for: a restart takes less.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks at a command that runs.
const INTERVAL: Duration = Duration::from_millis(20);

/// A fault that a user allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One of the job's processes is killed.
    Job,
    /// A taskmanager is killed that runs one.
    TaskManager,
    /// This is run by a shell.
    Command(String),
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.trim() {
            "" => Err("it must be job, taskmanager or a command".to_owned()),
            "job" => Ok(Self::Job),
            "taskmanager" => Ok(Self::TaskManager),
            command => Ok(Self::Command(command.to_owned())),
        }
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Job => f.write_str("job"),
            Self::TaskManager => f.write_str("taskmanager"),
            Self::Command(command) => f.write_str(command),
        }
    }
}

/// A fault that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Made {
    pub(super) fault: Fault,
    /// When, in milliseconds since the first row had come out.
    pub(super) at: u64,
    /// How long it took to make it.
    pub(super) duration: u64,
    /// What has become of it.
    pub(super) outcome: Outcome,
}

/// What has become of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// This process was killed.
    Killed(u32),
    /// The command has ended with this code.
    Exit(i32),
    /// The command was killed by this signal.
    Signal(i32),
}

impl Outcome {
    /// Whether there was a fault: a command that fails may have made none.
    pub(super) fn is_made(&self) -> bool {
        matches!(self, Self::Killed(_) | Self::Exit(0))
    }
}

/// The faults to come.
pub(super) struct Faults<'a> {
    faults: &'a [Fault],
    every: Duration,
    random: Random,
    job: JobId,
    /// What only the job's processes have on their command lines.
    mark: &'a str,
    began: Instant,
    next: Instant,
    looking_since: Option<Instant>,
    pub(super) made: Vec<Made>,
}

impl<'a> Faults<'a> {
    /// Faults from now on. The first one comes before the end, however far apart they are to be.
    pub(super) fn begin(options: &'a ExactlyOnceOptions, seed: u64, job: JobId, mark: &'a str) -> Self {
        let (every, began) = (Duration::from_secs(options.every.into()), Instant::now());
        let mut random = Random(seed);
        let first = every.min(Duration::from_secs(options.seconds.into()) / 2);
        let next = began + random.around(first);
        Self {
            faults: &options.fault,
            every,
            random,
            job,
            mark,
            began,
            next,
            looking_since: None,
            made: Vec::new(),
        }
    }

    /// Makes the next fault if it is time for it.
    ///
    /// # Errors
    /// If it cannot be made from here.
    pub(super) fn make_due(&mut self, details: &JobDetails, interrupt: &Interrupt) -> Result<()> {
        let now = Instant::now();
        let Some(fault) = self.faults.get(self.made.len() % self.faults.len().max(1)) else { return Ok(()) };
        if now < self.next {
            return Ok(());
        }
        let outcome = match fault {
            Fault::Job => self.victim(details).map_or(Ok(None), kill),
            Fault::TaskManager => self.victim(details).and_then(parent).map_or(Ok(None), kill),
            Fault::Command(command) => run(command, self.job, interrupt).map(Some),
        };
        let Some(outcome) = outcome? else { return self.look_again(details) };
        let [at, duration] = [now - self.began, now.elapsed()].map(|duration| duration.as_millis() as u64);
        if let (Fault::Command(_), false) = (fault, outcome.is_made()) {
            say(format_args!("Warning: the fault '{fault}' has failed: {}.", said(&outcome)));
        }
        self.made.push(Made { fault: fault.clone(), at, duration, outcome });
        self.looking_since = None;
        self.next = Instant::now() + self.random.around(self.every);
        Ok(())
    }

    /// A process of the job that runs on this host.
    fn victim(&mut self, details: &JobDetails) -> Option<u32> {
        let all = details.processes.iter().filter_map(|process| process.pid);
        let here: Vec<u32> = all.filter(|pid| has_argument(*pid, self.mark)).collect();
        here.get(self.random.below(here.len())).copied()
    }

    /// While a job restarts, it has no process.
    fn look_again(&mut self, details: &JobDetails) -> Result<()> {
        if self.looking_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return Ok(());
        }
        let places = details.processes.iter().map(|process| match process.pid {
            Some(pid) => format!("process {pid} on {}", process.taskmanager),
            None => format!("a process on {} that has not started", process.taskmanager),
        });
        let places = places.collect::<Vec<_>>().join(", ");
        Err(Error::job(format!(
            "no process of the job is on this host, so that the faults job and taskmanager cannot be made from here; the cluster has {}. \
             Give a command that makes the fault, such as --fault 'ssh HOST pkill -9 -f [t]idegate-verify-'",
            if places.is_empty() { "none at all" } else { places.as_str() }
        )))
    }
}

/// Whether a process of this host has an argument on its command line.
fn has_argument(pid: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
}

/// The process that has started another one: for a process of a job, its taskmanager. None if that is gone.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    has_argument(parent, "taskmanager").then_some(parent)
}

/// Kills a process; None if it has ended just now.
fn kill(pid: u32) -> Result<Option<Outcome>> {
    let number = libc::pid_t::try_from(pid).map_err(|error| Error::internal(error.to_string()))?;
    // SAFETY: a system call without pointers.
    if unsafe { libc::kill(number, libc::SIGKILL) } == 0 {
        return Ok(Some(Outcome::Killed(pid)));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(None),
        _ => Err(Error::job(format!("the process {pid} cannot be killed: {error}"))),
    }
}

/// Runs a command to its end. Its output is no part of the answer.
fn run(command: &str, job: JobId, interrupt: &Interrupt) -> Result<Outcome> {
    let output = || io::stderr().as_fd().try_clone_to_owned();
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("TIDEGATE_JOB", job.to_string())
        .stdin(Stdio::null())
        .stdout(output()?)
        .spawn()
        .context(|| format!("the fault '{command}' cannot be made"))?;
    wait(&mut child, interrupt).map(|status| outcome(&status))
}

/// Ctrl-C reaches the command as well: it is in the same process group.
fn wait(child: &mut Child, interrupt: &Interrupt) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt.is_requested() {
            child.kill()?;
            return Ok(child.wait()?);
        }
        thread::sleep(INTERVAL);
    }
}

fn outcome(status: &ExitStatus) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    match status.code() {
        Some(code) => Outcome::Exit(code),
        None => Outcome::Signal(status.signal().unwrap_or_default()),
    }
}

/// What has become of a fault, as people read it.
pub(super) fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Killed(pid) => format!("process {pid} was killed"),
        Outcome::Exit(code) => format!("exit code {code}"),
        Outcome::Signal(signal) => format!("ended by signal {signal}"),
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below another one; 0 if that is 0.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// Half as long to one and a half times as long.
    fn around(&mut self, duration: Duration) -> Duration {
        duration / 2 + duration.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_drawn_around_the_wanted_time_and_the_same_from_the_same_seed() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..100).map(|_| random.around(Duration::from_secs(10)).as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let drawn = draw(7);
        assert!(drawn.iter().all(|seconds| (5.0..15.0).contains(seconds)), "{drawn:?}");
        assert!(drawn.iter().any(|seconds| *seconds < 7.0) && drawn.iter().any(|seconds| *seconds > 13.0));
    }

    #[test]
    fn a_process_is_known_by_its_argument_and_a_parent_by_its_verb() {
        let mut child = Command::new("sh").args(["-c", "sleep 60; exit 1", "the-topic"]).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        // Before it executes the program, it has the command line of this one.
        while !has_argument(child.id(), "the-topic") && Instant::now() < until {
            thread::sleep(INTERVAL);
        }
        assert!(has_argument(child.id(), "the-topic") && !has_argument(child.id(), "the"));
        assert_eq!(parent(child.id()), None, "this test is no taskmanager");
        assert_eq!(kill(child.id()).unwrap(), Some(Outcome::Killed(child.id())));
        assert_eq!(outcome(&child.wait().unwrap()), Outcome::Signal(libc::SIGKILL));
    }

    #[test]
    fn a_command_is_told_the_job_and_its_exit_code_is_kept() {
        let job: JobId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let interrupt = Interrupt::default();
        let exit = |command| run(command, job, &interrupt).unwrap();
        assert_eq!(exit("test $TIDEGATE_JOB = 0123456789abcdef0123456789abcdef"), Outcome::Exit(0));
        assert_eq!(exit("exit 3"), Outcome::Exit(3));
        assert!(!exit("exit 3").is_made());
    }
}
