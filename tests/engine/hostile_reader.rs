//! What a hostile reader found: each test shows a defect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::clock::ManualClock;
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{KeyedProcess, ProcessContext, Result, Time, Timer, Tumbling, Watermarks};

use crate::events::{Event, Fired, Sums, fired, ms};

/// A window of the same size behind a window, by another key.
fn two_windows(
    source: &TestSource<Event>,
    out: &VecSink<Fired>,
    watermarks: impl Fn() -> Watermarks + Send + Sync + 'static,
    slow: impl Fn(u32) + Clone + Send + Sync + 'static,
) -> TestJob {
    let (from, to) = (source.clone(), out.clone());
    TestJob::new(move |job| {
        let slow = slow.clone();
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, watermarks())
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("first", Sums)
            .map(fired)
            .inspect(move |f: &Fired| slow(f.1))
            .map(|f: Fired| (0u32, f.0, f.3))
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("second", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    })
}

/// All partitions are idle; then one brings more. Event time is that of the furthest. The two workers' windows fire, one at
/// once and one slowly; the first says that it has come to the furthest, and nobody waits for the other.
#[test]
fn results_of_a_worker_that_still_fires_are_not_late_when_all_partitions_were_idle() {
    let clock = Arc::new(ManualClock::at(0));
    let (source, out) = (TestSource::<Event>::followed(2), VecSink::new());
    let marks = || Watermarks::monotonous().idle_after(ms(1_000));
    let slow = |key: u32| {
        if key == 1 {
            std::thread::sleep(ms(200));
        }
    };
    let job = two_windows(&source, &out, marks, slow);
    let job = job.parallelism(2).clock(clock.clone()).interval(Duration::from_secs(2));
    let running = job.start();
    source.push(0, (0, 5, 0));
    source.push(1, (0, 5, 0));
    running.checkpoint();
    clock.advance_ms(1_000);
    running.checkpoint();
    running.checkpoint();
    // Both are idle, and stay so until the next barrier.
    source.extend(0, (1..40).map(|key| (key, 15, 1)));
    source.push(0, (0, 100, 0));
    running.checkpoint();
    running.checkpoint();
    let summary = running.stop().unwrap();
    assert_eq!(summary.late, 0, "{:?}", out.sorted());
    assert_eq!(out.sorted(), [(0, 0, 1, 0), (10, 0, 39, 39)]);
}

/// The same at the end of the input.
#[test]
fn results_of_a_worker_that_still_fires_are_not_late_at_the_end_when_all_partitions_were_idle() {
    let clock = Arc::new(ManualClock::at(0));
    let (source, out) = (TestSource::<Event>::new(2), VecSink::new());
    let marks = || Watermarks::bounded(ms(50)).idle_after(ms(1_000));
    let slow = |key: u32| {
        if key == 1 {
            std::thread::sleep(ms(200));
        }
    };
    let job = two_windows(&source, &out, marks, slow);
    let job = job.parallelism(2).clock(clock.clone()).interval(Duration::from_millis(200));
    let running = job.start();
    source.extend(0, (1..40).map(|key| (key, 15, 1)));
    source.push(1, (0, 16, 0));
    running.checkpoint();
    clock.advance_ms(1_000);
    running.checkpoint();
    running.checkpoint();
    source.end();
    let summary = running.wait().unwrap();
    assert_eq!(summary.late, 0, "{:?}", out.sorted());
    assert_eq!(out.sorted(), [(10, 0, 40, 39)]);
}

/// A barrier cuts the firing of several windows; then the job is killed and goes on. What fires after the restart must not be
/// late for the next window.
fn cut_windows(kill: bool, after: usize) {
    static SLOW: AtomicBool = AtomicBool::new(false);
    SLOW.store(true, Ordering::SeqCst);
    let (source, out) = (TestSource::<Event>::new(1), VecSink::new());
    let slow = |_| {
        if SLOW.load(Ordering::SeqCst) {
            std::thread::sleep(ms(20));
        }
    };
    let job = two_windows(&source, &out, || Watermarks::bounded(ms(500)), slow);
    let job = job.interval(Duration::from_millis(20));
    let running = job.start();
    for window in 0..20 {
        source.extend(0, (1..20).map(|key| (key, window * 10 + 5, 1)));
    }
    // All windows are due at once.
    running.checkpoint();
    source.push(0, (0, 1_000, 0));
    source.wait_until_read();
    let now = running.published();
    running.wait_for(tidegate::protocol::Epoch(now.0 + 4));
    if kill { running.kill() } else { drop(running.stop().unwrap()) }
    let before = out.sorted();
    assert!(before.len() < 20, "the firing was to be cut: {before:?}");
    SLOW.store(false, Ordering::SeqCst);
    source.end();
    let summary = job.parallelism(after).run().unwrap();
    let mut expected: Vec<Fired> = (0..20).map(|w| (w * 10, 0, 19, 19)).collect();
    expected.push((1_000, 0, 1, 0));
    assert_eq!(summary.late, 0);
    assert_eq!(out.sorted(), expected);
}

#[test]
fn windows_whose_firing_was_cut_are_not_late_behind_after_a_restart() {
    cut_windows(true, 1);
}

#[test]
fn windows_whose_firing_was_cut_by_a_stop_are_not_late_behind() {
    cut_windows(false, 2);
}

/// Emits the time of every timer.
struct Echo;

impl KeyedProcess<u32, Event> for Echo {
    type State = ();
    type Out = Event;
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut ProcessContext<'_, u32, Event, Self>) -> Result<()> {
        cx.set_timer(Timer { at: e.2, time: Time::Event });
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut ProcessContext<'_, u32, Event, Self>) -> Result<()> {
        cx.emit((0, timer.at, 1));
        Ok(())
    }
}

#[test]
fn timers_whose_sweep_was_cut_are_not_late_behind_after_a_restart() {
    static SLOW: AtomicBool = AtomicBool::new(true);
    let (source, out) = (TestSource::<Event>::new(1), VecSink::<Fired>::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("echo", Echo)
            .inspect(|_| {
                if SLOW.load(Ordering::SeqCst) {
                    std::thread::sleep(ms(20));
                }
            })
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("second", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    let running = job.start();
    source.extend(0, (0..400).map(|n| (n as u32 % 7, 1, n)));
    running.checkpoint();
    source.push(0, (0, 1_000, 5_000));
    source.wait_until_read();
    running.wait_for(tidegate::protocol::Epoch(running.published().0 + 4));
    running.kill();
    SLOW.store(false, Ordering::SeqCst);
    source.end();
    let summary = job.run().unwrap();
    assert_eq!(summary.late, 0);
    let starts: BTreeSet<i64> = out.sorted().iter().map(|f| f.0).collect();
    assert_eq!(out.sorted().iter().map(|f| f.2).sum::<u64>(), 401, "{starts:?}");
}
