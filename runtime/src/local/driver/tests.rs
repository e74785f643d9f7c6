//! The driver alone: the messages of its workers come from the test, in any order and any number of times, and the commands
//! of the driver to the workers are only recorded.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Mutex;

use tidegate_protocol::manifest::OperatorSnapshot;
use tidegate_protocol::{Attempt, KeyGroups};
use tidegate_snapshots::LocalStore;

use super::*;
use crate::api::job::BuildJob;
use crate::clock::SystemClock;
use crate::link::{Inbox, Link};
use crate::local::{Mailbox, describe, processes, setup};
use crate::metrics::Metrics;
use crate::testing::{Discard, VecSource};

const ATTEMPT: Attempt = Attempt(1);

/// Records the commands of the driver to the workers.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<String>>>);

impl Link for Recording {
    fn processes(&self, _: usize) -> usize {
        1
    }

    fn to_process(&self, _: Inbox<ToProcess>) -> Connection<ToProcess> {
        let told = self.0.clone();
        Box::new(move |message| told.lock().unwrap().push(format!("{:?}", message.command)))
    }

    fn to_driver(&self, _: Inbox<ToDriver>) -> Connection<ToDriver> {
        Box::new(drop)
    }
}

struct Silent;

impl Watcher for Silent {
    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn note(&mut self, _: Level, _: &str) {}

    fn progress(&mut self, _: &Metrics, _: Epoch) {}
}

/// Runs `test` with the driver of a job with two workers.
fn with_driver(test: impl FnOnce(&mut TestDriver<'_>, &Recording, &Path)) {
    let place = tempfile::tempdir().unwrap();
    let told = Recording::default();
    let run = Run {
        job: "test".to_owned(),
        checkpoint_dir: place.path().to_owned(),
        parallelism: Some(2),
        interval: Some(Duration::from_millis(1)),
        retain: 10,
        memory: 1 << 20,
        follow: false,
        max_parallelism: 16,
        over_the_wire: false,
        arguments: BTreeMap::new(),
        clock: Arc::new(SystemClock),
        metrics: Arc::default(),
        link: Arc::new(told.clone()),
    };
    let build: BuildJob = Arc::new(|job| {
        job.source("numbers", VecSource::of([1])).sink("out", Discard::named("out"));
        Ok(())
    });
    let store = LocalStore::open(place.path()).unwrap();
    let groups = KeyGroups { count: 16 };
    let job = describe(&run, &build, &store, groups).unwrap();
    let mailbox = Mailbox::new();
    let processes = processes(&run, &setup(&run, &store, 2, groups), &BTreeMap::new(), &mailbox);
    let (assignment, mut watcher) = (Assignment::default(), Silent);
    let driver = Driver::new(&run, &job, processes, assignment, Vec::new(), &mut watcher);
    test(&mut TestDriver { driver, mailbox }, &told, place.path());
}

/// The driver, and where others report to it.
struct TestDriver<'a> {
    driver: Driver<'a>,
    mailbox: Mailbox,
}

impl<'a> Deref for TestDriver<'a> {
    type Target = Driver<'a>;

    fn deref(&self) -> &Driver<'a> {
        &self.driver
    }
}

impl DerefMut for TestDriver<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.driver
    }
}

impl TestDriver<'_> {
    fn hear_from(&mut self, attempt: Attempt, report: Report) {
        self.on_event(Event::Message(ToDriver { attempt, report })).unwrap();
    }

    fn receive(&mut self, report: Report) {
        self.hear_from(ATTEMPT, report);
    }

    /// Waits until the next checkpoint is triggered.
    fn wait_for_trigger(&mut self, told: &Recording, epoch: u64) {
        let is_trigger =
            |text: &String| text.contains("Trigger") && text.contains(&format!("Epoch({epoch})"));
        self.wait_until(|_| told.0.lock().unwrap().iter().any(is_trigger));
    }

    /// Both workers have published an epoch.
    fn publish(&mut self, epoch: u64) {
        (0..2).for_each(|slot| self.receive(Report::Published { slot: Slot(slot), epoch: Epoch(epoch) }));
    }

    /// Lets time pass until something is so.
    fn wait_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            assert!(Instant::now() < until, "it is not so after a minute");
            match self.mailbox.receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(event) => self.on_event(event).unwrap(),
                Err(_) => self.step(Input::Tick).unwrap(),
            }
        }
    }

    /// Which parts the newest snapshot has, by the update that [`acked`] gave them.
    fn marks(&self) -> Vec<i64> {
        let newest = self.newest.as_ref().expect("a complete snapshot");
        newest.slots.values().filter_map(|part| part.operators["numbers"].extra.as_i64()).collect()
    }
}

/// An acknowledgement whose part can be distinguished from others.
fn acked(slot: u32, epoch: u64, update: i64) -> Report {
    let operator = OperatorSnapshot { extra: update.into(), ..OperatorSnapshot::default() };
    let operators = BTreeMap::from([("numbers".to_owned(), operator)]);
    let part = Box::new(SlotSnapshot { store: BTreeMap::new(), operators });
    Report::Acked { slot: Slot(slot), epoch: Epoch(epoch), part }
}

fn declined(slot: u32, epoch: u64) -> Report {
    Report::Declined { slot: Slot(slot), epoch: Epoch(epoch), reason: "no space".to_owned() }
}

fn start(driver: &mut TestDriver<'_>) {
    (0..2).for_each(|slot| driver.receive(Report::Ready(Slot(slot))));
}

#[test]
fn the_part_that_counts_is_that_of_the_acknowledgement_that_was_accepted() {
    with_driver(|driver, told, _| {
        start(driver);
        driver.wait_for_trigger(told, 1);
        driver.receive(acked(0, 1, 10));
        driver.receive(acked(0, 1, 11));
        driver.hear_from(Attempt(2), acked(1, 1, 12));
        assert!(driver.newest.is_none(), "one of two workers has acknowledged");
        driver.receive(acked(1, 1, 20));
        assert_eq!(driver.marks(), [10, 20]);
        driver.publish(1);
        driver.wait_for_trigger(told, 2);
        driver.receive(acked(0, 2, 30));
        // They come again, of the epoch before.
        driver.receive(acked(0, 1, 10));
        driver.receive(acked(1, 1, 20));
        driver.receive(acked(1, 2, 40));
        assert_eq!(driver.marks(), [30, 40]);
    });
}

#[test]
fn answers_for_an_aborted_epoch_are_dropped_and_its_files_are_deleted() {
    with_driver(|driver, told, place| {
        let files = place.join("files");
        let names = ["1-0-1-a.sst", "1-1-1-a.sst", "1-0-12-a.sst"];
        let there = || names.map(|name| files.join(name).exists());
        start(driver);
        driver.wait_for_trigger(told, 1);
        names.iter().for_each(|name| std::fs::write(files.join(name), "rows").unwrap());
        driver.receive(declined(1, 1));
        assert_eq!(there(), [true, false, true], "the other worker is still writing");
        driver.wait_for_trigger(told, 2);
        driver.receive(acked(1, 2, 40));
        driver.receive(acked(0, 1, 10));
        assert_eq!(there(), [false, false, true]);
        driver.receive(declined(1, 1));
        driver.receive(acked(0, 2, 30));
        assert_eq!(driver.marks(), [30, 40]);
    });
}

#[test]
fn a_worker_that_is_ready_has_ended_or_is_done_counts_once() {
    with_driver(|driver, told, _| {
        driver.receive(Report::Ready(Slot(0)));
        driver.receive(Report::Ready(Slot(0)));
        driver.on_event(Event::StopRequested).unwrap();
        driver.hear_from(Attempt(0), Report::Ready(Slot(1)));
        assert_eq!(*told.0.lock().unwrap(), ["StopReading"], "one worker of two is ready");
        driver.receive(Report::SourcesEnded(Slot(0)));
        driver.receive(Report::SourcesEnded(Slot(0)));
        driver.receive(Report::Ready(Slot(1)));
        driver.receive(Report::Ready(Slot(1)));
        assert_eq!(*told.0.lock().unwrap(), ["StopReading", "Trigger { epoch: Epoch(1), last: true }"]);
        driver.receive(acked(0, 1, 1));
        driver.receive(acked(1, 1, 2));
        driver.receive(Report::Published { slot: Slot(0), epoch: Epoch(1) });
        driver.receive(Report::Published { slot: Slot(0), epoch: Epoch(1) });
        assert_eq!(driver.exit, None, "one worker of two has published");
        driver.receive(Report::Published { slot: Slot(1), epoch: Epoch(1) });
        assert_eq!(driver.exit, Some(Exit::Stopped), "the sources of one worker of two have ended");
        driver.receive(Report::Done(Slot(1)));
        driver.receive(Report::Done(Slot(1)));
        assert_eq!((driver.done.len(), driver.dropped), (1, 5));
    });
}

#[test]
fn a_failure_of_another_attempt_ends_nothing() {
    with_driver(|driver, _, _| {
        start(driver);
        driver.hear_from(Attempt(7), Report::Failed(Error::job("long ago")));
        let ours = ToDriver { attempt: ATTEMPT, report: Report::Failed(Error::job("now")) };
        assert!(driver.on_event(Event::Message(ours)).is_err());
    });
}

#[test]
fn an_interval_of_more_milliseconds_than_can_be_counted_is_the_longest() {
    // Cut to 64 bits, it would be one of 384 milliseconds.
    assert_eq!(millis(Duration::from_secs(18_446_744_073_709_552)), u64::MAX);
    assert_eq!(millis(Duration::from_millis(384)), 384);
}
