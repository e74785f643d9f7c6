//! How far event time has come: the least of all partitions and senders that are neither idle nor over.

use std::sync::Arc;

use tidegate::clock::ManualClock;
use tidegate::testing::{Discard, TestJob, TestSource, VecSink, VecSource};
use tidegate::{Tumbling, Watermarks};

use crate::events::{Event, Fired, Sums, fired, ms};

struct Marked {
    source: TestSource<Event>,
    sums: VecSink<Fired>,
    job: TestJob,
}

fn marked(source: TestSource<Event>, watermarks: impl Fn() -> Watermarks + Send + Sync + 'static) -> Marked {
    let sums = VecSink::new();
    let (from, to) = (source.clone(), sums.clone());
    let job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .event_time(|e: &Event| e.1, watermarks())
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    Marked { source, sums, job }
}

#[test]
fn the_slowest_partition_holds_event_time_back_until_it_ends() {
    for workers in 1..=4 {
        let Marked { source, sums, job } = marked(TestSource::new(3), Watermarks::monotonous);
        let running = job.parallelism(workers);
        let running = running.start();
        source.push(0, (1, 100, 1));
        source.push(1, (1, 50, 1));
        running.checkpoint();
        assert_eq!(sums.records(), [], "a partition without a record holds everything back");
        source.push(2, (1, 5, 1));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        source.end_partition(2);
        running.checkpoint();
        assert_eq!(sums.wait_for(1), [(0, 1, 1, 1)]);
        source.push(1, (1, 60, 1));
        running.checkpoint();
        assert_eq!(sums.sorted(), [(0, 1, 1, 1), (50, 1, 1, 1)]);
        source.end();
        assert_eq!(running.wait().unwrap().late, 0);
        assert_eq!(sums.sorted(), [(0, 1, 1, 1), (50, 1, 1, 1), (60, 1, 1, 1), (100, 1, 1, 1)]);
    }
}

#[test]
fn the_slowest_partition_holds_event_time_back_after_a_restart_too() {
    for after in 1..=3 {
        let Marked { source, sums, job } = marked(TestSource::new(2), Watermarks::monotonous);
        let running = job.start();
        source.push(0, (1, 100, 1));
        source.push(1, (1, 5, 1));
        running.checkpoint();
        running.kill();
        let job = job.parallelism(after);
        let running = job.start();
        running.checkpoint();
        source.push(0, (1, 110, 1));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        source.push(1, (1, 6, 1));
        source.end();
        assert_eq!(running.wait().unwrap().late, 0);
        assert_eq!(sums.sorted()[0], (0, 1, 2, 2));
    }
}

#[test]
fn a_partition_that_has_ended_is_not_waited_for_after_a_restart_either() {
    for after in 1..=3 {
        let Marked { source, sums, job } = marked(TestSource::new(2), Watermarks::monotonous);
        source.push(0, (1, 5, 1));
        source.push(1, (1, 3, 1));
        source.end_partition(1);
        let running = job.start();
        running.checkpoint();
        running.kill();
        assert_eq!(sums.records(), []);
        let job = job.parallelism(after);
        let running = job.start();
        source.push(0, (1, 20, 1));
        running.checkpoint();
        assert_eq!(sums.records(), [(0, 1, 2, 2)]);
    }
}

#[test]
fn a_panic_in_event_time_names_step_partition_and_offset() {
    let job = TestJob::new(|job| {
        let numbers = job.source("numbers", VecSource::of([1, 2, -1]));
        let at = |n: &i64| u32::try_from(*n).map(i64::from).expect("no negative time");
        numbers.event_time(at, Watermarks::monotonous()).named("times").sink("out", Discard::named("out"));
        Ok(())
    });
    let message = job.run().unwrap_err().to_string();
    for part in ["step 'times', partition 'partition-0', offset 2", "panicked", "no negative time"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_idle_partition_is_not_waited_for_until_it_comes_back() {
    for workers in 1..=3 {
        let clock = Arc::new(ManualClock::at(0));
        let idle_after = || Watermarks::monotonous().idle_after(ms(1_000));
        let Marked { source, sums, job } = marked(TestSource::followed(2), idle_after);
        let job = job.parallelism(workers).clock(clock.clone());
        let running = job.start();
        source.extend(0, [(1, 1, 1), (1, 20, 1)]);
        source.push(1, (1, 2, 1));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        clock.advance_ms(999);
        source.push(0, (1, 21, 1));
        running.checkpoint();
        assert_eq!(sums.records(), []);
        clock.advance_ms(1);
        assert_eq!(sums.wait_for(1), [(0, 1, 2, 2)]);
        // It comes back behind the others: late, but what is in time counts, and it holds event time back again.
        source.extend(1, [(1, 3, 1), (1, 22, 1)]);
        running.checkpoint();
        source.push(0, (1, 40, 1));
        running.checkpoint();
        assert_eq!(sums.records().len(), 1);
        let summary = running.stop().unwrap();
        assert_eq!(summary.late, 1);
    }
}

#[test]
fn a_source_that_is_over_does_not_end_event_time_for_one_that_is_idle() {
    let clock = Arc::new(ManualClock::at(0));
    let (short, long, sums) = (TestSource::new(1), TestSource::followed(1).called("long"), VecSink::new());
    let (from, other, to) = (short.clone(), long.clone(), sums.clone());
    let job = TestJob::new(move |job| {
        let marks = || Watermarks::monotonous().idle_after(ms(1_000));
        let short = job.source("short", from.clone()).event_time(|e: &Event| e.1, marks());
        let long = job.source("long", other.clone()).event_time(|e: &Event| e.1, marks());
        short
            .union(long)
            .key_by(|e: &Event| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    let job = job.clock(clock.clone());
    let running = job.start();
    short.push(0, (1, 5, 1));
    long.push(0, (1, 6, 1));
    running.checkpoint();
    clock.advance_ms(1_000);
    running.checkpoint();
    running.checkpoint();
    short.end();
    running.checkpoint();
    long.push(0, (1, 7, 1));
    running.checkpoint();
    long.push(0, (1, 17, 1));
    assert_eq!(sums.wait_for(1), [(0, 1, 3, 3)]);
    assert_eq!(running.stop().unwrap().late, 0);
}

#[test]
fn records_within_the_bound_are_not_late_and_those_beyond_are() {
    let Marked { source, sums, job } = marked(TestSource::new(1), || Watermarks::bounded(ms(5)));
    let running = job.start();
    source.push(0, (1, 14, 1));
    running.checkpoint();
    source.push(0, (1, 9, 1));
    running.checkpoint();
    source.push(0, (1, 15, 1));
    running.checkpoint();
    source.push(0, (1, 9, 1));
    source.end();
    assert_eq!(running.wait().unwrap().late, 1);
    assert_eq!(sums.sorted(), [(0, 1, 1, 1), (10, 1, 2, 2)]);
}

#[test]
fn a_rule_of_ones_own_decides_and_never_goes_back() {
    let Marked { source, sums, job } = marked(TestSource::new(1), || {
        Watermarks::own(|highest, at| if at == highest { at - 4 } else { i64::MIN })
    });
    let running = job.start();
    source.push(0, (1, 12, 1));
    running.checkpoint();
    assert_eq!(sums.records(), [], "the window ends with 9, and this is 8");
    source.push(0, (1, 8, 1));
    source.push(0, (1, 13, 1));
    running.checkpoint();
    assert_eq!(sums.records(), [(0, 1, 1, 1)]);
    source.push(0, (1, 3, 1));
    source.end();
    assert_eq!(running.wait().unwrap().late, 1);
}

#[test]
fn a_partition_that_turns_up_later_is_read_from_its_beginning() {
    let Marked { source, sums, job } = marked(TestSource::followed(1), Watermarks::monotonous);
    let job = job.parallelism(2);
    let running = job.start();
    source.push(0, (1, 5, 1));
    running.checkpoint();
    source.add_partition();
    source.extend(1, [(1, 6, 1), (1, 20, 1)]);
    source.wait_until_read();
    running.checkpoint();
    source.push(0, (1, 20, 1));
    assert_eq!(sums.wait_for(1), [(0, 1, 2, 2)]);
    running.kill();
    let running = job.start();
    source.push(1, (1, 30, 1));
    source.push(0, (1, 30, 1));
    assert_eq!(sums.wait_for(2)[1], (20, 1, 2, 2));
    assert_eq!(running.stop().unwrap().rows_in, 6);
}
