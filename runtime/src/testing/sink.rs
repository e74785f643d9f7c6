//! A sink into memory, as strict as a real one: no output is visible before its epoch is published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_connector_api::{
    Owner, Publisher, SinkId, SinkPlace, SinkTarget, StagedOutput, Staging, TransactionalSink, Writer,
};
use tidegate_protocol::{Attempt, Epoch, Error, Result, Slot};

/// How long a test waits for records before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transactional sink that keeps what was published. Clones are the same sink: give one to the job, read the other.
/// Make it outside of the build function, which runs once a worker.
///
/// ```
/// use tidegate::testing::{TestJob, VecSink, VecSource};
///
/// let out = VecSink::new();
/// let sink = out.clone();
/// TestJob::new(move |job| {
///     job.source("numbers", VecSource::of([3, 1, 2])).sink("out", sink.clone());
///     Ok(())
/// })
/// .run()?;
/// assert_eq!(out.records(), [3, 1, 2]);
/// assert_eq!(out.sorted(), [1, 2, 3]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct VecSink<T> {
    name: Arc<str>,
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    contents: Mutex<Contents<T>>,
    published: Condvar,
}

#[derive(Debug)]
struct Contents<T> {
    staged: BTreeMap<(Epoch, Slot, Attempt), Vec<T>>,
    published: BTreeMap<(Epoch, Slot), Vec<T>>,
}

impl<T> Clone for VecSink<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), shared: self.shared.clone() }
    }
}

impl<T> Default for VecSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> VecSink<T> {
    /// A new, empty sink.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self::named(&format!("#{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// An empty sink with a name, which is what a snapshot knows it by.
    pub fn named(name: &str) -> Self {
        let contents = Contents { staged: BTreeMap::new(), published: BTreeMap::new() };
        let shared = Shared { contents: Mutex::new(contents), published: Condvar::new() };
        Self { name: name.into(), shared: Arc::new(shared) }
    }

    fn lock(&self) -> MutexGuard<'_, Contents<T>> {
        self.shared.lock()
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Contents<T>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> VecSink<T> {
    /// What was published, in the order of epochs, then of slots, then of writing.
    pub fn records(&self) -> Vec<T> {
        self.lock().published.values().flatten().cloned().collect()
    }

    /// What was published, sorted.
    pub fn sorted(&self) -> Vec<T>
    where
        T: Ord,
    {
        let mut records = self.records();
        records.sort();
        records
    }

    /// What was published by each epoch.
    pub fn epochs(&self) -> BTreeMap<Epoch, Vec<T>> {
        let mut epochs: BTreeMap<Epoch, Vec<T>> = BTreeMap::new();
        for ((epoch, _), records) in &self.lock().published {
            epochs.entry(*epoch).or_default().extend_from_slice(records);
        }
        epochs
    }

    /// Waits until at least `count` records are published, and returns them all.
    ///
    /// # Panics
    /// If they are not there after a minute.
    pub fn wait_for(&self, count: usize) -> Vec<T> {
        let until = Instant::now() + PATIENCE;
        let mut contents = self.lock();
        loop {
            let have: usize = contents.published.values().map(Vec::len).sum();
            if have >= count {
                drop(contents);
                return self.records();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{have} records were published in a minute, and not {count}");
            let waited = self.shared.published.wait_timeout(contents, left);
            contents = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T: Clone + Send + 'static> TransactionalSink<T> for VecSink<T> {
    fn uri(&self) -> Result<String> {
        Ok(format!("memory sink {}", self.name))
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(VecWriter { place, shared: self.shared.clone(), buffer: Vec::new() }))
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        Ok(Box::new(VecTarget(self.shared.clone())))
    }

    fn publisher(&self, _: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(VecPublisher { slot, shared: self.shared.clone() }))
    }
}

struct VecWriter<T> {
    place: SinkPlace,
    shared: Arc<Shared<T>>,
    buffer: Vec<T>,
}

impl<T: Clone + Send + 'static> Writer<T> for VecWriter<T> {
    fn write(&mut self, record: &T, _: Option<i64>) -> Result<()> {
        self.buffer.push(record.clone());
        Ok(())
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let (records, shared) = (std::mem::take(&mut self.buffer), self.shared.clone());
        let (slot, attempt, count) = (self.place.slot, self.place.attempt, records.len() as u64);
        Ok(Some(Staging::elsewhere(count, attempt.0.into(), move || {
            shared.lock().staged.insert((epoch, slot, attempt), records);
            Ok(())
        })))
    }
}

struct VecPublisher<T> {
    slot: Slot,
    shared: Arc<Shared<T>>,
}

impl<T: Send> Publisher for VecPublisher<T> {
    fn publish(&mut self, _: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        let (mut contents, slot) = (self.shared.lock(), self.slot);
        for StagedOutput { staged, .. } in outputs {
            let epoch = staged.epoch;
            if contents.published.contains_key(&(epoch, slot)) {
                continue;
            }
            let attempt = Attempt(staged.place.as_u64().unwrap_or(0) as u32);
            let records = contents.staged.remove(&(epoch, slot, attempt)).ok_or_else(|| {
                Error::environment(format!(
                    "the records of epoch {epoch}, slot {slot} are neither staged nor published"
                ))
            })?;
            contents.published.insert((epoch, slot), records);
        }
        self.shared.published.notify_all();
        Ok(())
    }
}

struct VecTarget<T>(Arc<Shared<T>>);

impl<T> SinkTarget for VecTarget<T> {
    fn recover(&mut self, restored: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        let mut contents = self.0.lock();
        contents.staged.clear();
        let restored = restored.unwrap_or_default();
        let taken_back = contents.published.split_off(&(restored.next(), Slot(0)));
        Ok(taken_back.keys().map(|(epoch, slot)| format!("epoch {epoch} of slot {slot}")).collect())
    }
}

/// A sink that throws everything away, for jobs of which only the totals or the errors matter.
#[derive(Clone, Debug)]
pub struct Discard(String);

impl Discard {
    /// A sink with a name, which is what a snapshot knows it by; two of one job need different ones.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl<T: 'static> TransactionalSink<T> for Discard {
    fn uri(&self) -> Result<String> {
        Ok(format!("nowhere {}", self.0))
    }

    fn writer(&self, _: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(self.clone()))
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        Ok(Box::new(self.clone()))
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(self.clone()))
    }
}

impl<T> Writer<T> for Discard {
    fn write(&mut self, _: &T, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        Ok(None)
    }
}

impl Publisher for Discard {
    fn publish(&mut self, _: Epoch, _: &[StagedOutput<'_>]) -> Result<()> {
        Ok(())
    }
}

impl SinkTarget for Discard {
    fn recover(&mut self, _: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
