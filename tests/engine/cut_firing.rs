//! What is due fires slice by slice, and barriers, crashes and stops come in between: nothing is late at the next step, and
//! nothing fires twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate::clock::ManualClock;
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{Context, KeyedProcess, Result, Timer, Tumbling, Watermarks};

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
    let is_slow = Arc::new(AtomicBool::new(true));
    let (source, out) = (TestSource::<Event>::new(1), VecSink::new());
    let seen = is_slow.clone();
    let slow = move |_| {
        if seen.load(Ordering::SeqCst) {
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
    if kill {
        running.kill()
    } else {
        drop(running.stop().unwrap())
    }
    let before = out.sorted();
    assert!(before.len() < 20, "the firing was to be cut: {before:?}");
    is_slow.store(false, Ordering::SeqCst);
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

impl KeyedProcess for Echo {
    type Key = u32;
    type In = Event;
    type State = ();
    type Out = Event;
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(e.2));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit((0, timer.at, 1));
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

/// Counts how often a timer that sets itself for its own time has fired.
struct Overdue;

impl KeyedProcess for Overdue {
    type Key = u32;
    type In = Event;
    type State = u64;
    type Out = (u32, u64);
    type Side = ();

    fn on_record(&mut self, e: Event, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(e.2));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        let count = cx.state.get_mut();
        *count += 1;
        cx.out.emit((*cx.key, *count));
        cx.timers.set(timer);
        Ok(())
    }
}

/// "A timer .. for its own time .. fires when the watermark comes further the next time": a restart that cut the sweep is no
/// watermark.
fn overdue(kill: bool) -> Vec<(u32, u64)> {
    let slow = Arc::new(AtomicBool::new(true));
    let (source, out) = (TestSource::<Event>::new(1), VecSink::<(u32, u64)>::new());
    let (from, to, is_slow) = (source.clone(), out.clone(), slow.clone());
    let job = TestJob::new(move |job| {
        let is_slow = is_slow.clone();
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("overdue", Overdue)
            .inspect(move |_| {
                if is_slow.load(Ordering::SeqCst) {
                    std::thread::sleep(ms(20));
                }
            })
            .sink("out", to.clone());
        Ok(())
    });
    let mut running = job.start();
    // Keys 1 to 99, each with a timer for its number.
    source.extend(0, (1..100).map(|n| (n as u32, 1, 100 + n)));
    running.checkpoint();
    source.push(0, (0, 1_000, 5_000));
    source.wait_until_read();
    running.wait_for(tidegate::protocol::Epoch(running.published().0 + 4));
    if kill {
        running.kill();
        running = job.start();
    }
    slow.store(false, Ordering::SeqCst);
    running.checkpoint();
    running.checkpoint();
    running.stop().unwrap();
    out.sorted()
}

#[test]
fn a_timer_that_sets_itself_fires_as_often_with_a_crash_in_its_sweep_as_without() {
    let once: Vec<(u32, u64)> = (1..100).map(|key| (key, 1)).collect();
    assert_eq!(overdue(false), once, "without a crash");
    assert_eq!(overdue(true), once, "with a crash");
}

/// "At the end of the input .. everything that is still set fires once .. and in the same way after a crash."
fn overdue_at_the_end(kill: bool) -> Vec<(u32, u64)> {
    let slow = Arc::new(AtomicBool::new(false));
    let (source, out) = (TestSource::<Event>::new(1), VecSink::<(u32, u64)>::new());
    let (from, to, is_slow) = (source.clone(), out.clone(), slow.clone());
    let job = TestJob::new(move |job| {
        let is_slow = is_slow.clone();
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .process("overdue", Overdue)
            .inspect(move |_| {
                if is_slow.load(Ordering::SeqCst) {
                    std::thread::sleep(ms(20));
                }
            })
            .sink("out", to.clone());
        Ok(())
    });
    let running = job.start();
    source.extend(0, (1..100).map(|n| (n as u32, 1, 100 + n)));
    running.checkpoint();
    source.push(0, (0, 1_000, 5_000));
    running.checkpoint();
    running.checkpoint();
    assert_eq!(out.records().len(), 99, "at 999");
    slow.store(true, Ordering::SeqCst);
    source.end();
    // At 1000, and some of them at the end.
    out.wait_for(99 + 99 + 30);
    if kill {
        running.kill();
        slow.store(false, Ordering::SeqCst);
        job.run().unwrap();
    } else {
        running.wait().unwrap();
    }
    out.sorted()
}

#[test]
fn a_timer_that_sets_itself_ends_in_the_same_way_after_a_crash_at_the_end() {
    let mut expected: Vec<_> = (1..100).flat_map(|key| (1..=3).map(move |n| (key, n))).collect();
    expected.insert(0, (0, 1));
    assert_eq!(overdue_at_the_end(false), expected, "without a crash");
    assert_eq!(overdue_at_the_end(true), expected, "with a crash");
}

/// A partition was idle, came back, and counts from the next barrier on. Its step fires slowly, and says the same before and
/// after the barrier: so nobody hears that it is active.
#[test]
fn a_step_that_fires_across_the_barrier_from_which_on_its_partition_counts_holds_event_time_back() {
    let clock = Arc::new(ManualClock::at(0));
    let sources = [0, 1].map(|n| TestSource::<Event>::followed(1).called(["one", "two"][n]));
    let (from, out) = (sources.clone(), VecSink::<Fired>::new());
    let to = out.clone();
    let job = TestJob::new(move |job| {
        let marks = |out| Watermarks::bounded(ms(out)).idle_after(ms(1_000));
        let one =
            job.source("one", from[0].clone()).event_time(|e: &Event| e.1, marks(1_000)).named("time-one");
        let two = job.source("two", from[1].clone()).event_time(|e: &Event| e.1, marks(0)).named("time-two");
        let first = one.key_by(|e: &Event| &e.0).window(Tumbling::of(ms(10))).aggregate("first", Sums);
        let first = first.map(fired).map(|f: Fired| {
            std::thread::sleep(ms(10));
            (0u32, f.0, f.3)
        });
        first
            .union(two)
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("second", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    let job = job.clock(clock.clone()).interval(ms(100));
    let running = job.start();
    sources[0].push(0, (1, 5, 0));
    sources[1].push(0, (1, 5, 0));
    running.checkpoint();
    clock.advance_ms(1_000);
    running.checkpoint();
    running.checkpoint();
    sources[1].push(0, (1, 6, 0));
    running.checkpoint();
    running.checkpoint();
    // The first is idle, the second active at 5. 300 results are due at once.
    sources[0].extend(0, (0..300).map(|n| (1, 15 + n, 1)).flat_map(|e| [(e.0, e.1 / 10 * 10 + 5, 1)]));
    sources[0].extend(0, (0..300).map(|n| (n, 500, 1)));
    sources[0].push(0, (1, 2_000, 0));
    sources[0].wait_until_read();
    for _ in 0..3 {
        running.wait_for(tidegate::protocol::Epoch(running.published().0 + 1));
    }
    // From here on it counts, and what it has still to fire is older than this.
    sources[1].push(0, (1, 900, 0));
    sources[1].wait_until_read();
    let summary = running.stop().unwrap();
    assert_eq!(summary.late, 0, "{:?}", out.sorted());
}
