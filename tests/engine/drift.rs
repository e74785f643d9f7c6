//! Watermark alignment: a partition that is too far ahead of the others is not read until they have caught up, whatever the
//! parallelism, and results are those that the records say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate::clock::ManualClock;
use tidegate::connector::{PartitionStatus, Polled, Position, Source, SourceReader};
use tidegate::testing::{Discard, Running, TestJob, TestSource, VecSink, VecSource};
use tidegate::{Result, Tumbling, Watermarks};

use crate::events::{Event, Fired, Sums, fired, ms, windows};

/// The size of windows, in ms.
const WINDOW: i64 = 10_000;
/// Records that are read of a partition at a time, at most.
const BATCH: i64 = 256;

/// Event times from 0 to `until`, every `step` ms; the number of a record is that of its partition.
fn partition(number: usize, step: i64, until: i64) -> Vec<Event> {
    (0..until / step).map(|n| ((n % 40) as u32, n * step, number as i64)).collect()
}

/// Two partitions with many records for every hour and two with few, which are read at the same speed: the latter run away.
fn skewed() -> Vec<Vec<Event>> {
    let step = |number| if number % 2 == 0 { 10 } else { 200 };
    (0..4).map(|number| partition(number, step(number), 600_000)).collect()
}

/// How far the partitions of a job were read, by a step behind the one of event time.
struct Progress {
    /// The latest event time of each partition, and that of its last record.
    read: Vec<(AtomicI64, i64)>,
    /// By how much a record was ahead of the slowest partition that had more to read, at most.
    most: AtomicI64,
}

impl Progress {
    fn of(partitions: &[Vec<Event>]) -> Arc<Self> {
        let last = |events: &Vec<Event>| (AtomicI64::new(0), events.last().map_or(0, |event| event.1));
        Arc::new(Self { read: partitions.iter().map(last).collect(), most: AtomicI64::new(0) })
    }

    fn note(&self, (_, at, number): &Event) {
        self.read[*number as usize].0.fetch_max(*at, Ordering::SeqCst);
        let read = self.read.iter().map(|(read, last)| (read.load(Ordering::SeqCst), *last));
        if let Some(slowest) = read.filter(|(read, last)| read < last).map(|(read, _)| read).min() {
            self.most.fetch_max(at - slowest, Ordering::SeqCst);
        }
    }

    fn most(&self) -> i64 {
        self.most.load(Ordering::SeqCst)
    }
}

/// Counts and sums by key and window.
fn job<S>(source: S, watermarks: fn() -> Watermarks, progress: Arc<Progress>) -> (TestJob, VecSink<Fired>)
where
    S: Source<Item = Event> + Clone,
{
    let sums = VecSink::new();
    let to = sums.clone();
    let job = TestJob::new(move |job| {
        let progress = progress.clone();
        job.source("events", source.clone())
            .event_time(|e: &Event| e.1, watermarks())
            .inspect(move |e| progress.note(e))
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(WINDOW as u64)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    (job, sums)
}

fn expected(partitions: &[Vec<Event>]) -> Vec<Fired> {
    let mut all = windows(&partitions.concat(), WINDOW, WINDOW);
    all.sort_unstable();
    all
}

/// A greatest drift of a minute.
fn within_a_minute() -> Watermarks {
    Watermarks::monotonous().max_drift(Duration::from_secs(60))
}

/// What it bounds: by another batch of the fast partitions, and one that the slow partition has read and not passed on yet.
const BOUND: i64 = 60_000 + 2 * BATCH * 200;

fn fill(source: &TestSource<Event>, partitions: &[Vec<Event>]) {
    for (number, events) in partitions.iter().enumerate() {
        source.extend(number, events.iter().copied());
    }
}

#[test]
fn a_fast_partition_does_not_run_away_from_a_slow_one() {
    let partitions = skewed();
    for workers in [1, 2, 4] {
        let source = VecSource::partitions(partitions.clone());
        let progress = Progress::of(&partitions);
        let (job, sums) = job(source.clone(), within_a_minute, progress.clone());
        let summary = job.parallelism(workers).run().unwrap();
        assert_eq!((summary.late, sums.sorted()), (0, expected(&partitions)), "with {workers} workers");
        assert!(progress.most() <= BOUND, "{} ms ahead, with {workers} workers", progress.most());
    }
}

#[test]
fn without_a_limit_it_does() {
    let partitions = skewed();
    let progress = Progress::of(&partitions);
    let source = VecSource::partitions(partitions.clone());
    let (job, sums) = job(source, || Watermarks::monotonous().max_drift(Duration::MAX), progress.clone());
    job.run().unwrap();
    assert_eq!(sums.sorted(), expected(&partitions));
    assert!(progress.most() > 2 * BOUND, "{} ms ahead", progress.most());
}

/// The hostile link makes a process of every worker.
#[test]
fn it_does_not_across_processes_kills_and_other_parallelisms_either() {
    for hostile in [false, true] {
        let partitions = skewed();
        let (source, progress) = (TestSource::new(4), Progress::of(&partitions));
        fill(&source, &partitions);
        let (mut job, sums) = job(source.clone(), within_a_minute, progress.clone());
        if hostile {
            job = job.hostile_link(3);
        }
        for workers in [1, 4, 2, 3, 4] {
            job = job.parallelism(workers).interval(ms(5));
            let running = job.start();
            running.checkpoint();
            running.checkpoint();
            running.kill();
        }
        source.end();
        let summary = job.run().unwrap();
        assert_eq!((summary.late, sums.sorted()), (0, expected(&partitions)));
        assert!(progress.most() <= BOUND, "{} ms ahead", progress.most());
    }
}

#[test]
fn partitions_that_have_nothing_to_read_hold_nobody_back() {
    for workers in 1..=4 {
        // Much to read; nothing at all; read to its present end; over.
        let partitions =
            vec![partition(0, 100, 1_000_000), vec![], partition(2, 10, 100), partition(3, 10, 1_000)];
        let source = TestSource::followed(4);
        fill(&source, &partitions);
        source.end_partition(3);
        let (job, _) = job(source.clone(), within_a_minute, Progress::of(&partitions));
        let job = job.parallelism(workers);
        let running = job.start();
        source.wait_until_read();
        running.checkpoint();
        running.stop().unwrap();
    }
}

#[test]
fn a_partition_that_has_a_backlog_again_holds_others_back_again() {
    for workers in 1..=3 {
        let first = vec![partition(0, 10, 1_000), partition(1, 10, 1_000)];
        let later = |number, step| partition(number, step, 600_000).split_off(1_000 / step as usize);
        let second = vec![later(0, 10), later(1, 200)];
        let source = TestSource::followed(2);
        fill(&source, &first);
        let progress = Progress::of(&second);
        let (job, sums) = job(source.clone(), within_a_minute, progress.clone());
        let job = job.parallelism(workers);
        let running = job.start();
        source.wait_until_read();
        running.checkpoint();
        // Here and after a restart. The job sees the records of the slow partition first.
        running.kill();
        fill(&source, &second);
        let running = job.start();
        source.wait_until_read();
        running.checkpoint();
        source.end();
        running.stop().unwrap();
        assert!(progress.most() <= BOUND, "{} ms ahead, with {workers} workers", progress.most());
        assert_eq!(sums.sorted(), without_open_windows(&[first, second].concat()));
    }
}

/// What has come out once event time has reached that of the last record.
fn without_open_windows(partitions: &[Vec<Event>]) -> Vec<Fired> {
    let furthest = |events: &Vec<Event>| events.last().map_or(i64::MIN, |event| event.1);
    let reached = partitions[2..].iter().map(furthest).min().unwrap_or(i64::MIN);
    expected(partitions).into_iter().filter(|out| out.0 + WINDOW < reached).collect()
}

/// A source of two partitions, of which the second is slow: its first records come at once, and the others once the test lets
/// them. Until then a fetch is under way.
#[derive(Clone)]
struct Slow {
    source: VecSource<Event>,
    at_once: i64,
    comes: Arc<AtomicBool>,
}

impl Source for Slow {
    type Item = Event;

    fn uri(&self) -> Result<String> {
        self.source.uri()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.source.partitions()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<Event>>> {
        let (reader, comes) = (self.source.reader()?, self.comes.clone());
        Ok(Box::new(SlowReader { reader, names: Vec::new(), at_once: self.at_once, comes }))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        self.source.has_more(partition, position)
    }
}

struct SlowReader {
    reader: Box<dyn SourceReader<Event>>,
    names: Vec<String>,
    at_once: i64,
    comes: Arc<AtomicBool>,
}

impl SourceReader<Event> for SlowReader {
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()> {
        self.names.push(partition.to_owned());
        self.reader.open(partition, position)
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<Event>, budget: usize) -> Result<PartitionStatus> {
        let left = self.at_once - self.position(partition).as_i64().unwrap();
        if self.names[partition] == "partition-0" || self.comes.load(Ordering::SeqCst) {
            self.reader.poll(partition, out, budget)
        } else if left > 0 {
            self.reader.poll(partition, out, budget.min(left as usize))
        } else {
            Ok(PartitionStatus::Pending)
        }
    }

    fn position(&self, partition: usize) -> Position {
        self.reader.position(partition)
    }
}

fn wait_for_metric(running: &Running, line: &str) {
    let until = Instant::now() + ms(30_000);
    while !running.metrics().contains(line) {
        assert!(Instant::now() < until, "no {line} in\n{}", running.metrics());
        std::thread::sleep(ms(1));
    }
}

/// As in FLINK-35886: a paused partition brings nothing for longer than the time after which it would be idle, and then
/// the slow one skips a stretch of event time. If the paused one were idle, all that it still has to bring would be late.
#[test]
fn a_paused_partition_is_not_idle() {
    for workers in 1..=2 {
        let fast = partition(0, 1, 3_000);
        let slow: Vec<Event> = (0..300).map(|n| (1, if n < 100 { 1 } else { 100_000 + n }, 1)).collect();
        let partitions = [fast, slow];
        let (clock, comes) = (Arc::new(ManualClock::at(0)), Arc::new(AtomicBool::new(false)));
        let source =
            Slow { source: VecSource::partitions(partitions.clone()), at_once: 100, comes: comes.clone() };
        let marks = || Watermarks::monotonous().idle_after(ms(1_000)).max_drift(ms(100));
        let (job, sums) = job(source, marks, Progress::of(&partitions));
        let job = job.parallelism(workers).clock(clock.clone());
        let running = job.start();
        wait_for_metric(
            &running,
            "tidegate_paused_partitions{job=\"test\",operator=\"events\",worker=\"0\"} 1\n",
        );
        // At a barrier, too, it is decided which partitions are idle.
        for _ in 0..3 {
            clock.advance_ms(10_000);
            running.checkpoint();
        }
        comes.store(true, Ordering::SeqCst);
        assert_eq!(running.wait().unwrap().late, 0);
        assert_eq!(sums.sorted(), expected(&partitions));
    }
}

/// Each of the two partitions has no event time for one of the steps, so each would wait for the other if the steps
/// were judged one by one.
#[test]
fn partitions_of_two_steps_of_event_time_do_not_wait_for_each_other() {
    for workers in 1..=2 {
        let source = VecSource::partitions([partition(0, 100, 1_000_000), partition(1, 100, 1_000_000)]);
        let job = TestJob::new(move |job| {
            let events = job.source("events", source.clone());
            let (first, second) = events.split(|e: Event| if e.2 == 0 { Ok(e) } else { Err(e) });
            first.event_time(|e| e.1, within_a_minute()).named("a").sink("first", Discard::named("first"));
            second.event_time(|e| e.1, within_a_minute()).named("b").sink("second", Discard::named("second"));
            Ok(())
        });
        assert_eq!(job.parallelism(workers).run().unwrap().rows_out, 20_000);
    }
}

#[test]
fn a_partition_whose_records_never_have_an_event_time_ends_all_the_same() {
    for workers in 1..=2 {
        let source = VecSource::partitions([partition(0, 100, 1_000_000), partition(1, 100, 1_000_000)]);
        let job = TestJob::new(move |job| {
            let events = job.source("events", source.clone()).filter(|e: &Event| e.2 == 0);
            events.event_time(|e| e.1, within_a_minute()).sink("out", Discard::named("out"));
            Ok(())
        });
        assert_eq!(job.parallelism(workers).run().unwrap().rows_out, 10_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the partitions hold, and however small the drift is, the job comes to its end with the same results.
    #[test]
    fn no_drift_changes_results(
        partitions in crate::events::partitions(4, 300),
        drift in prop_oneof![Just(0), 1u64..200],
        workers in 1usize..=4,
    ) {
        let source = VecSource::partitions(partitions.clone());
        let sums = VecSink::new();
        let to = sums.clone();
        let job = TestJob::new(move |job| {
            let marks = Watermarks::bounded(ms(20)).max_drift(ms(drift));
            let events = job.source("events", source.clone()).event_time(|e: &Event| e.1, marks);
            let sums = events.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(50))).aggregate("sums", Sums);
            sums.map(fired).sink("out", to.clone());
            Ok(())
        });
        let summary = job.parallelism(workers).run().unwrap();
        prop_assert_eq!(summary.late, 0);
        let mut all = windows(&partitions.concat(), 50, 50);
        all.sort_unstable();
        prop_assert_eq!(sums.sorted(), all);
    }
}
