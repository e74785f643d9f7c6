//! State several times larger than the memory that it may take.

use std::collections::BTreeMap;

use tidegate::aggregates::Count;
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{Context, KeyedProcess, Result, Timer, Tumbling, Watermarks};

use crate::events::{Event, Sums, fired, ms, windows};

const KEYS: u32 = 200_000;
const MEMORY: usize = 2 << 20;

/// All keys, in an order that is not theirs.
fn shuffled(round: u32) -> impl Iterator<Item = u32> {
    (0..KEYS).map(move |n| (n.wrapping_mul(7_919) + round * 31) % KEYS)
}

#[test]
fn running_values_of_many_keys_are_right() {
    let (source, out) = (TestSource::new(2), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        let keyed = job.source("keys", from.clone()).key_by(|key: &u32| key);
        keyed.aggregate("count", Count).filter(|c| c.0 % 100 == 0 || c.1 > 3).sink("out", to.clone());
        Ok(())
    })
    .memory(MEMORY);
    for (round, workers) in [(0, 2), (1, 1), (2, 2)] {
        job = job.parallelism(workers).interval(ms(50));
        let running = job.start();
        source.extend(round as usize % 2, shuffled(round));
        source.wait_until_read();
        if round == 1 {
            running.kill();
        } else {
            running.stop().unwrap();
        }
    }
    source.end();
    job.run().unwrap();
    let expected: Vec<_> = (0..KEYS).step_by(100).flat_map(|key| (1..=3).map(move |n| (key, n))).collect();
    assert_eq!(out.sorted(), expected);
}

/// Remembers the last number of a key; an even one is forgotten again, by a timer.
struct Last;

impl KeyedProcess for Last {
    type Key = u32;
    type In = Event;
    type State = (i64, String);
    type Out = (u32, i64, i64);
    type Side = ();

    fn on_record(&mut self, record: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        let before = cx.state.get().map_or(-1, |s| s.0);
        cx.out.emit((record.0, before, record.2));
        *cx.state.get_mut() = (record.2, format!("number {} of key {}", record.2, record.0));
        if record.2 % 2 == 0 {
            cx.timers.set(Timer::event(record.1));
        }
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.state.clear();
        Ok(())
    }
}

#[test]
fn state_that_comes_and_goes_is_right() {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("last", Last)
            .sink("out", to.clone());
        Ok(())
    })
    .memory(MEMORY)
    .interval(ms(30));
    let (mut known, mut expected) = (BTreeMap::<u32, i64>::new(), Vec::new());
    for round in 0..4i64 {
        job = job.parallelism(1 + round as usize % 2);
        let running = job.start();
        let numbers = shuffled(round as u32).step_by(4).enumerate();
        let events: Vec<Event> = numbers.map(|(i, key)| (key, round, i as i64 % 5 + round)).collect();
        for (key, _, number) in &events {
            expected.push((*key, known.get(key).copied().unwrap_or(-1), *number));
            known.insert(*key, *number);
        }
        known.retain(|_, number| *number % 2 != 0);
        source.extend(0, events);
        running.checkpoint();
        if round % 2 == 0 { running.kill() } else { drop(running.stop()) }
    }
    source.end();
    job.run().unwrap();
    expected.sort_unstable();
    assert_eq!(out.sorted(), expected);
}

#[test]
fn windows_of_many_keys_are_right() {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(1_000)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    })
    .memory(MEMORY)
    .interval(ms(30));
    let mut all = Vec::new();
    for round in 0..4i64 {
        job = job.parallelism(2 - round as usize % 2);
        let running = job.start();
        let keys = shuffled(round as u32).step_by(2);
        let events: Vec<Event> = keys.map(|key| (key, round * 500 + i64::from(key % 500), 1)).collect();
        let mut events = events;
        events.sort_by_key(|e| e.1);
        all.extend(events.clone());
        source.extend(0, events);
        running.checkpoint();
        running.kill();
    }
    source.end();
    job.run().unwrap();
    assert_eq!(out.sorted(), windows(&all, 1_000, 1_000));
}
