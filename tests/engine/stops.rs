//! Stops at any moment.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::testing::VecSource;

use tidegate::testing::{TestJob, VecSink};
use tidegate::{Context, KeyedProcess, Result, Timer, Tumbling, Watermarks};

use crate::events::{Event, Fired, Sums, fired, ms};

/// Emits every record, and each again as a timer.
struct Twice;

impl KeyedProcess for Twice {
    type Key = u32;
    type In = Event;
    type State = u64;
    type Out = Event;
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        *cx.state.get_mut() += 1;
        cx.timers.set(Timer::event(e.1 + 7));
        cx.out.emit(e);
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit((*cx.key, timer.at, 1_000_000));
        Ok(())
    }
}

fn run(stops: &[(u64, usize)], seed: u64, first: usize, second: usize) {
    // Times that go on, so that no record is ever late.
    let events = |partition: usize, n: usize| -> Vec<Event> {
        (0..n).map(|i| ((i % 23) as u32, (i * 3) as i64, partition as i64 + 1)).collect()
    };
    let parts = [events(0, first), events(1, first), events(2, first / 3)];
    let more = [events(3, second), vec![]];
    let all: Vec<Event> = parts.iter().chain(&more).flatten().copied().collect();
    let (sums, timers) = (VecSink::<Fired>::named("sums"), VecSink::<Event>::named("timers"));
    let (to, timers_to) = (sums.clone(), timers.clone());
    let mut job = TestJob::new(move |job| {
        let marks = || Watermarks::monotonous().idle_after(ms(3));
        let one = job.source("one", VecSource::partitions(parts.clone()).called("one"));
        let one = one.event_time(|e: &Event| e.1, Watermarks::monotonous()).named("one-time");
        let two = job.source("two", VecSource::partitions(more.clone()).called("two"));
        let two = two.event_time(|e: &Event| e.1, marks()).named("two-time");
        let both = one.union(two);
        both.clone().key_by(|e: &Event| &e.0).process("twice", Twice).sink("timers", timers_to.clone());
        both.key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(20)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("sums_out", to.clone());
        Ok(())
    })
    .interval(ms(2))
    .hostile_link(seed);
    let mut finished = false;
    for (wait, workers) in stops {
        job = job.parallelism(*workers);
        let running = job.start();
        std::thread::sleep(Duration::from_micros(*wait));
        let summary = running.stop().unwrap();
        assert!(!finished || summary.finished, "a finished job is finished");
        finished = summary.finished;
        if finished {
            assert_eq!(summary.rows_in, all.len() as u64);
        }
    }
    let summary = job.run().unwrap();
    assert!(summary.finished);
    assert_eq!((summary.late, summary.rows_in), (0, all.len() as u64));
    assert_eq!(sums.sorted(), crate::events::windows(&all, 20, 20));
    let times: BTreeSet<(u32, i64)> = all.iter().map(|e| (e.0, e.1 + 7)).collect();
    let mut expected = all.clone();
    expected.extend(times.into_iter().map(|(key, at)| (key, at, 1_000_000)));
    expected.sort_unstable();
    assert_eq!(timers.sorted(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]
    #[test]
    fn a_stop_at_any_moment_loses_nothing(
        stops in prop::collection::vec((prop_oneof![0u64..2_000, 0u64..30_000], 1usize..=3), 1..6),
        seed in any::<u64>(), first in 0usize..4_000, second in 0usize..4_000,
    ) {
        run(&stops, seed, first, second);
    }
}
