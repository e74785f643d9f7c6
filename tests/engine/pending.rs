//! A source whose records arrive later than they are asked for: its partitions are idle only if they are known to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::Result;
use tidegate::aggregates::Count;
use tidegate::clock::ManualClock;
use tidegate::connector::{PartitionStatus, Polled, Position, Source, SourceReader};
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{Tumbling, Watermarks};

use crate::events::ms;

/// A source whose polls say, where there is nothing to read, that a fetch is under way: always, or every second time.
#[derive(Clone)]
struct Fetched {
    source: TestSource<i64>,
    is_ever_caught_up: bool,
    /// Whether what holds its partitions does not answer.
    is_away: Arc<AtomicBool>,
}

struct FetchedReader {
    reader: Box<dyn SourceReader<i64>>,
    is_ever_caught_up: bool,
    is_away: Arc<AtomicBool>,
    /// Whether the last poll of each partition has found it caught up.
    was_caught_up: Vec<bool>,
}

impl Source for Fetched {
    type Item = i64;

    fn uri(&self) -> Result<String> {
        self.source.uri()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.source.partitions()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<i64>>> {
        let Self { source, is_ever_caught_up, is_away } = self.clone();
        let reader = source.reader()?;
        Ok(Box::new(FetchedReader { reader, is_ever_caught_up, is_away, was_caught_up: Vec::new() }))
    }

    fn bounded(&self) -> bool {
        self.source.bounded()
    }

    fn follow(&mut self) {
        self.source.follow();
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        self.source.has_more(partition, position)
    }
}

impl SourceReader<i64> for FetchedReader {
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()> {
        self.was_caught_up.push(false);
        self.reader.open(partition, position)
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<i64>, budget: usize) -> Result<PartitionStatus> {
        let status = self.reader.poll(partition, out, budget)?;
        if status != PartitionStatus::CaughtUp {
            return Ok(status);
        }
        if self.is_away.load(Ordering::Relaxed) {
            return Ok(PartitionStatus::Unavailable);
        }
        let was_caught_up = &mut self.was_caught_up[partition];
        *was_caught_up = self.is_ever_caught_up && !*was_caught_up;
        Ok(if *was_caught_up { PartitionStatus::CaughtUp } else { PartitionStatus::Pending })
    }

    fn position(&self, partition: usize) -> Position {
        self.reader.position(partition)
    }
}

/// Counts records by the second; a partition without records for a second is idle.
fn counts(is_ever_caught_up: bool) -> (TestSource<i64>, VecSink<u64>, Arc<ManualClock>, TestJob) {
    counts_of(is_ever_caught_up, &Arc::default())
}

fn counts_of(
    is_ever_caught_up: bool,
    is_away: &Arc<AtomicBool>,
) -> (TestSource<i64>, VecSink<u64>, Arc<ManualClock>, TestJob) {
    let (source, out, clock) = (TestSource::new(2), VecSink::new(), Arc::new(ManualClock::at(0)));
    let from = Fetched { source: source.clone(), is_ever_caught_up, is_away: is_away.clone() };
    let to = out.clone();
    let job = TestJob::new(move |job| {
        job.source("times", from.clone())
            .event_time(|t| *t, Watermarks::monotonous().idle_after(ms(1_000)))
            .key_by_value(|_| 0u8)
            .window(Tumbling::of(ms(1_000)))
            .aggregate("count", Count)
            .map(|window| window.value)
            .sink("out", to.clone());
        Ok(())
    });
    let job = job.clock(clock.clone());
    (source, out, clock, job)
}

#[test]
fn a_partition_that_is_fetched_again_and_again_becomes_idle() {
    let (source, out, clock, job) = counts(true);
    let running = job.start();
    source.extend(0, [100, 1_200]);
    running.checkpoint();
    clock.advance_ms(1_000);
    assert_eq!(out.wait_for(1), [1]);
    source.end();
    running.wait().unwrap();
    assert_eq!(out.records(), [1, 1]);
}

#[test]
fn a_partition_of_which_nothing_has_arrived_yet_is_not_idle() {
    let (source, out, clock, job) = counts(false);
    let running = job.start();
    source.extend(0, [100, 1_200]);
    for _ in 0..3 {
        running.checkpoint();
        clock.advance_ms(10_000);
    }
    assert_eq!(out.records(), [0u64; 0], "event time has gone on without it");
    source.push(1, 300);
    source.end();
    running.wait().unwrap();
    assert_eq!(out.records(), [2, 1], "none of it is late");
}

#[test]
fn a_partition_that_was_caught_up_and_is_away_is_not_idle_until_it_is_known_to_be() {
    let is_away = Arc::new(AtomicBool::new(false));
    let (source, out, clock, job) = counts_of(true, &is_away);
    let running = job.start();
    source.extend(0, [100, 1_200]);
    running.checkpoint();
    clock.advance_ms(500);
    running.checkpoint();
    is_away.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        running.checkpoint();
        clock.advance_ms(10_000);
    }
    is_away.store(false, Ordering::Relaxed);
    running.checkpoint();
    clock.advance_ms(400);
    running.checkpoint();
    assert_eq!(out.records(), [0u64; 0], "event time has gone on without it");
    source.push(1, 300);
    running.checkpoint();
    clock.advance_ms(1_000);
    assert_eq!(out.wait_for(1), [2], "its record is not late");
    source.end();
    running.wait().unwrap();
    assert_eq!(out.records(), [2, 1]);
}

#[test]
fn a_partition_that_is_idle_and_goes_away_holds_nothing_back() {
    let is_away = Arc::new(AtomicBool::new(false));
    let (source, out, clock, job) = counts_of(true, &is_away);
    let running = job.start();
    source.extend(0, [100, 1_200]);
    running.checkpoint();
    clock.advance_ms(1_000);
    assert_eq!(out.wait_for(1), [1]);
    is_away.store(true, Ordering::Relaxed);
    running.checkpoint();
    // Further than partitions may be from each other.
    source.extend(0, [2_000, 10_000_000, 10_000_100, 10_002_000]);
    running.checkpoint();
    clock.advance_ms(1_000);
    assert_eq!(out.wait_for(4), [1, 1, 1, 2]);
    is_away.store(false, Ordering::Relaxed);
    source.end();
    running.wait().unwrap();
    assert_eq!(out.records(), [1, 1, 1, 2, 1]);
}
