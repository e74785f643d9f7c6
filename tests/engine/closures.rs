//! Closures with state, and the aggregates of the crate: over crashes and with other numbers of workers, against naive
//! oracles.

use std::collections::BTreeMap;

use tidegate::aggregates::{Count, Max, Mean, Min, Sum, TopK};
use tidegate::testing::{TestJob, TestSource, VecSink, VecSource, collect};
use tidegate::{Aggregate, Context, KeyedProcess, Result, Stream, Tumbling, Watermarks};

use crate::events::{Event, ms};

/// Events of a few keys, one a millisecond.
fn events(count: i64) -> Vec<Event> {
    (0..count).map(|i| ((i * 7 % 13) as u32, i, i * i % 101 - 50)).collect()
}

/// What a job emits that is killed twice on its way, and started again with another number of workers.
fn over_crashes<O: Clone + Ord + Send + 'static>(
    steps: impl Fn(Stream<Event>) -> Stream<O> + Send + Sync + 'static,
) -> Vec<O> {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        let events = job.source("events", from.clone()).event_time(|e: &Event| e.1, Watermarks::monotonous());
        steps(events).sink("out", to.clone());
        Ok(())
    });
    let events = events(3_000);
    for (part, workers) in events.chunks(1_000).zip([1, 3, 2]) {
        job = job.parallelism(workers);
        let running = job.start();
        source.extend(0, part[..600].to_vec());
        running.checkpoint();
        source.extend(0, part[600..].to_vec());
        source.wait_until_read();
        running.kill();
    }
    source.end();
    job.run().unwrap();
    out.sorted()
}

/// What `f` makes of the events of every key so far, event after event, in the end sorted.
fn so_far<O: Ord>(mut f: impl FnMut(&[Event]) -> O) -> Vec<O> {
    let mut known: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
    let mut out: Vec<O> = Vec::new();
    for event in events(3_000) {
        let of_key = known.entry(event.0).or_default();
        of_key.push(event);
        out.push(f(of_key));
    }
    out.sort_unstable();
    out
}

fn sum(events: &[Event]) -> i64 {
    events.iter().map(|e| e.2).sum()
}

#[test]
fn a_closure_with_state_sees_every_record_once() {
    let found = over_crashes(|events| {
        events.key_by(|e| &e.0).map_with_state("sum", |sum: &mut i64, (key, _, number)| {
            *sum += number;
            (key, *sum)
        })
    });
    assert_eq!(found, so_far(|events| (events[0].0, sum(events))));
}

#[test]
fn a_closure_with_state_puts_out_as_many_records_as_it_returns() {
    let found = over_crashes(|events| {
        events.key_by(|e| &e.0).flat_map_with_state("records", |highest: &mut Option<i64>, event| {
            let is_record = highest.is_none_or(|highest| event.2 > highest);
            *highest = (*highest).max(Some(event.2));
            is_record.then_some(event)
        })
    });
    let highest = |events: &[Event]| events.iter().map(|e| e.2).max();
    let records = so_far(|events| {
        let (last, before) = events.split_last().unwrap();
        (highest(before) < Some(last.2)).then_some(*last)
    });
    assert_eq!(found, records.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn a_fold_adds_every_record_once_with_and_without_windows() {
    let found =
        over_crashes(|events| events.key_by(|e| &e.0).fold("sum", 1_000, |sum, event| *sum += event.2));
    assert_eq!(found, so_far(|events| (events[0].0, 1_000 + sum(events))));

    let found = over_crashes(|events| {
        let windows = events.key_by(|e| &e.0).window(Tumbling::of(ms(100)));
        let last = windows.fold("last", Vec::new(), |numbers, event| numbers.push(event.2));
        last.map(|w| (w.key, w.window.start, w.value))
    });
    assert_eq!(found, by_window(|events| events.iter().map(|e| e.2).collect::<Vec<_>>()));
}

/// What `f` makes of the events of every key and window of 100 ms, sorted.
fn by_window<O: Ord>(f: impl Fn(&[Event]) -> O) -> Vec<(u32, i64, O)> {
    let mut windows: BTreeMap<(u32, i64), Vec<Event>> = BTreeMap::new();
    for event in events(3_000) {
        windows.entry((event.0, event.1 / 100 * 100)).or_default().push(event);
    }
    windows.into_iter().map(|((key, start), events)| (key, start, f(&events))).collect()
}

#[test]
fn aggregates_of_the_crate_are_those_of_all_records_of_a_window() {
    let found = over_crashes(|events| {
        let number = |e: &Event| e.2;
        let all = (
            Count,
            Sum::of(number),
            Min::of(number),
            Max::of(number),
            Mean::of(number).map(f64::to_bits),
            TopK::of(3, number),
        );
        let windows = events.key_by(|e| &e.0).window(Tumbling::of(ms(100)));
        windows.aggregate("all", all).map(|w| (w.key, w.window.start, w.value))
    });
    let expected = by_window(|events| {
        let mut numbers: Vec<i64> = events.iter().map(|e| e.2).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let (count, sum) = (numbers.len() as u64, sum(events));
        let (least, most) = (numbers[numbers.len() - 1], numbers[0]);
        let mean = (sum as f64 / count as f64).to_bits();
        numbers.truncate(3);
        (count, i128::from(sum), least, most, mean, numbers)
    });
    assert_eq!(found, expected);
}

/// The same as the closure of the test below.
struct Seen;

impl KeyedProcess for Seen {
    type Key = u32;
    type In = u32;
    type State = u64;
    type Out = u64;
    type Side = ();

    fn on_record(&mut self, _: u32, context: &mut Context<'_, Self>) -> Result<()> {
        let seen = context.state.get_mut();
        *seen += 1;
        context.out.emit(*seen);
        Ok(())
    }
}

#[test]
fn a_closure_and_a_process_function_go_on_from_each_others_snapshots() {
    let (numbers, out) = (TestSource::<u32>::new(1), VecSink::new());
    let dir = tempfile::tempdir().unwrap();
    let run = |as_closure: bool| {
        let (from, to) = (numbers.clone(), out.clone());
        let job = TestJob::new(move |job| {
            let keyed = job.source("numbers", from.clone()).key_by(|n| n);
            let seen = if as_closure {
                keyed.map_with_state("seen", |seen: &mut u64, _| {
                    *seen += 1;
                    *seen
                })
            } else {
                keyed.process("seen", Seen)
            };
            seen.sink("out", to.clone());
            Ok(())
        });
        job.checkpoint_dir(dir.path()).start()
    };
    for (as_closure, seen) in [(true, 1), (false, 2), (true, 3)] {
        let running = run(as_closure);
        numbers.push(0, 7);
        running.checkpoint();
        assert_eq!(out.records().last(), Some(&seen));
        running.stop().unwrap();
    }
}

/// A closure has no timers, so what it emits has an event time only if what comes in has one.
#[test]
fn windows_behind_a_closure_need_an_event_time_before_it() {
    let refused = collect(|job| {
        let numbers = job.source("numbers", VecSource::of(0..10u32)).key_by(|n| n);
        let numbers = numbers.map_with_state("same", |_: &mut (), n| n).key_by(|n| n);
        Ok(numbers.window(Tumbling::of(ms(10))).aggregate("count", Count).map(|w| w.value))
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("without an event time: add .event_time(..)"), "{refused}");
}
