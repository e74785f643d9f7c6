//! Windows behind windows and timers, without crashes: nothing is late, however it is cut.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::testing::VecSource;

use tidegate::testing::{TestJob, VecSink};
use tidegate::{Context, KeyedProcess, Result, Timer, Tumbling, Watermarks};

use crate::events::{Event, Fired, Sums, fired, ms};
use crate::events::{partitions, windows};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]
    #[test]
    fn nothing_is_late(
        parts in partitions(4, 1_500), workers in 1usize..=5, size in 1u64..40, wire in any::<bool>(),
        how in 0usize..3, interval in 1u64..10, memory in prop::sample::select(vec![1usize << 12, 64 << 20]),
    ) {
        let all = parts.concat();
        let first = windows(&all, size as i64, size as i64);
        let second: Vec<Event> = first.iter().map(|f| (f.1 % 3, f.0 + size as i64 - 1, f.3)).collect();
        let expected = windows(&second, size as i64 * 2, size as i64 * 2);
        let (source, out) = (VecSource::partitions(parts), VecSink::<Fired>::new());
        let to = out.clone();
        let job = TestJob::new(move |job| {
            let events = job.source("events", source.clone());
            let events = events.event_time(|e: &Event| e.1, Watermarks::bounded(ms(20)));
            let sums = events.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(size))).aggregate("first", Sums);
            let sums = sums.map(|w| (w.key % 3, w.window.end - 1, w.value.1));
            let sums = match how {
                0 => sums,
                1 => sums.rebalance(),
                _ => sums.key_by(|e: &Event| &e.1).process("again", Later),
            };
            let sums = sums.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(size * 2)));
            sums.aggregate("second", Sums).map(fired).sink("out", to.clone());
            Ok(())
        });
        let job = job.parallelism(workers).interval(ms(interval)).memory(memory);
        let job = if wire { job.over_the_wire() } else { job };
        let summary = job.run().unwrap();
        prop_assert_eq!(summary.late, 0);
        prop_assert_eq!(out.sorted(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]
    #[test]
    fn nothing_is_late_over_kills_and_stops(
        parts in partitions(4, 1_500), size in 1u64..400, wire in any::<bool>(),
        how in 0usize..3, interval in 1u64..10, memory in prop::sample::select(vec![1usize << 12, 64 << 20]),
        ends in prop::collection::vec((0u64..60, 1usize..=4, any::<bool>()), 1..6), seed in any::<u64>(),
        micros in prop::sample::select(vec![0u64, 50, 300]), hostile in any::<bool>(),
    ) {
        let all = parts.concat();
        let first = windows(&all, size as i64, size as i64);
        let second: Vec<Event> = first.iter().map(|f| (f.1 % 3, f.0 + size as i64 - 1, f.3)).collect();
        let expected = windows(&second, size as i64 * 2, size as i64 * 2);
        let (source, out) = (VecSource::partitions(parts), VecSink::<Fired>::new());
        let to = out.clone();
        let mut job = TestJob::new(move |job| {
            let events = job.source("events", source.clone());
            let events = events.event_time(|e: &Event| e.1, Watermarks::bounded(ms(20 + size * 3)));
            let sums = events.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(size))).aggregate("first", Sums);
            let sums = sums.map(move |w| {
                std::thread::sleep(Duration::from_micros(micros));
                (w.key % 3, w.window.end - 1, w.value.1)
            });
            let sums = match how {
                0 => sums,
                1 => sums.rebalance(),
                _ => sums.key_by(|e: &Event| &e.1).process("again", Later),
            };
            let sums = sums.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(size * 2)));
            sums.aggregate("second", Sums).map(fired).sink("out", to.clone());
            Ok(())
        }).interval(ms(interval)).memory(memory);
        if wire { job = job.over_the_wire() }
        if hostile { job = job.hostile_link(seed) }
        for (wait, workers, kill) in ends {
            job = job.parallelism(workers);
            let running = job.start();
            std::thread::sleep(ms(wait));
            if kill { running.kill() } else { drop(running.stop().unwrap()) }
        }
        let summary = job.run().unwrap();
        prop_assert_eq!(summary.late, 0);
        prop_assert_eq!(out.sorted(), expected);
    }
}

/// Emits what has come by a timer for the time of the record.
struct Later;

impl KeyedProcess for Later {
    type Key = i64;
    type In = Event;
    type State = Vec<Event>;
    type Out = Event;
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(e.1));
        cx.state.get_mut().push(e);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        for e in std::mem::take(cx.state.get_mut()) {
            cx.out.emit(e);
        }
        cx.state.clear();
        Ok(())
    }
}
