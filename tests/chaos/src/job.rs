//! The process under test: known by its command line, its exit and what it prints.

use crate::failure::{Context, Failure, Result};
use crate::workbench::Workbench;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a running job is looked at.
const GLANCE: Duration = Duration::from_millis(3);

/// How to start the job.
pub struct Job {
    /// Its executable.
    pub bin: PathBuf,
    /// Its model.
    pub model: PathBuf,
    /// Its checkpoint interval.
    pub interval: String,
    /// More flags.
    pub extra: Vec<String>,
}

impl Job {
    /// The failpoints that the job lists.
    pub fn failpoints(&self) -> Result<Vec<String>> {
        let done = Command::new(&self.bin).arg("--list-failpoints").output();
        let done = done.context(format!("cannot start {}", self.bin.display()))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Failure::new(format!("{} --list-failpoints failed: {said}", self.bin.display())));
        }
        let words = String::from_utf8_lossy(&done.stdout).into_owned();
        Ok(words.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect())
    }

    /// Starts a run that nothing disturbs from within; what is printed goes into the log.
    pub fn start(&self, bench: &Workbench, parallelism: usize) -> Result<Run> {
        self.start_with(bench, parallelism, "", &[])
    }

    /// Starts a run. `failpoints` goes into the variable FAILPOINTS, `more` are flags that come last.
    pub fn start_with(
        &self,
        bench: &Workbench,
        parallelism: usize,
        failpoints: &str,
        more: &[&str],
    ) -> Result<Run> {
        let _ = fs::remove_file(&bench.summary);
        let mut command = self.command(bench, parallelism);
        command.args(more);
        if !failpoints.is_empty() {
            command.env("FAILPOINTS", failpoints);
        }
        let (log, start) = open_log(bench, &format!("FAILPOINTS={failpoints:?} {command:?}"))?;
        let copy = log.try_clone().context("cannot share the log")?;
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let started = Instant::now();
        let child = command.spawn().context(format!("cannot start {}", self.bin.display()))?;
        Ok(Run { child, started, voice: Voice { log: bench.log.clone(), start } })
    }

    fn command(&self, bench: &Workbench, parallelism: usize) -> Command {
        let mut command = Command::new(&self.bin);
        let paths = [
            ("--input", &bench.input),
            ("--output", &bench.output),
            ("--dead-letters", &bench.dead_letters),
            ("--model", &self.model),
            ("--checkpoint-dir", &bench.checkpoints),
            ("--summary", &bench.summary),
        ];
        for (name, path) in paths {
            command.arg(name).arg(path);
        }
        command.arg("--parallelism").arg(parallelism.to_string());
        command.arg("--checkpoint-interval").arg(&self.interval).args(&self.extra);
        command
    }
}

/// Opens the log for one more run, and says where in it that run begins.
fn open_log(bench: &Workbench, headline: &str) -> Result<(File, u64)> {
    let opened = OpenOptions::new().create(true).append(true).open(&bench.log);
    let mut log = opened.context(format!("cannot open {}", bench.log.display()))?;
    writeln!(log, "=== {headline}").context("cannot write the log")?;
    let start = log.seek(SeekFrom::End(0)).context("cannot write the log")?;
    Ok((log, start))
}

/// One run of the job. Dropping it kills the process.
pub struct Run {
    child: Child,
    started: Instant,
    voice: Voice,
}

impl Run {
    /// Time since the start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The exit, if the process has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for the job")
    }

    /// Waits until the process ends or is `age` old, and has `look` look every few milliseconds.
    pub fn until(
        &mut self,
        age: Duration,
        mut look: impl FnMut() -> Result<bool>,
    ) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if self.age() >= age || look()? {
                return Ok(None);
            }
            std::thread::sleep(GLANCE.min(age.saturating_sub(self.age())));
        }
    }

    /// kill -9, and waits for the end. A process that has ended before keeps its own exit.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.child.kill().context("cannot kill the job")?;
        self.child.wait().context("cannot wait for the job")
    }

    /// SIGTERM: asks the job to stop.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(libc::SIGTERM);
        }
        Ok(())
    }

    /// Does something while the process stands still.
    pub fn paused<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // A process that has ended needs no pause, and its number may be another's.
        let alive = self.ended()?.is_none();
        if alive {
            self.signal(libc::SIGSTOP);
        }
        let done = work();
        if alive {
            self.signal(libc::SIGCONT);
        }
        done
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: a system call without pointers; the child is not waited for yet, so the number is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// What this run prints.
    pub fn voice(&self) -> Voice {
        self.voice.clone()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What one run printed, as far as it has.
#[derive(Clone)]
pub struct Voice {
    log: PathBuf,
    start: u64,
}

impl Voice {
    /// All of it.
    pub fn said(&self) -> String {
        let mut said = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.start))?;
            log.read_to_end(&mut said)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&said).into_owned(),
            Err(e) => format!("(cannot read the log: {e})"),
        }
    }

    /// True if it has one of `words`, in whatever case.
    pub fn mentions(&self, words: &[&str]) -> bool {
        let said = self.said().to_lowercase();
        words.iter().any(|word| said.contains(word))
    }
}

/// True for an end by kill -9, which is what a failpoint does too. An abort is a crash.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGKILL)
}
