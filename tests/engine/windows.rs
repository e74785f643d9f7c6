//! Windows: what falls into them, what is late for them, and that none fires twice.

use std::sync::Arc;

use proptest::prelude::*;
use tidegate::clock::ManualClock;
use tidegate::testing::{TestJob, TestSource, VecSink, VecSource};
use tidegate::{Sliding, Tumbling, Watermarks, Windows};

use crate::events::{Event, Fired, Sums, fired, ms, partitions, windows};

/// A job that sums up the events of a source in windows; late ones go to the second sink.
struct Windowing {
    source: TestSource<Event>,
    sums: VecSink<Fired>,
    late: VecSink<Event>,
    job: TestJob,
}

fn windowing(partitions: usize, windows: Windows, lateness_ms: u64) -> Windowing {
    let (source, sums, late) = (TestSource::new(partitions), VecSink::new(), VecSink::new());
    let (from, to, late_to) = (source.clone(), sums.clone(), late.clone());
    let job = TestJob::new(move |job| {
        let (main, late) = job
            .source("events", from.clone())
            .event_time(|e: &Event| e.1, Watermarks::monotonous())
            .key_by(|e: &Event| &e.0)
            .window(windows)
            .allowed_lateness(ms(lateness_ms))
            .aggregate_with_late("sums", Sums);
        main.map(fired).sink("sums_out", to.clone());
        late.sink("late_out", late_to.clone());
        Ok(())
    });
    Windowing { source, sums, late, job }
}

fn tumbling(size: u64) -> Windows {
    Tumbling::of(ms(size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_record_is_in_each_of_its_windows_once(
        parts in partitions(3, 400), workers in 1usize..=3, slide in 1i64..60, times in 1i64..4, odd in 0i64..7
    ) {
        let size = slide * times + odd.min(slide - 1);
        let expected = windows(&parts.concat(), size, slide);
        let out = VecSink::new();
        let sink = out.clone();
        let source = VecSource::partitions(parts);
        let job = TestJob::new(move |job| {
            job.source("events", source.clone())
                .event_time(|e: &Event| e.1, Watermarks::bounded(ms(20)))
                .key_by(|e: &Event| &e.0)
                .window(Sliding::of(ms(size as u64), ms(slide as u64)))
                .aggregate("sums", Sums)
                .map(fired)
                .sink("out", sink.clone());
            Ok(())
        });
        let summary = job.parallelism(workers).interval(ms(1)).run().unwrap();
        prop_assert_eq!(out.sorted(), expected);
        prop_assert_eq!(summary.late, 0);
    }
}

#[test]
fn what_was_late_before_a_crash_is_late_after_it() {
    for (before, after) in [(1, 1), (1, 3), (2, 2), (3, 2)] {
        let Windowing { source, sums, late, job } = windowing(1, tumbling(10), 0);
        let job = job.parallelism(before);
        let running = job.start();
        source.extend(0, [(1, 5, 1), (2, 6, 1), (3, 25, 1)]);
        running.checkpoint();
        source.push(0, (1, 7, 100));
        running.checkpoint();
        running.kill();
        source.extend(0, [(1, 8, 100), (2, 9, 100), (3, 26, 1), (1, 24, 1)]);
        source.end();
        let summary = job.parallelism(after).run().unwrap();
        assert_eq!(sums.sorted(), [(0, 1, 1, 1), (0, 2, 1, 1), (20, 1, 1, 1), (20, 3, 2, 2)]);
        assert_eq!(late.sorted(), [(1, 7, 100), (1, 8, 100), (2, 9, 100)]);
        assert_eq!((summary.late, summary.rows_in, summary.rows_out), (3, 8, 7));
    }
}

#[test]
fn a_window_that_was_published_never_fires_again() {
    let Windowing { source, sums, job, .. } = windowing(1, tumbling(10), 0);
    for round in 0..6i64 {
        let job = job.start();
        source.extend(0, (0..20).map(|key| (key, round * 10 + 3, 1)));
        job.checkpoint();
        // Of the next window, and lost with the crash: the source brings it again.
        source.extend(0, (0..20).map(|key| (key, round * 10 + 4, 1)));
        source.wait_until_read();
        job.kill();
    }
    source.end();
    job.parallelism(2).run().unwrap();
    let expected: Vec<Fired> = (0..6).flat_map(|w| (0..20).map(move |key| (w * 10, key, 2, 2))).collect();
    assert_eq!(sums.sorted(), expected);
}

#[test]
fn a_late_record_in_time_has_its_window_put_out_again() {
    for workers in 1..=3 {
        let Windowing { source, sums, late, job } = windowing(1, tumbling(10), 20);
        let running = job.parallelism(workers);
        let running = running.start();
        source.extend(0, [(1, 5, 1), (1, 15, 0)]);
        running.checkpoint();
        assert_eq!(sums.sorted(), [(0, 1, 1, 1)]);
        source.extend(0, [(1, 6, 10), (1, 7, 100), (2, 8, 7)]);
        running.checkpoint();
        let updated = [(0, 1, 1, 1), (0, 1, 2, 11), (0, 1, 3, 111), (0, 2, 1, 7)];
        assert_eq!(sums.sorted(), updated, "with {workers} workers");
        source.push(0, (1, 30, 0));
        running.checkpoint();
        source.push(0, (1, 9, 1000));
        source.end();
        assert_eq!(running.wait().unwrap().late, 1);
        assert_eq!(late.records(), [(1, 9, 1000)]);
        let all: Vec<Fired> = updated.into_iter().chain([(10, 1, 1, 0), (30, 1, 1, 0)]).collect();
        assert_eq!(sums.sorted(), all);
    }
}

/// Keys of both workers: where one has fired a window, another may see its first record of that window.
#[test]
fn a_fired_window_that_waits_for_late_records_does_not_fire_again_after_a_crash() {
    for after in [1, 2, 3] {
        let Windowing { source, sums, job, .. } = windowing(1, tumbling(10), 1_000);
        let job = job.parallelism(2);
        for late in 1..40 {
            let running = job.start();
            source.extend(0, [(late - 1, 5, 1), (0, 15, 0)]);
            running.checkpoint();
            source.push(0, (late, 6, 1));
            running.checkpoint();
            running.kill();
            if late == 3 {
                break;
            }
        }
        source.push(0, (0, 16, 0));
        source.end();
        job.parallelism(after).run().unwrap();
        let of_first: Vec<Fired> = sums.sorted().into_iter().filter(|f| f.0 == 0).collect();
        let twice = [1, 2].map(|key| [(0, key, 1, 1), (0, key, 2, 2)]).concat();
        let expected = [vec![(0, 0, 1, 1)], twice, vec![(0, 3, 1, 1)]].concat();
        assert_eq!(of_first, expected);
    }
}

#[test]
fn a_record_is_late_only_if_it_is_for_all_of_its_windows() {
    let Windowing { source, sums, late, job } = windowing(1, Sliding::of(ms(20), ms(10)), 0);
    let running = job.start();
    source.extend(0, [(1, 21, 1)]);
    running.checkpoint();
    source.extend(0, [(1, 15, 10), (1, 5, 100)]);
    source.end();
    assert_eq!(running.wait().unwrap().late, 1);
    assert_eq!(late.records(), [(1, 5, 100)]);
    assert_eq!(sums.sorted(), [(10, 1, 2, 11), (20, 1, 1, 1)]);
}

#[test]
fn a_stop_keeps_windows_open() {
    let Windowing { source, sums, job, .. } = windowing(2, tumbling(10), 0);
    let running = job.start();
    source.extend(0, [(1, 1, 1), (2, 2, 1)]);
    source.extend(1, [(1, 3, 1), (1, 18, 1)]);
    source.wait_until_read();
    assert!(!running.stop().unwrap().finished);
    assert_eq!(sums.records(), []);
    source.push(0, (1, 4, 1));
    source.end();
    assert!(job.parallelism(2).run().unwrap().finished);
    assert_eq!(sums.sorted(), [(0, 1, 3, 3), (0, 2, 1, 1), (10, 1, 1, 1)]);
}

#[test]
fn windows_of_processing_time_follow_the_clock_across_a_restart() {
    for (before, after) in [(1, 2), (2, 1), (2, 2)] {
        let clock = Arc::new(ManualClock::at(1_000));
        let Windowing { source, sums, job, .. } = windowing(1, Tumbling::of_processing_time(ms(100)), 0);
        let job = job.clock(clock.clone()).parallelism(before);
        let running = job.start();
        source.extend(0, (0..10).map(|key| (key, 0, 1)));
        running.checkpoint();
        clock.advance_ms(99);
        source.extend(0, (0..10).map(|key| (key, 0, 1)));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        running.kill();
        let job = job.parallelism(after);
        let running = job.start();
        clock.advance_ms(1);
        let first: Vec<Fired> = (0..10).map(|key| (1_000, key, 2, 2)).collect();
        sums.wait_for(10);
        assert_eq!(sums.sorted(), first);
        source.push(0, (77, 0, 5));
        source.end();
        running.wait().unwrap();
        assert_eq!(sums.sorted(), [first, vec![(1_100, 77, 1, 5)]].concat());
    }
}

#[test]
fn a_clock_that_goes_back_opens_no_window_again() {
    for (before, after) in [(1, 1), (1, 3), (3, 2)] {
        let clock = Arc::new(ManualClock::at(1_000));
        let Windowing { source, sums, job, .. } = windowing(1, Tumbling::of_processing_time(ms(100)), 0);
        let job = job.clock(clock.clone()).parallelism(before);
        let running = job.start();
        source.push(0, (1, 0, 1));
        running.checkpoint();
        clock.advance_ms(100);
        sums.wait_for(1);
        clock.advance_ms(-80);
        source.push(0, (1, 0, 5));
        running.checkpoint();
        running.kill();
        // The clock is still behind, and nobody but the snapshot knows of the window that has fired.
        let job = job.parallelism(after);
        let running = job.start();
        source.extend(0, (0..10).map(|key| (key, 0, 7)));
        source.end();
        running.wait().unwrap();
        let mut expected = vec![(1_000, 1, 1, 1)];
        expected.extend((0..10).map(|key| if key == 1 { (1_100, 1, 2, 12) } else { (1_100, key, 1, 7) }));
        assert_eq!(sums.sorted(), expected);
    }
}

#[test]
fn sliding_windows_of_processing_time_take_a_record_each() {
    for (before, after) in [(1, 1), (1, 2), (2, 1)] {
        let clock = Arc::new(ManualClock::at(1_010));
        let Windowing { source, sums, job, .. } =
            windowing(1, Sliding::of_processing_time(ms(100), ms(50)), 0);
        let job = job.clock(clock.clone()).parallelism(before);
        let running = job.start();
        source.push(0, (1, 0, 1));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        clock.advance_ms(40);
        assert_eq!(sums.wait_for(1), [(950, 1, 1, 1)]);
        source.push(0, (1, 0, 5));
        running.checkpoint();
        running.kill();
        let job = job.parallelism(after);
        let running = job.start();
        clock.advance_ms(50);
        assert_eq!(sums.wait_for(2), [(950, 1, 1, 1), (1_000, 1, 2, 6)]);
        source.end();
        running.wait().unwrap();
        assert_eq!(sums.sorted(), [(950, 1, 1, 1), (1_000, 1, 2, 6), (1_050, 1, 1, 5)]);
    }
}

#[test]
fn sliding_windows_wait_for_late_records_each_for_itself() {
    for workers in 1..=2 {
        let Windowing { source, sums, late, job } = windowing(1, Sliding::of(ms(20), ms(10)), 10);
        let running = job.parallelism(workers);
        let running = running.start();
        source.push(0, (1, 21, 1));
        running.checkpoint();
        // Both come for the window from 0 on, which is over and waits; that from -10 on waits no more.
        source.extend(0, [(1, 15, 10), (1, 5, 100)]);
        running.checkpoint();
        assert_eq!(sums.sorted(), [(0, 1, 1, 10), (0, 1, 2, 110)]);
        source.push(0, (1, 31, 0));
        running.checkpoint();
        source.extend(0, [(1, 16, 1_000), (1, 4, 7)]);
        source.end();
        assert_eq!(running.wait().unwrap().late, 1);
        assert_eq!(late.records(), [(1, 4, 7)]);
        let first = [(0, 1, 1, 10), (0, 1, 2, 110), (10, 1, 2, 11), (10, 1, 3, 1_011)];
        let last = [(20, 1, 2, 1), (30, 1, 1, 0)];
        assert_eq!(sums.sorted(), [&first[..], &last].concat());
    }
}
