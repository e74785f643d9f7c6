//! Steps that take longer than a host may work at a time, so that barriers, watermarks and the end of input come while
//! batches wait their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate::connector::{PartitionStatus, Polled, Position, Source, SourceReader};
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{Context, Error, KeyedProcess, Result, Timer, Tumbling, Watermarks};

use crate::events::ms;

/// Keys of every source.
const KEYS: u32 = 7;

/// Source, number.
type Numbered = (usize, u32);

/// Takes its time for every record, and fails if those of one source come in another order than they were sent in.
struct InOrder;

impl KeyedProcess for InOrder {
    type Key = u32;
    type In = Numbered;
    type State = [Option<u32>; 2];
    type Out = Numbered;
    type Side = ();

    fn on_record(&mut self, (source, n): Numbered, cx: &mut Context<'_, Self>) -> Result<()> {
        let until = Instant::now() + Duration::from_micros(40);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let last = cx.state.get_mut();
        if last[source].is_some_and(|last| last + KEYS != n) {
            return Err(Error::job(format!("source {source}: {n} after {last:?}")));
        }
        last[source] = Some(n);
        cx.out.emit((source, n));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, _: &mut Context<'_, Self>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn records_keep_their_order_and_their_epoch_while_batches_wait() {
    const RECORDS: u32 = 12_000;
    let sources = [TestSource::new(1).called("first"), TestSource::new(1).called("second")];
    let (out, counts) = (VecSink::new(), VecSink::named("counts"));
    let (from, to, counts_to) = (sources.clone(), out.clone(), counts.clone());
    let job = TestJob::new(move |job| {
        let watermarks = || Watermarks::monotonous();
        let [first, second] = [0, 1].map(|source| {
            let numbers = job.source(["first", "second"][source], from[source].clone());
            numbers.map(move |n: u32| (source, n)).event_time(|r| i64::from(r.1), watermarks())
        });
        let checked = first.union(second).key_by_value(|r| r.1 % KEYS).process("in-order", InOrder);
        checked.clone().sink("out", to.clone());
        let windows = checked.key_by_value(|r| r.0).window(Tumbling::of(ms(1_000)));
        let windows = windows.aggregate("count", tidegate::aggregates::Count);
        windows.map(|w| (w.key, w.window.start, w.value)).sink("counts", counts_to.clone());
        Ok(())
    });
    let send = |range: std::ops::Range<u32>| {
        sources.iter().for_each(|source| source.extend(0, range.clone()));
    };
    let mut job = job;
    for (round, workers) in [2, 3, 1, 2].into_iter().enumerate() {
        job = job.parallelism(workers);
        let running = job.start();
        let part = RECORDS / 4 * round as u32;
        send(part..part + RECORDS / 4);
        if round == 3 {
            sources.iter().for_each(TestSource::end);
            running.wait().unwrap();
        } else {
            // Half of it is there, the other half waits.
            out.wait_for(2 * part as usize + RECORDS as usize / 8);
            running.kill();
        }
    }
    let expected: Vec<_> = (0..2).flat_map(|source| (0..RECORDS).map(move |n| (source, n))).collect();
    assert_eq!(out.sorted(), expected);
    let windows = |source| (0..i64::from(RECORDS) / 1_000).map(move |w| (source, w * 1_000, 1_000));
    assert_eq!(counts.sorted(), (0..2).flat_map(windows).collect::<Vec<_>>());
}

/// Records that say that they have 100,000 bytes each; how many were read.
#[derive(Clone, Default)]
struct Large(Arc<AtomicU64>);

const LARGE_RECORDS: u64 = 1_000;

impl Source for Large {
    type Item = u64;

    fn uri(&self) -> Result<String> {
        Ok("large".to_owned())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(vec!["large".to_owned()])
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<u64>>> {
        Ok(Box::new(self.clone()))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, _: &str, _: &Position) -> Result<bool> {
        Ok(false)
    }
}

impl SourceReader<u64> for Large {
    fn open(&mut self, _: &str, _: Option<&Position>) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _: usize, out: &mut Polled<u64>, _: usize) -> Result<PartitionStatus> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        if n == LARGE_RECORDS {
            return Ok(PartitionStatus::Ended);
        }
        out.record(n, n);
        out.took(100_000);
        Ok(PartitionStatus::More)
    }

    fn position(&self, _: usize) -> Position {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[test]
fn few_large_records_are_in_flight() {
    let (source, done) = (Large::default(), Arc::new(AtomicU64::new(0)));
    let (read, most, out) = (source.0.clone(), Arc::new(AtomicU64::new(0)), VecSink::new());
    let (most_seen, to) = (most.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let (done, read, most) = (done.clone(), read.clone(), most_seen.clone());
        let slow = job.source("large", source.clone()).rebalance().map(move |n| {
            let until = Instant::now() + Duration::from_micros(500);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            let in_flight = read.load(Ordering::Relaxed) - done.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(in_flight, Ordering::Relaxed);
            n
        });
        slow.sink("out", to.clone());
        Ok(())
    });
    job.no_interval().run().unwrap();
    assert_eq!(out.sorted(), (0..LARGE_RECORDS).collect::<Vec<_>>());
    // Four ticks of a megabyte that are out, and the one that is being read.
    let most = most.load(Ordering::Relaxed);
    assert!(most <= 5 * 11, "{most} records of 100,000 bytes were in flight");
}
