//! Steps that take 20 ms or more for a record: barriers come through and the job stops, whatever is read or waits.
//!
//! The limits are those of the order of magnitude, since the machine may be busy. What was measured is printed:
//! `cargo test --release --locked -p tidegate --test slow -- --nocapture`, with `--ignored` for steps of 200 ms.

use std::time::{Duration, Instant};

use tidegate::aggregates::Count;
use tidegate::connector::{
    Owner, PartitionStatus, Polled, Position, Publisher, SinkId, SinkPlace, SinkTarget, Source, SourceReader,
    Staging, TransactionalSink, Writer,
};
use tidegate::protocol::{Epoch, Slot};
use tidegate::testing::{Discard, TestJob, TestSource, VecSink, VecSource};
use tidegate::{
    BroadcastContext, BroadcastProcess, Context, Job, KeyedProcess, Result, Timer, Tumbling, Watermarks,
};

/// Records of every source: more than is read in the time of a test.
const RECORDS: u32 = 100_000;
/// Epochs that are looked at.
const EPOCHS: u64 = 20;
/// From one epoch to the next.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a barrier may take beyond the time of ten records.
const LIMIT: Duration = Duration::from_millis(1_500);
/// How long a stop may take beyond two barriers, with two snapshots on a slow disk.
const STOP_LIMIT: Duration = Duration::from_secs(2);

const SHORT: Duration = Duration::from_millis(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Describes a job with a step that takes so long for a record.
type Build = fn(&mut Job, &Input, Duration);

/// What a job reads.
#[derive(Clone)]
struct Input {
    numbers: TestSource<u32>,
    others: TestSource<u32>,
}

impl Input {
    fn new() -> Self {
        let (numbers, others) = (TestSource::new(2).called("numbers"), TestSource::new(2).called("others"));
        for partition in 0..2 {
            numbers.extend(partition, (0..RECORDS).map(|n| 2 * n + partition as u32));
            others.extend(partition, 0..RECORDS);
        }
        Self { numbers, others }
    }
}

/// Runs a job for a while, and looks how long its barriers and its end take.
fn check(what: &str, workers: usize, step: Duration, build: Build) {
    let input = Input::new();
    let from = input.clone();
    let job = TestJob::new(move |job| {
        build(job, &from, step);
        Ok(())
    });
    let job = job.parallelism(workers).interval(INTERVAL);
    let (running, began) = (job.start(), Instant::now());
    let mut epoch = running.wait_for(Epoch(1));
    let mut alignments = vec![alignment(&running.metrics())];
    while alignments.len() < EPOCHS as usize {
        epoch = running.wait_for(epoch.next());
        alignments.push(alignment(&running.metrics()));
    }
    let rate = total(&running.metrics(), "records_out_total{job=\"test\",operator=\"out\"")
        / began.elapsed().as_secs_f64();
    let asked = Instant::now();
    running.stop().unwrap();
    let stop = asked.elapsed();
    let first = alignments[0];
    alignments.sort_unstable();
    let (middle, most) = (alignments[alignments.len() / 2], alignments[alignments.len() - 1]);
    eprintln!(
        "{what}, {workers} workers, {step:?} a record: alignment p50 {middle:.0?}, max {most:.0?}, first {first:.0?}; \
         stop {stop:.0?}; {rate:.0} records/s"
    );
    let limit = LIMIT + 10 * step;
    assert!(most < limit, "{what}: a barrier took {most:?}");
    assert!(stop < 2 * limit + STOP_LIMIT, "{what}: the stop took {stop:?}");
}

/// The longest time that a host took to its last barrier.
fn alignment(metrics: &str) -> Duration {
    let lines = metrics.lines().filter(|line| line.starts_with("tidegate_alignment_microseconds{"));
    let micros = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64);
    Duration::from_micros(micros.max().unwrap())
}

/// The sum of a counter over the workers.
fn total(metrics: &str, counter: &str) -> f64 {
    let lines =
        metrics.lines().filter(|line| line.starts_with("tidegate_") && line[9..].starts_with(counter));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

fn with_one_and_two_workers(what: &str, build: Build) {
    for workers in [1, 2] {
        check(what, workers, SHORT, build);
    }
}

fn take(step: Duration) {
    std::thread::sleep(step);
}

fn behind_the_source(job: &mut Job, input: &Input, step: Duration) {
    let slow = job.source("numbers", input.numbers.clone()).map(move |n| {
        take(step);
        n
    });
    slow.sink("out", Discard::named("out"));
}

fn behind_an_exchange(job: &mut Job, input: &Input, step: Duration) {
    let counts =
        job.source("numbers", input.numbers.clone()).key_by_value(|n| n % 7).aggregate("count", Count);
    let slow = counts.map(move |count| {
        take(step);
        count
    });
    slow.sink("out", Discard::named("out"));
}

fn behind_an_exchange_with_one_key(job: &mut Job, input: &Input, step: Duration) {
    let counts = job.source("numbers", input.numbers.clone()).key_by_value(|_| 7).aggregate("count", Count);
    let slow = counts.map(move |count| {
        take(step);
        count
    });
    slow.sink("out", Discard::named("out"));
}

fn behind_a_broadcast(job: &mut Job, input: &Input, step: Duration) {
    let slow = job.source("numbers", input.numbers.clone()).broadcast().map(move |n| {
        take(step);
        n
    });
    slow.sink("out", Discard::named("out"));
}

/// A window of 2,000 keys is due at a time.
fn behind_a_window(job: &mut Job, input: &Input, step: Duration) {
    let numbers = job.source("numbers", input.numbers.clone());
    let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
    let windows = numbers.key_by_value(|n| n % 2_000).window(Tumbling::of(ms(10_000)));
    let slow = windows.aggregate("count", Count).map(move |w| {
        take(step);
        w.value
    });
    slow.sink("out", Discard::named("out"));
}

fn behind_a_window_and_an_exchange(job: &mut Job, input: &Input, step: Duration) {
    let numbers = job.source("numbers", input.numbers.clone());
    let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
    let windows = numbers.key_by_value(|n| n % 2_000).window(Tumbling::of(ms(10_000)));
    let slow = windows.aggregate("count", Count).map(|w| w.value).rebalance().map(move |count| {
        take(step);
        count
    });
    slow.sink("out", Discard::named("out"));
}

/// Sets a timer for every record, and takes its time for every timer.
struct SlowTimers(Duration);

impl KeyedProcess for SlowTimers {
    type Key = u32;
    type In = u32;
    type State = ();
    type Out = u32;
    type Side = ();

    fn on_record(&mut self, n: u32, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(i64::from(n) + 1_000));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        take(self.0);
        cx.out.emit(*cx.key);
        Ok(())
    }
}

fn in_timers(job: &mut Job, input: &Input, step: Duration) {
    let numbers = job.source("numbers", input.numbers.clone());
    let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
    let fired = numbers.key_by_value(|n| *n).process("timers", SlowTimers(step));
    fired.sink("out", Discard::named("out"));
}

/// Takes its time for what it hears of the broadcast stream.
struct SlowListener(Duration);

impl BroadcastProcess for SlowListener {
    type Key = u32;
    type In = u32;
    type Broadcast = u32;
    type State = ();
    type Shared = u32;
    type Out = u32;
    type Side = ();

    fn on_broadcast(&mut self, n: u32, shared: &mut u32) -> Result<()> {
        take(self.0);
        *shared = n;
        Ok(())
    }

    fn on_record(&mut self, n: u32, shared: &u32, cx: &mut BroadcastContext<'_, Self>) -> Result<()> {
        cx.out.emit(n + shared);
        Ok(())
    }
}

fn in_what_hears_a_broadcast(job: &mut Job, input: &Input, step: Duration) {
    let others = job.source("others", input.others.clone());
    let numbers = job.source("numbers", input.numbers.clone()).key_by_value(|n| n % 7);
    let heard = numbers.connect_broadcast(others).process("listener", SlowListener(step));
    heard.sink("out", Discard::named("out"));
}

/// Takes its time for every record that it writes to nowhere.
struct SlowSink(Duration);

impl<T: 'static> TransactionalSink<T> for SlowSink {
    fn uri(&self) -> Result<String> {
        Ok("nowhere".to_owned())
    }

    fn writer(&self, _: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(Self(self.0)))
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        TransactionalSink::<T>::target(&Discard::named("nowhere"), owner)
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        TransactionalSink::<T>::publisher(&Discard::named("nowhere"), sink, slot)
    }
}

impl<T> Writer<T> for SlowSink {
    fn write(&mut self, _: &T, _: Option<i64>) -> Result<()> {
        take(self.0);
        Ok(())
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        Ok(None)
    }
}

fn in_a_sink(job: &mut Job, input: &Input, step: Duration) {
    let counts =
        job.source("numbers", input.numbers.clone()).key_by_value(|n| n % 7).aggregate("count", Count);
    counts.sink("out", SlowSink(step));
}

/// A source that takes its time for every record.
struct SlowSource(Duration);

struct SlowReader {
    record: Duration,
    next: Vec<u64>,
}

impl Source for SlowSource {
    type Item = u64;

    fn uri(&self) -> Result<String> {
        Ok("slow".to_owned())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(["a", "b", "c"].map(str::to_owned).to_vec())
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<u64>>> {
        Ok(Box::new(SlowReader { record: self.0, next: Vec::new() }))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, _: &str, _: &Position) -> Result<bool> {
        Ok(false)
    }
}

impl SourceReader<u64> for SlowReader {
    fn open(&mut self, _: &str, _: Option<&Position>) -> Result<()> {
        self.next.push(0);
        Ok(())
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<u64>, budget: usize) -> Result<PartitionStatus> {
        let next = &mut self.next[partition];
        for _ in 0..budget {
            take(self.record);
            out.record(*next, *next);
            *next += 1;
        }
        Ok(PartitionStatus::More)
    }

    fn position(&self, partition: usize) -> Position {
        self.next[partition].into()
    }
}

fn in_a_source(job: &mut Job, _: &Input, step: Duration) {
    let numbers = job.source("slow", SlowSource(step)).key_by_value(|n| n % 7);
    numbers.aggregate("count", Count).sink("out", Discard::named("out"));
}

#[test]
fn a_slow_step_behind_the_source() {
    with_one_and_two_workers("behind the source", behind_the_source);
}

#[test]
fn a_slow_step_behind_an_exchange() {
    with_one_and_two_workers("behind an exchange", behind_an_exchange);
}

#[test]
fn a_slow_step_behind_an_exchange_with_one_key() {
    with_one_and_two_workers("behind an exchange with one key", behind_an_exchange_with_one_key);
}

#[test]
fn a_slow_step_behind_a_broadcast() {
    with_one_and_two_workers("behind a broadcast", behind_a_broadcast);
}

#[test]
fn a_slow_step_behind_a_window() {
    with_one_and_two_workers("behind a window", behind_a_window);
}

#[test]
fn a_slow_step_behind_a_window_and_an_exchange() {
    with_one_and_two_workers("behind a window and an exchange", behind_a_window_and_an_exchange);
}

#[test]
fn slow_timers() {
    with_one_and_two_workers("in timers", in_timers);
}

#[test]
fn a_slow_function_that_hears_a_broadcast() {
    with_one_and_two_workers("in what hears a broadcast", in_what_hears_a_broadcast);
}

#[test]
fn a_slow_sink() {
    with_one_and_two_workers("in a sink", in_a_sink);
}

#[test]
fn a_slow_source() {
    with_one_and_two_workers("in a source", in_a_source);
}

#[test]
fn what_is_due_has_its_turn_however_often_barriers_come() {
    let out = VecSink::new();
    let to = out.clone();
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", VecSource::of(0..300_u32));
        let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
        let windows = numbers.key_by_value(|n| n % 100).window(Tumbling::of(ms(100)));
        let slow = windows.aggregate("count", Count).inspect(|_| take(ms(2)));
        slow.map(|w| (w.window.start, w.key, w.value)).sink("out", to.clone());
        Ok(())
    });
    job.parallelism(2).interval(ms(1)).run().unwrap();
    let windows = |start| (0..100).map(move |key| (start, key, 1));
    assert_eq!(out.sorted(), [0, 100, 200].into_iter().flat_map(windows).collect::<Vec<_>>());
}

#[test]
#[ignore = "takes minutes; for the measurement"]
fn very_slow_steps() {
    for workers in [1, 2] {
        check("behind the source", workers, ms(200), behind_the_source);
        check("behind an exchange", workers, ms(200), behind_an_exchange);
        check("behind a window and an exchange", workers, ms(200), behind_a_window_and_an_exchange);
    }
}
