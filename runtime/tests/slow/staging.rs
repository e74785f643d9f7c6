//! Output that is long on its way to where it is durable, or to where it is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::Result;
use tidegate::aggregates::Count;
use tidegate::connector::{
    Owner, PartitionStatus, Polled, Position, Publisher, SinkId, SinkPlace, SinkTarget, Source, SourceReader,
    StagedOutput, Staging, TransactionalSink, Writer,
};
use tidegate::protocol::{Epoch, Slot};
use tidegate::testing::{TestJob, TestSource, VecSink};

use crate::gate::Gate;
use crate::hangs::{until_metrics, until_note};

/// A sink that does not get on before a gate opens, when it stages its first output or when it publishes it.
#[derive(Clone)]
struct GatedSink<T> {
    sink: VecSink<T>,
    at: At,
    gate: Gate,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Staging,
    Publishing,
}

impl<T> GatedSink<T> {
    fn new(at: At) -> Self {
        Self { sink: VecSink::new(), at, gate: Gate::default() }
    }

    /// The gate, if it is here.
    fn gate(&self, at: At) -> Option<Gate> {
        (self.at == at).then(|| self.gate.clone())
    }
}

struct GatedWriter<T> {
    writer: Box<dyn Writer<T>>,
    gate: Option<Gate>,
}

struct GatedPublisher {
    publisher: Box<dyn Publisher>,
    gate: Option<Gate>,
}

impl<T: Clone + Send + 'static> TransactionalSink<T> for GatedSink<T> {
    fn uri(&self) -> Result<String> {
        self.sink.uri()
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(GatedWriter { writer: self.sink.writer(place)?, gate: self.gate(At::Staging) }))
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        self.sink.target(owner)
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        let publisher = self.sink.publisher(sink, slot)?;
        Ok(Box::new(GatedPublisher { publisher, gate: self.gate(At::Publishing) }))
    }
}

impl<T> Writer<T> for GatedWriter<T> {
    fn write(&mut self, record: &T, event_time: Option<i64>) -> Result<()> {
        self.writer.write(record, event_time)
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>> {
        let staging = self.writer.stage(epoch)?;
        let Some(gate) = self.gate.clone() else { return Ok(staging) };
        let wait = move || {
            gate.wait();
            Ok(())
        };
        Ok(staging.map(|staging| staging.after(wait)))
    }
}

impl Publisher for GatedPublisher {
    fn publish(&mut self, epoch: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        if let Some(gate) = self.gate.as_ref().filter(|_| !outputs.is_empty()) {
            gate.wait();
        }
        self.publisher.publish(epoch, outputs)
    }
}

/// A source that has records until it is told to end, and counts how many it has given.
#[derive(Clone, Default)]
struct UntilTold {
    is_to_end: Arc<AtomicBool>,
    given: Arc<AtomicU64>,
}

impl UntilTold {
    fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Waits until nothing is read any more, or a million records were.
    fn is_still_read(&self) -> bool {
        let first = self.given();
        let mut before = None;
        while before != Some(self.given()) {
            before = Some(self.given());
            if self.given() > first + 1_000_000 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        false
    }
}

impl Source for UntilTold {
    type Item = u64;

    fn uri(&self) -> Result<String> {
        Ok("until told".to_owned())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok(vec!["partition-0".to_owned()])
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<u64>>> {
        Ok(Box::new(self.clone()))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, _: &str, _: &Position) -> Result<bool> {
        Ok(true)
    }
}

impl SourceReader<u64> for UntilTold {
    fn open(&mut self, _: &str, _: Option<&Position>) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _: usize, out: &mut Polled<u64>, _: usize) -> Result<PartitionStatus> {
        if self.is_to_end.load(Ordering::SeqCst) {
            return Ok(PartitionStatus::Ended);
        }
        let n = self.given.fetch_add(1, Ordering::SeqCst);
        out.record(n, n);
        Ok(PartitionStatus::More)
    }

    fn position(&self, _: usize) -> Position {
        self.given().into()
    }
}

#[test]
fn a_stop_while_a_checkpoint_is_under_way_reads_no_further() {
    let (source, sink) = (UntilTold::default(), GatedSink::new(At::Staging));
    let (from, to) = (source.clone(), sink.clone());
    let job = TestJob::new(move |job| {
        job.source("numbers", from.clone()).sink("out", to.clone());
        Ok(())
    });
    let job = job.interval(Duration::from_millis(1));
    let running = job.start();
    sink.gate.wait_until_reached();
    let stop = std::thread::spawn(move || running.stop());
    until_note(&job, "stopping", "");
    assert!(!source.is_still_read(), "it reads on");
    let given = source.given();
    // Whoever reads on now comes to the end, and the job is finished instead of stopped.
    source.is_to_end.store(true, Ordering::SeqCst);
    sink.gate.open();
    let summary = stop.join().unwrap().unwrap();
    assert_eq!((summary.finished, summary.rows_in), (false, given));
    assert_eq!(sink.sink.sorted(), (0..given).collect::<Vec<_>>());
}

#[test]
fn staging_that_hangs_is_named_and_so_is_the_worker_that_waits_for_it() {
    let (source, sink) = (TestSource::new(1), GatedSink::new(At::Staging));
    let (from, to) = (source.clone(), sink.clone());
    let job = TestJob::new(move |job| {
        let counts = job.source("numbers", from.clone()).key_by_value(|n| *n).aggregate("count", Count);
        counts.map(|(_, count)| count).sink("out", to.clone());
        Ok(())
    });
    let job = job.interval(Duration::from_millis(1)).memory(2 << 20);
    let running = job.start();
    source.push(0, 0u64);
    sink.gate.wait_until_reached();
    // More keys than there is memory for: they are to be spilled, and may not before the snapshot is made.
    source.extend(0, 1..200_000u64);
    let staging = "step 'out' on worker 0, staging its output, has ";
    until_note(&job, staging, "not come back for ");
    until_note(&job, "worker 0 has waited for the state store for ", " s");
    let stuck = ["tidegate_stuck_seconds{", "operator=\"out\",worker=\"0\"", "record=\"staging its output\""];
    until_metrics(&running, &stuck);
    sink.gate.open();
    until_note(&job, staging.trim_end_matches("has "), " has come back after ");
    // A stop reads no further.
    source.wait_until_read();
    assert_eq!(running.stop().unwrap().rows_in, 200_000);
}

#[test]
fn publishing_that_hangs_is_named_and_holds_nothing_up_but_the_next_checkpoint() {
    let (source, sink) = (TestSource::new(2), GatedSink::new(At::Publishing));
    let (from, to) = (source.clone(), sink.clone());
    let job = TestJob::new(move |job| {
        job.source("numbers", from.clone()).sink("out", to.clone());
        Ok(())
    });
    let job = job.parallelism(2).interval(Duration::from_millis(1));
    let running = job.start();
    source.push(0, 0u64);
    sink.gate.wait_until_reached();
    let published = running.published();
    // The workers read on meanwhile, and the driver goes on.
    source.extend(0, 1..10_000u64);
    source.extend(1, 10_000..20_000u64);
    source.wait_until_read();
    let named = "step 'out' on worker 0, publishing its output, has ";
    until_note(&job, named, "not come back for ");
    until_metrics(&running, &["tidegate_stuck_seconds{", "record=\"publishing its output\""]);
    assert_eq!((running.published(), sink.sink.records().len()), (published, 0), "nothing is published");
    sink.gate.open();
    until_note(&job, named.trim_end_matches("has "), " has come back after ");
    assert_eq!(running.stop().unwrap().rows_out, 20_000);
    assert_eq!(sink.sink.sorted(), (0..20_000).collect::<Vec<_>>());
}
