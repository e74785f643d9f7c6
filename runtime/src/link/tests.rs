//! A process whose driver is the test.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tidegate_protocol::manifest::SlotSnapshot;
use tidegate_protocol::{Epoch, Slot};

use super::*;
use crate::OnError;
use crate::api::job::{BuildJob, graph_builder};
use crate::api::{Job, Watermarks};
use crate::checkpoint::snapshot_thread::CollectedEpoch;
use crate::dataflow::process::Process;
use crate::dataflow::sockets::Sockets;
use crate::dataflow::worker::{Workers, start};
use crate::dataflow::worker_context::WorkerContext;
use crate::state::store::Rows;
use crate::testing::{Discard, TestSource, parts};
use tidegate_protocol::Error;

/// Running workers; they end when it is dropped.
struct Attempt {
    process: Arc<Process>,
    inbox: Receiver<ToDriver>,
    workers: Option<Workers>,
}

impl Attempt {
    fn start(root: &Path, source: &TestSource<i64>) -> Self {
        let source = source.clone();
        let build: BuildJob = Arc::new(move |job| {
            job.source(parts::SOURCE, source.clone()).sink("out", Discard::named("out"));
            Ok(())
        });
        Self::of(|| parts::process(root, 1, None), build)
    }

    fn of(new: impl Fn() -> (Arc<Process>, Receiver<ToDriver>), build: BuildJob) -> Self {
        let (process, inbox) = new();
        let mut job = Job::new(Rc::new(WorkerContext::new(Slot(0), new().0)));
        build(&mut job).unwrap();
        let outline = job.outline();
        let workers =
            start(&process, Sockets::within(1).unwrap().remove(0), graph_builder(build, outline)).unwrap();
        Self { process, inbox, workers: Some(workers) }
    }

    /// Sends several commands to the process at once.
    fn report(&self, commands: impl IntoIterator<Item = Command>) {
        let attempt = self.process.setup.attempt;
        let messages = commands.into_iter().map(|command| ToProcess { attempt, command });
        self.process.driver.receive(messages.collect());
    }

    fn next(&self) -> String {
        match self.inbox.recv_timeout(Duration::from_secs(20)) {
            Ok(ToDriver { report: Report::Acked { epoch, .. }, .. }) => format!("acked {epoch}"),
            Ok(message) => format!("{:?}", message.report),
            Err(error) => panic!("no further report: {error}"),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.process.driver.abort();
        drop(self.workers.take());
    }
}

fn trigger(epoch: u64, last: bool) -> Command {
    Command::Trigger { epoch: Epoch(epoch), last }
}

fn acked(epoch: u64) -> Report {
    Report::Acked { slot: Slot(0), epoch: Epoch(epoch), part: Box::new(SlotSnapshot::default()) }
}

#[test]
fn a_source_that_has_ended_ends_all_epochs_that_are_triggered_together() {
    let place = tempfile::tempdir().unwrap();
    let source = TestSource::new(1);
    source.end();
    let attempt = Attempt::start(place.path(), &source);
    assert_eq!((attempt.next(), attempt.next()), ("Ready(Slot(0))".into(), "SourcesEnded(Slot(0))".into()));
    attempt.report([trigger(1, false), trigger(2, false)]);
    assert_eq!((attempt.next(), attempt.next()), ("acked 1".into(), "acked 2".into()));
    attempt.report([trigger(2, false), trigger(3, false), trigger(4, true), trigger(3, false)]);
    assert_eq!((attempt.next(), attempt.next()), ("acked 3".into(), "acked 4".into()));
    assert_eq!(attempt.next(), "Done(Slot(0))");
}

#[test]
fn a_source_that_reads_on_ends_all_epochs_that_are_triggered_together() {
    let place = tempfile::tempdir().unwrap();
    let source = TestSource::new(1);
    source.extend(0, 0..10);
    let attempt = Attempt::start(place.path(), &source);
    assert_eq!(attempt.next(), "Ready(Slot(0))");
    attempt.report([trigger(1, false), trigger(2, false), trigger(3, true)]);
    assert_eq!([attempt.next(), attempt.next(), attempt.next()], ["acked 1", "acked 2", "acked 3"]);
}

/// Which times are plausible must not change with the way in which a job ends.
#[test]
fn a_job_that_follows_its_source_refuses_implausible_times_while_it_drains_too() {
    let place = tempfile::tempdir().unwrap();
    let source = TestSource::new(1);
    source.extend(0, [1_000, 10_000_000_000_000, 2_000]);
    let build: BuildJob = Arc::new(move |job| {
        let numbers = job.source(parts::SOURCE, source.clone());
        let times = numbers.event_time(|time| *time, Watermarks::monotonous()).on_error(OnError::Skip);
        times.sink("out", Discard::named("out"));
        Ok(())
    });
    let attempt = Attempt::of(|| parts::draining_process(place.path()), build);
    assert_eq!((attempt.next(), attempt.next()), ("Ready(Slot(0))".into(), "SourcesEnded(Slot(0))".into()));
    attempt.report([trigger(1, true)]);
    let report = attempt.inbox.recv_timeout(Duration::from_secs(20)).map(|message| message.report);
    let Ok(Report::Acked { part, .. }) = report else { panic!("{report:?}") };
    assert_eq!(part.operators["event_time-1"].counters["malformed"], 1);
}

#[test]
fn after_an_abort_nothing_is_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let (process, inbox) = parts::process(place.path(), 1, None);
    let thread = parts::snapshot_thread(&process, Slot(0), None);
    process.driver.report(acked(1));
    process.driver.fail(Error::job("stumbled"));
    let (operators, stagings) = (Default::default(), Vec::new());
    thread.write(CollectedEpoch { epoch: Epoch(2), rows: Rows::default(), operators, stagings });
    drop(thread);
    process.driver.report(acked(3));
    process.driver.report(Report::SourcesEnded(Slot(0)));
    process.driver.report(Report::Done(Slot(0)));
    let said: Vec<ToDriver> = inbox.try_iter().collect();
    assert!(matches!(
        said.iter().map(|message| &message.report).collect::<Vec<_>>()[..],
        [Report::Acked { epoch: Epoch(1), .. }, Report::Failed(_), Report::Done(Slot(0))]
    ));
}

#[test]
fn an_abort_of_another_attempt_ends_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (process, inbox) = parts::process(place.path(), 1, None);
    let abort = |attempt| process.driver.receive(vec![ToProcess { attempt, command: Command::Abort }]);
    abort(process.setup.attempt.next());
    process.driver.report(acked(1));
    assert!(!process.driver.is_aborted() && inbox.recv().is_ok() && process.driver.dropped() == 1);
    abort(process.setup.attempt);
    process.driver.report(acked(1));
    assert!(process.driver.is_aborted());
    assert_eq!(inbox.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvTimeoutError::Timeout);
}
