//! Functions with state and timers, alone, connected, and with a broadcast stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate::clock::ManualClock;
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{
    BroadcastContext, BroadcastProcess, Context, Either, KeyedProcess, Result, TimeDomain, Timer, Watermarks,
};

use crate::events::{Event, FAR};

/// What a key keeps: a number, a list, a map.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    sum: i64,
    last: Vec<i64>,
    by_number: BTreeMap<i64, u32>,
}

/// Puts out what it knows of a key with every record. Zero makes it forget, minus one makes it tell without a change.
struct Remember;

impl KeyedProcess for Remember {
    type Key = u32;
    type In = Event;
    type State = Notes;
    type Out = (u32, i64, usize, u32);
    type Side = u32;

    fn on_record(&mut self, (key, _, number): Event, cx: &mut Context<'_, Self>) -> Result<()> {
        match number {
            0 => {
                cx.state.clear();
                cx.side.emit(key);
            }
            -1 => {
                let known = cx.state.get().map_or((0, 0), |s| (s.sum, s.last.len()));
                cx.out.emit((key, known.0, known.1, u32::MAX));
            }
            _ => {
                let state = cx.state.get_mut();
                state.sum += number;
                state.last.push(number);
                *state.by_number.entry(number).or_default() += 1;
                cx.out.emit((key, state.sum, state.last.len(), state.by_number[&number]));
            }
        }
        Ok(())
    }
}

/// The same, by definition; one after the other.
#[derive(Default)]
struct Oracle {
    known: BTreeMap<u32, Notes>,
    out: Vec<(u32, i64, usize, u32)>,
    side: Vec<u32>,
}

impl Oracle {
    fn see(&mut self, (key, _, number): Event) {
        if number == 0 {
            self.known.remove(&key);
            return self.side.push(key);
        }
        if number == -1 {
            let known = self.known.get(&key).map_or((0, 0), |n| (n.sum, n.last.len()));
            return self.out.push((key, known.0, known.1, u32::MAX));
        }
        let notes = self.known.entry(key).or_default();
        notes.sum += number;
        notes.last.push(number);
        *notes.by_number.entry(number).or_default() += 1;
        self.out.push((key, notes.sum, notes.last.len(), notes.by_number[&number]));
    }

    fn sorted(&mut self) -> (Vec<(u32, i64, usize, u32)>, Vec<u32>) {
        self.out.sort_unstable();
        self.side.sort_unstable();
        (self.out.clone(), self.side.clone())
    }
}

/// A generator of numbers that needs no crate: Knuth's MMIX.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn state_survives_crashes_and_rescaling() {
    let (source, out, side) = (TestSource::new(1), VecSink::new(), VecSink::new());
    let (from, to, side_to) = (source.clone(), out.clone(), side.clone());
    let mut job = TestJob::new(move |job| {
        let keyed = job.source("events", from.clone()).key_by(|e: &Event| &e.0);
        let (main, side) = keyed.process_with_side("remember", Remember);
        main.sink("out", to.clone());
        side.sink("side", side_to.clone());
        Ok(())
    });
    let (mut oracle, mut seed) = (Oracle::default(), 7);
    let mut more = |count: usize| {
        for _ in 0..count {
            let number = [-1, 0, 1, 2, 3][random(&mut seed) as usize % 5];
            let event = (random(&mut seed) as u32 % 300, 0, number);
            oracle.see(event);
            source.push(0, event);
        }
    };
    for workers in [1, 3, 2, 2, 1] {
        job = job.parallelism(workers);
        let running = job.start();
        more(2_000);
        running.checkpoint();
        more(500);
        source.wait_until_read();
        running.kill();
    }
    more(1_000);
    source.end();
    let summary = job.run().unwrap();
    assert_eq!((out.sorted(), side.sorted()), oracle.sorted());
    assert_eq!((summary.rows_in, summary.rows_out), (13_500, 13_500));
}

/// A record sets a timer for its number; the timer tells when it came.
struct Alarms(TimeDomain);

impl KeyedProcess for Alarms {
    type Key = u32;
    type In = Event;
    type State = u32;
    type Out = (u32, i64, u32);
    type Side = ();

    fn on_record(&mut self, record: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        let timer = Timer { at: record.2.abs(), domain: self.0 };
        *cx.state.get_mut() += 1;
        if record.2 < 0 {
            cx.timers.clear(timer)
        } else {
            cx.timers.set(timer)
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        assert_eq!(timer.domain, self.0);
        let records = *cx.state.get().unwrap_or(&0);
        cx.out.emit((*cx.key, timer.at, records));
        Ok(())
    }
}

struct Alarming {
    source: TestSource<Event>,
    out: VecSink<(u32, i64, u32)>,
    job: TestJob,
}

fn alarming(time: TimeDomain) -> Alarming {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("alarms", Alarms(time))
            .sink("out", to.clone());
        Ok(())
    });
    Alarming { source, out, job }
}

#[test]
fn timers_of_event_time_survive_and_fire_once() {
    for (before, after) in [(1, 1), (1, 3), (3, 2)] {
        let Alarming { source, out, job } = alarming(TimeDomain::Event);
        let job = job.parallelism(before);
        let running = job.start();
        // Set twice is set once; key 2 takes one back.
        source.extend(0, [(1, 0, 10), (1, 1, 10), (2, 2, 10), (2, 3, 20), (2, 4, -10), (3, 5, 30)]);
        running.checkpoint();
        source.push(0, (4, 11, 12));
        running.checkpoint();
        assert_eq!(out.sorted(), [(1, 10, 2)]);
        source.push(0, (3, 12, -30));
        running.checkpoint();
        running.kill();
        source.push(0, (9, 21, 1_000));
        source.push(0, (9, 22, 1_000));
        source.end();
        job.parallelism(after).run().unwrap();
        assert_eq!(out.sorted(), [(1, 10, 2), (2, 20, 3), (4, 12, 1), (9, 1_000, 2)]);
    }
}

#[test]
fn timers_of_processing_time_survive_and_fire_once() {
    for (before, after) in [(1, 1), (1, 3), (3, 2)] {
        let clock = Arc::new(ManualClock::at(0));
        let Alarming { source, out, job } = alarming(TimeDomain::Processing);
        let job = job.parallelism(before).clock(clock.clone());
        let running = job.start();
        source.extend(0, (0..20).map(|key| (key, 0, 100 + i64::from(key))));
        source.push(0, (19, 0, -119));
        running.checkpoint();
        clock.advance_ms(109);
        out.wait_for(10);
        running.checkpoint();
        running.kill();
        // It is due while the job is down.
        clock.advance_ms(1);
        let job = job.parallelism(after);
        let running = job.start();
        out.wait_for(11);
        clock.advance_ms(1_000);
        out.wait_for(19);
        source.end();
        running.wait().unwrap();
        let expected: Vec<_> = (0..19).map(|key| (key, 100 + i64::from(key), 1)).collect();
        assert_eq!(out.sorted(), expected);
    }
}

/// Sets itself again, for ever.
struct Periodic;

impl KeyedProcess for Periodic {
    type Key = u32;
    type In = Event;
    type State = ();
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, record: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(record.1 + 10));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(timer.at);
        cx.timers.set(Timer { at: timer.at + 10, ..timer });
        Ok(())
    }
}

#[test]
fn a_timer_that_sets_itself_again_does_not_keep_the_job_from_its_end() {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("periodic", Periodic)
            .sink("out", to.clone());
        Ok(())
    });
    let running = job.start();
    source.extend(0, [(1, 0, 0), (2, 36, 0)]);
    running.checkpoint();
    assert_eq!(out.sorted(), [10, 20, 30], "what a timer sets for a time that has passed fires at once");
    source.end();
    running.wait().unwrap();
    assert_eq!(out.sorted(), [10, 20, 30, 40, 46], "the end of time fires what is set, once");
}

/// Sets a timer of each kind, and some more when they fire.
struct Kinds;

impl KeyedProcess for Kinds {
    type Key = u32;
    type In = Event;
    type State = ();
    type Out = (bool, i64);
    type Side = ();

    fn on_record(&mut self, record: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::processing(record.2));
        cx.timers.set(Timer::event(record.1 + 100));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        let processing = timer.domain == TimeDomain::Processing;
        cx.out.emit((processing, timer.at));
        let later = if processing { timer.at + 1_000 } else { 50 };
        cx.timers.set(Timer::processing(later));
        Ok(())
    }
}

#[test]
fn the_end_fires_timers_of_event_time_and_then_those_of_processing_time() {
    for workers in 1..=3 {
        let (source, out) = (TestSource::new(1), VecSink::new());
        let (from, to) = (source.clone(), out.clone());
        let job = TestJob::new(move |job| {
            job.source("events", from.clone())
                .event_time(|e: &Event| e.1, Watermarks::monotonous())
                .key_by(|e: &Event| &e.0)
                .process("kinds", Kinds)
                .sink("out", to.clone());
            Ok(())
        });
        let job = job.parallelism(workers).clock(Arc::new(ManualClock::at(0)));
        let running = job.start();
        source.extend(0, [(1, 0, 500), (1, 1, 300)]);
        running.checkpoint();
        running.kill();
        source.end();
        job.run().unwrap();
        let expected = [(false, 100), (false, 101), (true, 300), (true, 500)];
        assert_eq!(out.records(), expected, "what these set does not fire");
    }
}

/// Adds the left, multiplies by the right.
struct Calculate;

impl KeyedProcess for Calculate {
    type Key = u32;
    type In = Either<Event, (u32, i64)>;
    type State = i64;
    type Out = (u32, i64);
    type Side = ();

    fn on_record(&mut self, record: Either<Event, (u32, i64)>, cx: &mut Context<'_, Self>) -> Result<()> {
        let number = cx.state.get_mut();
        match record {
            Either::Left(event) => *number += event.2,
            Either::Right((_, factor)) => *number *= factor,
        }
        cx.out.emit((*cx.key, *number));
        Ok(())
    }
}

#[test]
fn connected_streams_share_one_state_a_key() {
    let (left, right, out) = (TestSource::new(1), TestSource::new(1).called("right"), VecSink::new());
    let (from, other, to) = (left.clone(), right.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        let right = job.source("right", other.clone()).key_by(|r: &(u32, i64)| &r.0);
        let left = job.source("left", from.clone()).key_by(|e: &Event| &e.0);
        left.connect(right).process("calculate", Calculate).sink("out", to.clone());
        Ok(())
    });
    let mut expected = Vec::new();
    for (round, workers) in [1, 3, 2].into_iter().enumerate() {
        job = job.parallelism(workers);
        let running = job.start();
        left.extend(0, (0..50).map(|key| (key, 0, 5)));
        running.checkpoint();
        right.extend(0, (0..50).map(|key| (key, 2)));
        running.checkpoint();
        running.kill();
        let before = [0, 10, 30][round];
        expected.extend((0..50u32).flat_map(|key| [(key, before + 5), (key, (before + 5) * 2)]));
    }
    left.end();
    right.end();
    job.run().unwrap();
    expected.sort_unstable();
    assert_eq!(out.sorted(), expected);
}

/// Sets a timer for the number of a record of either side; tells it to the side when it comes.
struct EitherAlarms;

impl KeyedProcess for EitherAlarms {
    type Key = u32;
    type In = Either<Event, Event>;
    type State = ();
    type Out = i64;
    type Side = i64;

    fn on_record(&mut self, record: Either<Event, Event>, cx: &mut Context<'_, Self>) -> Result<()> {
        let (Either::Left((_, _, at)) | Either::Right((_, _, at))) = record;
        cx.timers.set(Timer::event(at));
        cx.out.emit(at);
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.side.emit(timer.at);
        Ok(())
    }
}

#[test]
fn timers_of_connected_streams_wait_for_the_slower_one() {
    for (before, after) in [(1, 1), (1, 3), (3, 2)] {
        let (left, right) = (TestSource::new(1), TestSource::new(1).called("right"));
        let (out, side) = (VecSink::new(), VecSink::new());
        let (from, other, to, side_to) = (left.clone(), right.clone(), out.clone(), side.clone());
        let job = TestJob::new(move |job| {
            let marks = Watermarks::monotonous;
            let left = job.source("left", from.clone()).event_time(|e: &Event| e.1, marks());
            let right = job.source("right", other.clone()).event_time(|e: &Event| e.1, marks());
            let both = left.key_by(|e: &Event| &e.0).connect(right.key_by(|e: &Event| &e.0));
            let (main, side) = both.process_with_side("alarms", EitherAlarms);
            main.sink("out", to.clone());
            side.sink("side", side_to.clone());
            Ok(())
        });
        let job = job.parallelism(before);
        let running = job.start();
        left.push(0, (1, 100, 10));
        running.checkpoint();
        assert_eq!(side.records(), [0i64; 0], "the right has told nothing yet");
        right.push(0, (1, 10, 20));
        running.checkpoint();
        assert_eq!(side.records(), [0i64; 0]);
        right.push(0, (1, 11, 30));
        running.checkpoint();
        assert_eq!(side.records(), [10]);
        running.kill();
        let job = job.parallelism(after);
        let running = job.start();
        running.checkpoint();
        assert_eq!(side.records(), [10]);
        right.end();
        assert_eq!(side.wait_for(3), [10, 20, 30], "what has ended is not waited for");
        left.push(0, (1, 120, 1_000));
        left.end();
        running.wait().unwrap();
        assert_eq!((out.sorted(), side.sorted()), (vec![10, 20, 30, 1_000], vec![10, 20, 30, 1_000]));
    }
}

/// Adds what was broadcast to every number, and tells how many rules it knows when a timer fires.
struct Ruled;

impl BroadcastProcess for Ruled {
    type Key = u32;
    type In = Event;
    type Broadcast = (u32, i64);
    type State = ();
    type Shared = BTreeMap<u32, i64>;
    type Out = (u32, i64);
    type Side = usize;

    fn on_broadcast(&mut self, (rule, value): (u32, i64), rules: &mut BTreeMap<u32, i64>) -> Result<()> {
        rules.insert(rule, value);
        Ok(())
    }

    fn on_record(
        &mut self,
        record: Event,
        rules: &BTreeMap<u32, i64>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        cx.out.emit((record.0, record.2 + rules.values().sum::<i64>()));
        cx.timers.set(Timer::event(record.1));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timer,
        rules: &BTreeMap<u32, i64>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        cx.side.emit(rules.len());
        Ok(())
    }
}

#[test]
fn every_worker_knows_what_was_broadcast_after_a_restart_too() {
    let (events, rules) = (TestSource::new(2), TestSource::new(2).called("rules"));
    let (out, side) = (VecSink::new(), VecSink::new());
    let (from, other, to, side_to) = (events.clone(), rules.clone(), out.clone(), side.clone());
    let mut job = TestJob::new(move |job| {
        let rules = job.source("rules", other.clone());
        let events = job.source("events", from.clone());
        let events = events.event_time(|e: &Event| e.1, Watermarks::monotonous());
        let (main, side) =
            events.key_by(|e: &Event| &e.0).connect_broadcast(rules).process_with_side("ruled", Ruled);
        main.sink("out", to.clone());
        side.sink("side", side_to.clone());
        Ok(())
    });
    let mut expected = Vec::new();
    for (round, workers) in [2, 3, 1].into_iter().enumerate() {
        job = job.parallelism(workers);
        let running = job.start();
        let known = round as u32;
        rules.push(round % 2, (known, 10));
        running.checkpoint();
        for partition in 0..2 {
            events.extend(partition, (0..50).map(|key| (key, round as i64, 1)));
        }
        running.checkpoint();
        running.kill();
        expected.extend((0..100).map(|key| (key / 2, 1 + 10 * (i64::from(known) + 1))));
    }
    events.end();
    rules.end();
    job.run().unwrap();
    expected.sort_unstable();
    assert_eq!(out.sorted(), expected);
    // A timer of a round fires with the watermark of the next, when one rule more is known; the last ones at the end.
    assert_eq!(side.sorted(), [vec![2; 50], vec![3; 100]].concat());
}

/// Tells of its timers. One of processing time sets one of event time that has passed.
struct Chained;

impl KeyedProcess for Chained {
    type Key = u32;
    type In = Event;
    type State = ();
    type Out = (u32, i64);
    type Side = ();

    fn on_record(&mut self, (_, at, _): Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::processing(FAR + at));
        cx.timers.set(Timer::event(at + 5));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit((*cx.key, timer.at));
        if timer.domain == TimeDomain::Processing {
            cx.timers.set(Timer::event(timer.at - FAR));
        }
        Ok(())
    }
}

#[test]
fn a_source_that_had_ended_and_has_more_after_a_restart_is_read_on() {
    let (first, second) = (TestSource::new(1).called("first"), TestSource::<u32>::new(1).called("second"));
    let (fired, sums) = (VecSink::named("fired"), VecSink::named("sums"));
    let (from, other, fired_to, sums_to) = (first.clone(), second.clone(), fired.clone(), sums.clone());
    let job = TestJob::new(move |job| {
        let events = job.source("first", from.clone()).event_time(|e: &Event| e.1, Watermarks::monotonous());
        events.clone().key_by(|e| &e.0).process("chained", Chained).sink("fired", fired_to.clone());
        let windows = events.key_by(|e| &e.0).window(tidegate::Tumbling::of(crate::events::ms(10)));
        let counts = windows.aggregate("counts", tidegate::aggregates::Count);
        counts.map(|w| (w.window.start, w.value)).sink("sums", sums_to.clone());
        job.source("second", other.clone()).sink("others", tidegate::testing::Discard::named("others"));
        Ok(())
    });
    let mut job = job;
    let running = job.start();
    first.extend(0, [(1, 1, 0), (1, 15, 0)]);
    first.end();
    second.push(0, 1);
    sums.wait_for(2);
    // The end of the first source is part of a snapshot that is not the last one.
    running.checkpoint();
    running.kill();
    let timers = |at: [i64; 2]| at.map(|at| [(1, at + 5), (1, FAR + at)]).concat();
    // What the timers of processing time set for event time is set at the end: no time is left for it.
    let mut expected = timers([1, 15]);
    expected.sort_unstable();
    assert_eq!(fired.sorted(), expected);
    assert_eq!(sums.sorted(), [(0, 1), (10, 1)]);

    first.add_partition();
    first.extend(1, [(1, 5, 0), (1, 16, 0), (1, 27, 0), (1, 38, 0)]);
    first.end();
    second.end();
    job = job.parallelism(2);
    let summary = job.run().unwrap();
    assert_eq!(summary.late, 2, "two windows have fired already");
    assert_eq!(sums.sorted(), [(0, 1), (10, 1), (20, 1), (30, 1)]);
    expected.extend(timers([5, 16]));
    expected.extend(timers([27, 38]));
    expected.sort_unstable();
    assert_eq!(fired.sorted(), expected);
}
