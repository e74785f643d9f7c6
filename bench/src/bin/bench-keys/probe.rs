//! A sink that keeps nothing but notes: for every epoch the records, and the longest time without one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidegate::Result;
use tidegate::connector::{
    Owner, Publisher, SinkId, SinkPlace, SinkTarget, StagedOutput, Staging, TransactionalSink, Writer,
};
use tidegate::protocol::{Epoch, Slot};

/// A slow sink takes this many records, then rests for as long as they are worth.
const SLOW_BATCH: u64 = 256;

/// A sink that writes a line an epoch and worker: epoch, worker, records, of them updates of known keys, longest gap in
/// microseconds, milliseconds since the worker started.
pub(crate) struct Probe {
    file: PathBuf,
    rate: u64,
}

impl Probe {
    pub(crate) fn new(file: &Path, rate: u64) -> Probe {
        Probe { file: file.to_owned(), rate }
    }
}

impl TransactionalSink<bool> for Probe {
    fn uri(&self) -> Result<String> {
        Ok("notes".into())
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<bool>>> {
        let file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        let now = Instant::now();
        let rest = (self.rate > 0).then(|| Duration::from_secs_f64(SLOW_BATCH as f64 / self.rate as f64));
        Ok(Box::new(Notes {
            file,
            slot: place.slot,
            rest,
            began: now,
            last: now,
            records: 0,
            churn: 0,
            gap: Duration::ZERO,
        }))
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        Ok(Box::new(Nothing))
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(Nothing))
    }
}

struct Notes {
    file: File,
    slot: Slot,
    /// The time that a batch of records takes, in a slow sink.
    rest: Option<Duration>,
    began: Instant,
    last: Instant,
    records: u64,
    churn: u64,
    gap: Duration,
}

impl Writer<bool> for Notes {
    fn write(&mut self, churn: &bool, _: Option<i64>) -> Result<()> {
        let now = Instant::now();
        self.gap = self.gap.max(now - self.last);
        self.last = now;
        self.records += 1;
        self.churn += u64::from(*churn);
        if let Some(rest) = self.rest.filter(|_| self.records.is_multiple_of(SLOW_BATCH)) {
            std::thread::sleep(rest);
        }
        Ok(())
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>> {
        let (gap, age) = (self.gap.as_micros(), self.began.elapsed().as_millis());
        let note = format!("{epoch} {} {} {} {gap} {age}\n", self.slot, self.records, self.churn);
        // In one piece: other workers write to the file too.
        self.file.write_all(note.as_bytes())?;
        (self.records, self.churn, self.gap) = (0, 0, Duration::ZERO);
        Ok(None)
    }
}

/// There is nothing to publish.
struct Nothing;

impl Publisher for Nothing {
    fn publish(&mut self, _: Epoch, _: &[StagedOutput<'_>]) -> Result<()> {
        Ok(())
    }
}

impl SinkTarget for Nothing {
    fn recover(&mut self, _: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
