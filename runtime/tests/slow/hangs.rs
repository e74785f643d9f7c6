//! Steps that do not come back: they are named in the log and in the metrics.

use std::time::{Duration, Instant};

use tidegate::testing::{Discard, Running, TestJob, TestSource};
use tidegate::{Context, KeyedProcess, Result, Watermarks};

use crate::gate::Gate;

/// How long anything that is waited for may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(50);

/// Waits until the metrics have a line with all of these.
pub(crate) fn until_metrics(running: &Running, all: &[&str]) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = running.metrics();
        if let Some(line) = text.lines().find(|line| all.iter().all(|part| line.contains(part))) {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "no {all:?} in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the job has logged something, a warning or not, that begins like this and goes on like that.
pub(crate) fn until_note(job: &TestJob, begin: &str, more: &str) {
    let until = Instant::now() + PATIENCE;
    let text = |note: &String| note.strip_prefix("warning: ").unwrap_or(note).to_owned();
    while !job.notes().iter().map(text).any(|note| note.starts_with(begin) && note.contains(more)) {
        assert!(Instant::now() < until, "no '{begin}..{more}' in {:?}", job.notes());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// 0 to 99 in one partition.
fn numbers() -> TestSource<u32> {
    let source = TestSource::new(1).called("numbers");
    source.extend(0, 0..100);
    source
}

fn value(line: &str) -> f64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_step_that_hangs_is_named_until_it_comes_back_and_the_stop_waits_for_it() {
    let (gate, source) = (Gate::default(), numbers());
    let at = gate.clone();
    let job = TestJob::new(move |job| {
        let gate = at.clone();
        let hangs =
            job.source("numbers", source.clone()).inspect(move |n| gate.wait_at_50(*n)).named("hangs");
        hangs.sink("out", Discard::named("out"));
        Ok(())
    });
    let running = job.start();
    let line = until_metrics(&running, &["tidegate_stuck_seconds{", "operator=\"hangs\",worker=\"0\""]);
    assert!(line.contains("record=\"partition 'partition-0', offset 50\""), "{line}");
    assert!(value(&line) >= 4.0, "{line}");
    // The time of the host and of the barrier that waits goes on.
    for metric in ["tidegate_busy_microseconds{", "tidegate_alignment_microseconds{"] {
        let line = until_metrics(&running, &[metric, "operator=\"numbers\""]);
        assert!(value(&line) >= 3e6, "{line}");
    }
    let named = "step 'hangs' on worker 0, partition 'partition-0', offset 50, has ";
    until_note(&job, named, "not come back for ");

    let stop = std::thread::spawn(move || running.stop());
    until_note(
        &job,
        named,
        "; the stop waits for it, and a second Ctrl-C or SIGTERM ends the job without it",
    );
    gate.open();
    stop.join().unwrap().unwrap();
}

/// Waits at a record.
struct Hangs(Gate);

impl KeyedProcess for Hangs {
    type Key = u32;
    type In = u32;
    type State = u32;
    type Out = u32;
    type Side = ();

    fn on_record(&mut self, n: u32, _: &mut Context<'_, Self>) -> Result<()> {
        self.0.wait_at_50(n);
        Ok(())
    }
}

#[test]
fn a_step_with_a_key_that_hangs_is_named_by_its_event_time_and_comes_back() {
    let (gate, source) = (Gate::default(), numbers());
    let at = gate.clone();
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", source.clone());
        let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
        let hangs = numbers.key_by_value(|n| n % 7).process("hangs", Hangs(at.clone()));
        hangs.sink("out", Discard::named("out"));
        Ok(())
    });
    let job = job.parallelism(2);
    let running = job.start();
    let line = until_metrics(&running, &["tidegate_stuck_seconds{", "operator=\"hangs\""]);
    assert!(
        line.contains("record=\"key with hash ") && line.contains(", record with event time 50\""),
        "{line}"
    );
    gate.open();
    until_note(&job, "step 'hangs' on worker ", "has not come back for ");
    let until = Instant::now() + PATIENCE;
    while running.metrics().contains("tidegate_stuck_seconds") {
        assert!(Instant::now() < until, "{}", running.metrics());
        std::thread::sleep(Duration::from_millis(50));
    }
    until_note(&job, "step 'hangs' on worker ", " has come back after ");
    running.stop().unwrap();
}
