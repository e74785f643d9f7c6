//! `aggregate_hot`: the same results as those of `aggregate`, with kills, other parallelisms, late records and most records of
//! one key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tidegate::aggregates::{Count, Max, Mean, Min, StdDev, Sum, TopK};
use tidegate::clock::ManualClock;
use tidegate::testing::{TestJob, TestSource, VecSink, VecSource, collect};
use tidegate::{Mergeable, Sliding, Stream, Tumbling, Watermarks, Windows};

use crate::events::{Event, FAR, Fired, Sums, fired, ms, partitions, windows};

impl Mergeable<Event> for Sums {
    fn merge(&self, acc: &mut (u64, i64), other: (u64, i64)) {
        *acc = (acc.0 + other.0, acc.1 + other.1);
    }
}

/// Nine of ten events belong to one key.
fn with_a_hot_key(parts: Vec<Vec<Event>>) -> Vec<Vec<Event>> {
    let hot = |(key, at, number)| (if key < 36 { 0 } else { key }, at, number);
    parts.into_iter().map(|part| part.into_iter().map(hot).collect()).collect()
}

fn summed(
    events: Stream<Event>,
    bound_ms: u64,
    windows: Windows,
    lateness_ms: u64,
    hot: bool,
) -> Stream<Fired> {
    let events = events.event_time(|e: &Event| e.1, Watermarks::bounded(ms(bound_ms)));
    let windows = events.key_by(|e: &Event| &e.0).window(windows).allowed_lateness(ms(lateness_ms));
    let sums = if hot { windows.aggregate_hot("sums", Sums) } else { windows.aggregate("sums", Sums) };
    sums.map(fired)
}

struct Summing {
    source: TestSource<Event>,
    out: VecSink<Fired>,
    /// Whether a run that is started takes two steps.
    hot: Arc<AtomicBool>,
    job: TestJob,
}

fn summing(partitions: usize, bound_ms: u64, windows: Windows, lateness_ms: u64, hot: bool) -> Summing {
    let (source, out, hot) = (TestSource::new(partitions), VecSink::new(), Arc::new(AtomicBool::new(hot)));
    let (from, to, is_hot) = (source.clone(), out.clone(), hot.clone());
    let job = TestJob::new(move |job| {
        let (events, hot) = (job.source("events", from.clone()), is_hot.load(Ordering::SeqCst));
        summed(events, bound_ms, windows, lateness_ms, hot).sink("out", to.clone());
        Ok(())
    });
    Summing { source, out, hot, job }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_record_is_in_each_of_its_windows_once(
        parts in partitions(3, 400), workers in 1usize..=3, slide in 1i64..60, times in 1i64..4, odd in 0i64..7,
        interval in prop_oneof![Just(1), Just(50)], wire in any::<bool>()
    ) {
        let parts = with_a_hot_key(parts);
        let size = slide * times + odd.min(slide - 1);
        let expected = windows(&parts.concat(), size, slide);
        let (out, source) = (VecSink::new(), VecSource::partitions(parts));
        let to = out.clone();
        let job = TestJob::new(move |job| {
            let windows = Sliding::of(ms(size as u64), ms(slide as u64));
            summed(job.source("events", source.clone()), 20, windows, 0, true).sink("out", to.clone());
            Ok(())
        });
        let job = if wire { job.over_the_wire() } else { job };
        let summary = job.parallelism(workers).interval(ms(interval)).run().unwrap();
        prop_assert_eq!(out.sorted(), expected);
        prop_assert_eq!(summary.late, 0);
    }

    /// From one worker to three to two, and from `aggregate` to `aggregate_hot` and back, with a kill at each change.
    #[test]
    fn kills_and_changes_lose_nothing_and_double_nothing(
        parts in partitions(3, 600), hot in prop::collection::vec(any::<bool>(), 3), slide in 10i64..40
    ) {
        let parts = with_a_hot_key(parts);
        let expected = windows(&parts.concat(), 40, slide);
        let sliding = Sliding::of(ms(40), ms(slide as u64));
        let Summing { source, out, hot: is_hot, mut job } = summing(3, 20, sliding, 0, hot[0]);
        let feed = |sixth: usize| {
            for (n, part) in parts.iter().enumerate() {
                let share = part.len() * sixth / 6..part.len() * (sixth + 1) / 6;
                source.extend(n, part[share].iter().copied());
            }
        };
        for (attempt, workers) in [1, 3, 2].into_iter().enumerate() {
            is_hot.store(hot[attempt], Ordering::SeqCst);
            job = job.parallelism(workers).interval(ms(5));
            let running = job.start();
            feed(2 * attempt);
            running.checkpoint();
            feed(2 * attempt + 1);
            source.wait_until_read();
            running.kill();
        }
        source.end();
        let summary = job.run().unwrap();
        prop_assert_eq!(out.sorted(), expected);
        prop_assert_eq!(summary.late, 0);
    }
}

#[test]
fn what_is_late_is_late_as_records_and_stays_late_after_a_crash() {
    for (before, after) in [(1, 1), (1, 3), (2, 2), (3, 2)] {
        let outcomes = [false, true].map(|hot| {
            let Summing { source, out, job, .. } = summing(1, 0, Sliding::of(ms(20), ms(10)), 0, hot);
            let job = job.parallelism(before);
            let running = job.start();
            source.extend(0, [(1, 5, 1), (2, 6, 1), (3, 25, 1)]);
            running.checkpoint();
            // Late for one of its two windows, and three that are late for both.
            source.extend(0, [(1, 17, 10), (1, 7, 100), (1, 8, 100), (2, 9, 100)]);
            running.checkpoint();
            running.kill();
            source.extend(0, [(1, 8, 100), (2, 9, 100), (3, 26, 1), (1, 24, 1)]);
            source.end();
            let summary = job.parallelism(after).run().unwrap();
            (out.sorted(), summary.late, summary.rows_in)
        });
        assert_eq!(outcomes[0], outcomes[1]);
        assert_eq!((outcomes[1].1, outcomes[1].2), (5, 11));
    }
}

#[test]
fn what_was_not_in_a_window_was_counted_as_late_across_crashes_and_rescaling() {
    let Summing { source, out, mut job, .. } = summing(2, 100, Tumbling::of(ms(10)), 0, true);
    let mut next = 0;
    for workers in [1, 2, 3, 1, 2] {
        job = job.parallelism(workers);
        let running = job.start();
        let mut feed = |blocks: i64| {
            for block in next..next + blocks {
                let at = 1_000 + block * 10;
                source.push(block as usize % 2, (2, at - 900, 1));
                source.extend(block as usize % 2, (0..9).map(|n| (n / 8, at, 1)));
            }
            next += blocks;
        };
        feed(50);
        running.checkpoint();
        feed(50);
        source.wait_until_read();
        running.kill();
    }
    source.end();
    let summary = job.run().unwrap();
    let counted = |late: bool| out.records().iter().filter(|f| (f.1 == 2) == late).map(|f| f.2).sum::<u64>();
    let blocks = next as u64;
    assert_eq!((counted(false), counted(true) + summary.late), (9 * blocks, blocks));
    assert!(summary.late > blocks / 2, "only {} of {blocks} were late", summary.late);
}

#[test]
fn a_late_record_in_time_has_its_window_put_out_again() {
    for workers in 1..=3 {
        let Summing { source, out, job, .. } = summing(1, 0, Tumbling::of(ms(10)), 20, true);
        let running = job.parallelism(workers);
        let running = running.start();
        source.extend(0, [(1, 5, 1), (1, 15, 0)]);
        running.checkpoint();
        assert_eq!(out.sorted(), [(0, 1, 1, 1)]);
        source.extend(0, [(1, 6, 10), (1, 7, 100), (2, 8, 7)]);
        running.checkpoint();
        // Once for both records, or once for each.
        let last: BTreeMap<(i64, u32), (u64, i64)> =
            out.sorted().into_iter().map(|f| ((f.0, f.1), (f.2, f.3))).collect();
        assert_eq!(last, BTreeMap::from([((0, 1), (3, 111)), ((0, 2), (1, 7))]), "with {workers} workers");
        source.push(0, (1, 30, 0));
        running.checkpoint();
        source.extend(0, [(1, 9, 1000), (1, 9, 1000)]);
        source.end();
        assert_eq!(running.wait().unwrap().late, 2);
    }
}

/// More keys than partial results wait at a time.
#[test]
fn many_keys_are_more_than_wait_at_a_time() {
    let keys = 20_000;
    let events = (0..2).flat_map(|_| (0..keys).map(|key| (key, 5, 1)));
    let source = VecSource::of(events.collect::<Vec<Event>>());
    let out = collect(move |job| {
        Ok(summed(job.source("events", source.clone()), 0, Tumbling::of(ms(10)), 0, true))
    });
    let mut out = out.unwrap();
    out.sort_unstable();
    assert_eq!(out, (0..keys).map(|key| (0, key, 2, 2)).collect::<Vec<Fired>>());
}

/// The number of a counter, over all workers.
fn total(metrics: &str, counter: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("tidegate_{counter}_total{{")));
    let sums = lines.filter(|line| line.contains("operator=\"sums\""));
    sums.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_hot_key_crosses_as_few_partial_results() {
    let Summing { source, out, job, .. } = summing(2, 0, Tumbling::of(ms(10_000)), 0, true);
    let running = job.parallelism(2).interval(ms(500)).start();
    for partition in 0..2 {
        source.extend(partition, (0..50_000).map(|n| (u32::from(n % 10 == 0), n / 10, 1)));
    }
    running.checkpoint();
    let metrics = running.metrics();
    let (records, partials) = (total(&metrics, "records_in"), total(&metrics, "partials_in"));
    assert_eq!(records, 100_000);
    assert!(partials >= 4 && partials < records / 100, "{partials} partial results");
    source.end();
    running.wait().unwrap();
    assert_eq!(out.sorted(), [(0, 0, 90_000, 90_000), (0, 1, 10_000, 10_000)]);
}

/// The values of a gauge by worker, of the step `sums`.
fn gauge(metrics: &str, gauge: &str) -> Vec<(String, i64)> {
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("tidegate_{gauge}{{")));
    let sums = lines.filter(|line| line.contains("operator=\"sums\""));
    let parts = sums.map(|line| (line.split("worker=\"").nth(1).unwrap(), line.rsplit(' ').next().unwrap()));
    parts.map(|(worker, value)| (worker[..1].to_owned(), value.parse().unwrap())).collect()
}

#[test]
fn a_hot_key_shows_as_the_share_of_its_key_group() {
    let Summing { source, job, .. } = summing(1, 0, Tumbling::of(ms(10)), 0, false);
    let running = job.parallelism(2).start();
    // Every fifth record is of one of many keys.
    source.extend(0, (0..50_000).map(|n| (if n % 5 == 0 { n } else { 7 }, 5, 1)));
    running.checkpoint();
    running.checkpoint();
    let metrics = running.metrics();
    let (groups, shares) =
        (gauge(&metrics, "hottest_key_group"), gauge(&metrics, "hottest_key_group_percent"));
    let (hot, share) = shares.iter().max_by_key(|(_, share)| share).unwrap();
    assert!((80..=100).contains(share), "{shares:?}");
    let group = groups.iter().find(|(worker, _)| worker == hot).unwrap().1;
    // The first worker has the first half of the key groups.
    assert_eq!((group >= 64).to_string(), (hot == "1").to_string(), "key group {group} of worker {hot}");
    assert!(shares.iter().all(|(worker, share)| worker == hot || *share < 10), "{shares:?}");
    running.stop().unwrap();
}

#[test]
fn windows_of_processing_time_take_partial_results_as_they_arrive() {
    let clock = Arc::new(ManualClock::at(1_000));
    let Summing { source, out, job, .. } = summing(1, 0, Tumbling::of_processing_time(ms(100)), 0, true);
    let running = job.clock(clock.clone()).parallelism(2).start();
    source.extend(0, (0..20).map(|n| (n % 2, 0, 1)));
    running.checkpoint();
    clock.advance_ms(100);
    source.extend(0, (0..20).map(|n| (n % 2, 0, 1)));
    assert_eq!(out.wait_for(2).len(), 2);
    running.checkpoint();
    source.end();
    running.wait().unwrap();
    assert_eq!(
        out.sorted(),
        [(1_000, 0, 10, 10), (1_000, 1, 10, 10), (1_100, 0, 10, 10), (1_100, 1, 10, 10)]
    );
}

/// A partition is idle and comes back with records of a window that is open because of it alone.
#[test]
fn records_of_a_partition_that_comes_back_are_treated_as_by_aggregate() {
    let outcomes = [false, true].map(|hot| {
        let clock = Arc::new(ManualClock::at(FAR));
        let (source, out) = (TestSource::followed(2), VecSink::new());
        let (from, to) = (source.clone(), out.clone());
        let job = TestJob::new(move |job| {
            let events = job.source("events", from.clone());
            let marks = Watermarks::monotonous().idle_after(ms(1_000));
            let windows = events
                .event_time(|e: &Event| e.1, marks)
                .key_by(|e: &Event| &e.0)
                .window(Tumbling::of(ms(10)));
            let sums =
                if hot { windows.aggregate_hot("sums", Sums) } else { windows.aggregate("sums", Sums) };
            sums.map(fired).sink("out", to.clone());
            Ok(())
        });
        let running = job.parallelism(2).clock(clock.clone()).start();
        source.push(0, (1, 5, 1));
        source.push(1, (1, 6, 1));
        running.checkpoint();
        clock.advance_ms(1_000);
        running.checkpoint();
        running.checkpoint();
        source.push(1, (1, 17, 1));
        running.checkpoint();
        running.checkpoint();
        source.extend(0, [(1, 8, 1), (1, 18, 1)]);
        running.checkpoint();
        source.extend(1, [(1, 30, 1)]);
        running.checkpoint();
        source.extend(0, [(1, 19, 1), (1, 31, 1)]);
        running.checkpoint();
        let summary = running.stop().unwrap();
        (out.sorted(), summary.late)
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn the_aggregates_of_the_crate_give_the_same_in_two_steps() {
    let number = |e: &Event| e.2;
    let events: Vec<Vec<Event>> =
        (0..3).map(|p| (0..500).map(|n| ((n % 4) as u32 / 3, n, (n * 7 + p) % 101 - 50)).collect()).collect();
    let outcomes = [false, true].map(|hot| {
        let (source, out) = (VecSource::partitions(events.clone()), VecSink::new());
        let to = out.clone();
        let job = TestJob::new(move |job| {
            let events = job.source("events", source.clone());
            let events = events.event_time(|e: &Event| e.1, Watermarks::monotonous());
            let windows = events.key_by(|e: &Event| &e.0).window(Sliding::of(ms(200), ms(80)));
            let numbers = (Sum::of(number), Min::of(number), Max::of(number), TopK::of(5, number));
            let all = (Count, Mean::of(number), StdDev::of(number), numbers);
            let out = if hot { windows.aggregate_hot("all", all) } else { windows.aggregate("all", all) };
            out.map(|w| {
                let (count, mean, deviation, (sum, min, max, top)) = w.value;
                // The order of the records has an effect on the last digits.
                let deviation = (deviation * 1e9).round() as i64;
                (w.window.start, w.key, count, (mean * 1e9).round() as i64, deviation, sum, (min, max, top))
            })
            .sink("out", to.clone());
            Ok(())
        });
        job.parallelism(2).run().unwrap();
        out.sorted()
    });
    assert_eq!(outcomes[0].len(), windows(&events.concat(), 200, 80).len());
    assert_eq!(outcomes[0], outcomes[1]);
}
