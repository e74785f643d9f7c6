//! A job with a slow step, and one with a step that hangs, as processes that get signals.
//!
//! The program is the test and, in a process of its own, the job: only so does the job have a command line and signals.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tidegate::testing::{Discard, VecSource};
use tidegate::{Job, Result};

/// In the environment of a job: milliseconds that its step takes for a record.
const STEP_MS: &str = "TIDEGATE_TEST_STEP_MS";
/// In the environment of a job: whether the step is behind an exchange.
const EXCHANGE: &str = "TIDEGATE_TEST_EXCHANGE";
/// A step that takes an hour.
const HANGS: u64 = 3_600_000;
/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
struct NoArgs {}

fn build(job: &mut Job, _: &NoArgs) -> Result<()> {
    let step = std::env::var(STEP_MS)?.parse().map(Duration::from_millis)?;
    let mut numbers = job.source("numbers", VecSource::partitions([0..100_000, 0..100_000]));
    if std::env::var(EXCHANGE)? == "true" {
        numbers = numbers.rebalance();
    }
    let slow = numbers.inspect(move |_| std::thread::sleep(step)).named("slow");
    slow.sink("out", Discard::named("out"));
    Ok(())
}

fn main() -> Result<()> {
    if std::env::var_os(STEP_MS).is_some() {
        return tidegate::main("slow", build);
    }
    for step_ms in [20, 200] {
        for workers in ["1", "2"] {
            for exchange in [false, true] {
                a_slow_step_does_not_hold_a_stop_up(step_ms, workers, exchange);
            }
        }
    }
    a_step_that_hangs_is_named_and_ended_by_a_second_signal();
    Ok(())
}

/// A job under way, killed when it is dropped.
struct Running {
    child: Child,
    /// What it says, line by line.
    lines: Receiver<String>,
}

impl Running {
    fn start(place: &Path, step_ms: u64, exchange: bool, workers: &str) -> Self {
        let program = std::env::current_exe().expect("the test's own program");
        let mut child = Command::new(program)
            .args(["--checkpoint-interval", "100ms", "--parallelism", workers, "--checkpoint-dir"])
            .arg(place)
            .envs([(STEP_MS, step_ms.to_string()), (EXCHANGE, exchange.to_string())])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the job starts");
        let (tell, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("its standard error"));
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines }
    }

    /// Waits for a line that has this in it.
    fn says(&self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|e| panic!("the job did not say '{text}': {e}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn interrupt(&self) {
        // SAFETY: a system call without pointers, to a child that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
    }

    fn wait(&mut self) -> ExitStatus {
        // Its standard error ends with it.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().expect("its status")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn a_slow_step_does_not_hold_a_stop_up(step_ms: u64, workers: &str, exchange: bool) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut job = Running::start(place.path(), step_ms, exchange, workers);
    let until = Instant::now() + PATIENCE;
    while !place.path().join("manifest-00000000005.json").exists() {
        assert!(Instant::now() < until, "five epochs did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    job.interrupt();
    let asked = Instant::now();
    let status = job.wait();
    let took = asked.elapsed();
    eprintln!(
        "{workers} workers, {step_ms} ms a record, {}: ended {took:.0?} after the signal",
        if exchange { "behind an exchange" } else { "behind the source" }
    );
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(5_000 + 20 * step_ms), "the stop took {took:?}");
}

fn a_step_that_hangs_is_named_and_ended_by_a_second_signal() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut job = Running::start(place.path(), HANGS, false, "1");
    let line = job.says("has not come back");
    assert_eq!(
        line,
        "warning: step 'slow' on worker 0, partition 'partition-0', offset 0, has not come back for 5 s"
    );
    job.interrupt();
    job.says("stopping");
    let line = job.says("the stop waits for it");
    assert!(
        line.starts_with("warning: step 'slow' on worker 0, partition 'partition-0', offset 0, has not"),
        "{line}"
    );
    job.interrupt();
    assert_eq!(job.wait().code(), Some(128 + libc::SIGINT));
}
