//! Event time is the same on every worker, whatever the order of arrival, the parallelism and the crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::clock::ManualClock;
use tidegate::protocol::Epoch;
use tidegate::testing::{Discard, Running, TestJob, TestSource, VecSink, VecSource};
use tidegate::{Context, KeyedProcess, OnError, Result, Timer, Tumbling, Watermarks};

use crate::checkpoints::{manifests, read};
use crate::events::{Event, Fired, Sums, fired, ms};

/// A record of this number keeps its source's chain busy for a while.
const SLOW: i64 = 1_000_000;

/// The partition `idle` is idle and comes back while its worker is busy; the partition `busy` goes on meanwhile, so that the
/// workers hear of the two in different orders. Returns what came out before a crash and in all.
fn comes_back_while_the_other_goes_on(idle: usize, busy: usize) -> Vec<Fired> {
    let clock = Arc::new(ManualClock::at(0));
    let (source, sums) = (TestSource::<Event>::followed(2), VecSink::new());
    let (from, to) = (source.clone(), sums.clone());
    let job = TestJob::new(move |job| {
        let slow = |e: &Event| {
            if e.2 == SLOW {
                std::thread::sleep(ms(300))
            }
        };
        job.source("events", from.clone())
            .inspect(slow)
            .event_time(|e: &Event| e.1, Watermarks::monotonous().idle_after(ms(1_000)))
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .allowed_lateness(Duration::from_secs(3_600))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    let job = job.parallelism(2).clock(clock.clone()).interval(Duration::from_secs(1));
    let running = job.start();
    source.extend(busy, (0..10).map(|key| (key, 5, 1)));
    source.push(idle, (100, 5, 1));
    running.checkpoint();
    clock.advance_ms(1_000);
    running.checkpoint();
    running.checkpoint();
    source.push(busy, (100, 6, 1));
    running.checkpoint();
    running.checkpoint();
    source.push(idle, (100, 7, SLOW));
    std::thread::sleep(ms(100));
    source.push(busy, (100, 25, 1));
    running.checkpoint();
    running.checkpoint();
    running.kill();
    let running = job.start();
    source.push(0, (100, 1_000, 1));
    source.push(1, (100, 1_000, 1));
    running.checkpoint();
    running.checkpoint();
    running.stop().unwrap();
    sums.sorted()
}

#[test]
fn windows_fire_once_when_a_partition_comes_back_from_idleness() {
    for (idle, busy) in [(0, 1), (1, 0)] {
        let out = comes_back_while_the_other_goes_on(idle, busy);
        for key in 0..10 {
            let times = out.iter().filter(|f| (f.0, f.1) == (0, key)).count();
            assert_eq!(times, 1, "key {key}, partition {idle} was idle: {out:?}");
        }
    }
}

/// Sets itself again whenever it fires.
struct Again;

impl KeyedProcess for Again {
    type Key = u32;
    type In = Event;
    type State = ();
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(e.1 + 10));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(timer.at);
        cx.timers.set(Timer::event(timer.at + 10));
        Ok(())
    }
}

/// The event time of the end comes first to the furthest of all partitions, and then fires what is set, once; and so it does
/// after a crash between the end and the last snapshot.
#[test]
fn the_end_of_the_input_is_the_same_at_any_parallelism_and_after_a_crash() {
    for workers in [1, 2, 3] {
        let (source, out) = (TestSource::<Event>::new(2), VecSink::new());
        let (from, to) = (source.clone(), out.clone());
        let job = TestJob::new(move |job| {
            job.source("events", from.clone())
                .inspect(|e: &Event| {
                    if e.2 == SLOW {
                        std::thread::sleep(ms(100))
                    }
                })
                .event_time(|e: &Event| e.1, Watermarks::monotonous())
                .key_by(|e: &Event| &e.0)
                .process("again", Again)
                .sink("out", to.clone());
            Ok(())
        });
        let job = job.retain(1_000).parallelism(workers);
        source.extend(0, [(1, 0, 1), (1, 15, SLOW)]);
        source.extend(1, [(2, 3, 1), (3, 41, SLOW)]);
        source.end();
        job.run().unwrap();
        // Key 1: up to 41 every ten, and what is set then. Key 2 and 3 the same.
        let mut expected = vec![10, 20, 25, 30, 35, 40, 45, 50];
        expected.extend([13, 23, 33, 43, 51]);
        expected.sort_unstable();
        assert_eq!(out.sorted(), expected, "with {workers} workers");
        for _ in 0..2 {
            let newest = manifests(job.directory()).pop().unwrap();
            assert!(read(&newest).finished);
            std::fs::remove_file(newest).unwrap();
            job.run().unwrap();
            assert_eq!(out.sorted(), expected, "again, with {workers} workers");
        }
    }
}

#[test]
fn each_event_time_step_judges_for_itself_which_partition_is_idle() {
    let clock = Arc::new(ManualClock::at(0));
    let source: TestSource<Event> = TestSource::followed(2);
    let (quick, slow) = (VecSink::named("quick"), VecSink::named("slow"));
    let (from, to, slow_to) = (source.clone(), quick.clone(), slow.clone());
    let job = TestJob::new(move |job| {
        let events = job.source("events", from.clone());
        for (name, after, sink) in [("quick", 1_000, to.clone()), ("slow", 2_000, slow_to.clone())] {
            events
                .clone()
                .event_time(|e: &Event| e.1, Watermarks::monotonous().idle_after(ms(after)))
                .named(&format!("time-{name}"))
                .key_by(|e: &Event| &e.0)
                .window(Tumbling::of(ms(10)))
                .aggregate(name, Sums)
                .map(fired)
                .sink(&format!("out-{name}"), sink);
        }
        Ok(())
    });
    let running = job.clock(clock.clone()).start();
    source.extend(0, [(1, 1, 1), (1, 20, 1)]);
    running.checkpoint();
    clock.advance_ms(1_000);
    assert_eq!(quick.wait_for(1), [(0, 1, 1, 1)]);
    assert_eq!(slow.records(), []);
    clock.advance_ms(1_000);
    assert_eq!(slow.wait_for(1), [(0, 1, 1, 1)]);
    running.stop().unwrap();
}

/// Sets a timer for a time that has passed, by a record and by the timer itself.
struct Overdue;

impl KeyedProcess for Overdue {
    type Key = u32;
    type In = Event;
    type State = u64;
    type Out = (i64, u64);
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(e.2));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        let count = cx.state.get_mut();
        *count += 1;
        cx.out.emit((timer.at, *count));
        cx.timers.set(timer);
        Ok(())
    }
}

#[test]
fn a_timer_that_is_due_already_fires_at_the_next_watermark_and_never_spins() {
    let (source, out) = (TestSource::<Event>::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("overdue", Overdue)
            .sink("out", to.clone());
        Ok(())
    });
    let running = job.start();
    source.push(0, (1, 100, 7));
    running.checkpoint();
    running.checkpoint();
    assert_eq!(out.records(), [(7, 1)], "the record's own watermark is behind it");
    source.push(0, (1, 100, 7));
    running.checkpoint();
    assert_eq!(out.records().len(), 1, "event time has not come further");
    source.push(0, (2, 200, 150));
    running.checkpoint();
    assert_eq!(out.sorted(), [(7, 1), (7, 2), (150, 1)]);
    assert_eq!(running.stop().unwrap().rows_out, 3);
    source.end();
    job.run().unwrap();
    // Event time comes from 199 to 200, and then to its end.
    assert_eq!(out.sorted(), [(7, 1), (7, 2), (7, 3), (7, 4), (150, 1), (150, 2), (150, 3)]);
}

/// A job over events with these watermarks, whose malformed records are handled by `policy` at the source.
fn with_times(events: Vec<Event>, followed: bool, policy: Option<OnError>) -> (TestJob, VecSink<Fired>) {
    let sums = VecSink::new();
    let to = sums.clone();
    let source = if followed { TestSource::followed(1) } else { TestSource::new(1) };
    source.extend(0, events);
    if !followed {
        source.end();
    }
    let job = TestJob::new(move |job| {
        let mut events = job.source("events", source.clone());
        if let Some(policy) = policy {
            events = events.on_error(policy);
        }
        events
            .event_time(|e: &Event| e.1, Watermarks::bounded(ms(5)))
            .named("times")
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    (job, sums)
}

#[test]
fn an_event_time_that_is_not_plausible_is_malformed_and_closes_no_window() {
    for at in [i64::MIN, i64::MIN + 1, -(1 << 61), 1 << 61, i64::MAX - 1, i64::MAX] {
        let mut events = vec![(1, 5, 1), (1, at, 100)];
        events.extend((0..5_000).map(|n| (1, 10 + n, 1)));
        let (job, _) = with_times(events.clone(), false, None);
        let message = job.run().unwrap_err().to_string();
        for part in ["step 'times', partition 'partition-0', offset 1", "is not plausible", &at.to_string()] {
            assert!(message.contains(part), "{message}");
        }
        let (job, sums) = with_times(events, false, Some(OnError::Skip));
        let summary = job.run().unwrap();
        assert_eq!((summary.late, summary.malformed, summary.rows_in), (0, 1, 5_002), "event time {at}");
        assert_eq!(sums.records().len(), 501);
    }
}

#[test]
fn a_followed_source_takes_times_from_1970_to_a_day_ahead_of_the_clock() {
    let day = 24 * 3_600 * 1_000;
    let events = vec![(1, -1, 100), (1, 0, 1), (1, day, 1), (1, day + 1, 100)];
    let (job, sums) = with_times(events, true, Some(OnError::Skip));
    let running = job.clock(Arc::new(ManualClock::at(0))).start();
    running.checkpoint();
    assert_eq!(running.stop().unwrap().malformed, 2);
    assert_eq!(sums.records(), [(0, 1, 1, 1)]);
}

#[test]
fn what_is_said_behind_event_time_counts_for_its_own_malformed_records() {
    let letters = VecSink::new();
    let to = letters.clone();
    let job = TestJob::new(move |job| {
        let times = job.source("times", VecSource::of([1, i64::MAX, 2]));
        let times = times.event_time(|at| *at, Watermarks::monotonous()).named("time");
        times.dead_letters(to.clone()).sink("out", Discard::named("out"));
        Ok(())
    });
    let summary = job.run().unwrap();
    assert_eq!((summary.rows_out, summary.malformed, summary.dead_letters), (2, 1, 1));
    let letter = &letters.records()[0];
    assert_eq!((letter.source.as_str(), letter.offset), ("time", Some(1)));
    assert!(letter.error.contains("is not plausible"), "{}", letter.error);
}

/// What a script does between two checkpoints.
#[derive(Clone, Debug)]
struct Round {
    /// Records by partition: steps of event time from where the partition is.
    records: Vec<(usize, i64)>,
    /// Partitions that bring a record of an old time besides, if they were idle.
    old: Vec<usize>,
    /// Whether the clock goes on by more than a partition may be quiet.
    pause: bool,
    /// The job is killed, and goes on with another number of workers.
    restart: Option<usize>,
}

const PARTITIONS: usize = 4;
const QUIET_MS: i64 = 1_000;
const SIZE: i64 = 10;

fn round() -> impl Strategy<Value = Round> {
    let records = prop::collection::vec((0..PARTITIONS, 0i64..15), 0..8);
    let workers =
        prop_oneof![4 => Just(None), 1 => prop::sample::select(vec![1usize, 2, 3, 5]).prop_map(Some)];
    (records, prop::collection::vec(0..PARTITIONS, 0..2), any::<bool>(), workers)
        .prop_map(|(records, old, pause, restart)| Round { records, old, pause, restart })
}

/// The naive oracle: event time by definition, from one checkpoint to the next.
#[derive(Default)]
struct Oracle {
    partitions: [Partition; PARTITIONS],
    watermark: i64,
    open: BTreeMap<(i64, u32), (u64, i64)>,
    out: Vec<Fired>,
    late: u64,
}

#[derive(Clone, Copy)]
struct Partition {
    highest: i64,
    idle: bool,
    quiet_ms: i64,
}

impl Default for Partition {
    fn default() -> Self {
        Self { highest: i64::MIN, idle: false, quiet_ms: 0 }
    }
}

impl Oracle {
    fn record(&mut self, (key, at, number): Event) {
        let start = at.div_euclid(SIZE) * SIZE;
        if start + SIZE - 1 <= self.watermark {
            self.late += 1;
            return;
        }
        let sum = self.open.entry((start, key)).or_default();
        *sum = (sum.0 + 1, sum.1 + number);
    }

    /// A checkpoint: event time comes as far as the active partitions let it.
    fn checkpoint(&mut self) {
        let watermark = |p: &Partition| p.highest.saturating_sub(1);
        let active = self.partitions.iter().filter(|p| !p.idle).map(watermark).min();
        let furthest = self.partitions.iter().map(watermark).max().unwrap();
        self.watermark = self.watermark.max(active.unwrap_or(furthest));
        let fired: Vec<_> =
            self.open.range(..(self.watermark.saturating_sub(SIZE - 2), 0)).map(|(k, v)| (*k, *v)).collect();
        for ((start, key), (count, sum)) in fired {
            self.open.remove(&(start, key));
            self.out.push((start, key, count, sum));
        }
    }
}

fn run_script(rounds: &[Round], workers: usize) {
    let clock = Arc::new(ManualClock::at(0));
    let (source, sums) = (TestSource::<Event>::followed(PARTITIONS), VecSink::new());
    let (from, to) = (source.clone(), sums.clone());
    let mut job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(
                |e: &Event| e.1,
                Watermarks::monotonous().idle_after(ms(QUIET_MS as u64)).accept_from(-100),
            )
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(SIZE as u64)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    job = job.clock(clock.clone()).interval(ms(5)).parallelism(workers);
    let mut oracle = Oracle { watermark: i64::MIN, ..Oracle::default() };
    let mut running = job.start();
    let (mut number, mut times) = (0, [0i64; PARTITIONS]);
    let settle = |running: &Running| (0..3).for_each(|_| assert!(running.checkpoint() > Epoch(0)));
    for round in rounds {
        // A record of an old time is brought by a partition that is idle, before anybody goes on: late, if event time
        // had come beyond it at the last checkpoint.
        let mut of_round = Vec::new();
        for &p in round.old.iter().filter(|&&p| oracle.partitions[p].idle) {
            of_round.push((p, (p as u32, times[p] - 12, 1_000)));
        }
        for (p, event) in &of_round {
            source.push(*p, *event);
            oracle.record(*event);
            let partition = &mut oracle.partitions[*p];
            *partition = Partition { highest: partition.highest.max(event.1), idle: false, quiet_ms: 0 };
        }
        settle(&running);
        oracle.checkpoint();
        for &(p, step) in &round.records {
            if oracle.partitions[p].idle {
                // Nobody waits for it: what was brought before must not come beyond it meanwhile.
                settle(&running);
                oracle.checkpoint();
            }
            // Never older than what holds event time back, so that no record races with a watermark.
            times[p] = (times[p] + step).max(oracle.watermark.saturating_add(1));
            number += 1;
            let event = ((number % 7) as u32, times[p], number);
            source.push(p, event);
            oracle.record(event);
            let partition = &mut oracle.partitions[p];
            *partition =
                Partition { highest: partition.highest.max(times[p]), idle: partition.idle, quiet_ms: 0 };
            if partition.idle {
                // Others may go beyond it until it counts again: it does at the next checkpoint.
                settle(&running);
                oracle.partitions[p].idle = false;
                oracle.checkpoint();
            }
        }
        settle(&running);
        oracle.checkpoint();
        if let Some(workers) = round.restart {
            running.kill();
            job = job.parallelism(workers);
            running = job.start();
            oracle.partitions.iter_mut().for_each(|p| (p.idle, p.quiet_ms) = (false, 0));
            settle(&running);
            oracle.checkpoint();
        }
        if round.pause {
            clock.advance_ms(QUIET_MS);
            for partition in &mut oracle.partitions {
                partition.idle = true;
            }
            settle(&running);
            oracle.checkpoint();
        }
        oracle.out.sort_unstable();
        assert_eq!(sums.sorted(), oracle.out, "after {round:?} with {workers} workers");
    }
    assert_eq!(running.stop().unwrap().late, oracle.late, "with {workers} workers");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Records, idleness and returns, kills and other parallelisms: what is late and which windows fire is as the oracle has
    /// it, with any number of workers.
    #[test]
    fn what_is_late_and_what_fires_does_not_depend_on_parallelism(
        rounds in prop::collection::vec(round(), 1..8)
    ) {
        for workers in [1, 2, 3, 5] {
            run_script(&rounds, workers);
        }
    }
}
