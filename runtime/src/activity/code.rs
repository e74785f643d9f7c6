//! The position of the code of an operator chain, a snapshot thread or a publisher, for other threads to read.
//!
//! The thread that runs the code writes it: a few plain stores per record, without a clock or a lock. A reader that finds
//! the same number of moves twice knows that the code was at one place all the time in between, and for how long.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_connector_api::RecordId;
use tidegate_protocol::Slot;

use crate::step::Step;

/// The value in place of an offset if there is no current record. No partition is that long.
const NO_RECORD: u64 = u64::MAX;
/// The value in place of a partition if the operator chain reads none.
const NO_PARTITION: usize = usize::MAX;

/// The engine's own code runs, or none.
const ENGINE: u8 = 0;
/// A step's code runs, for records.
const RECORDS: u8 = 1;
/// A step's code runs, and not for a record: something is opened, or an epoch ends.
const APART: u8 = 2;
/// A step's output is staged, by the snapshot thread.
const STAGING: u8 = 3;
/// A step's output is published, by a publisher's thread.
const PUBLISHING: u8 = 4;

/// The position of an operator chain, a snapshot thread or a publisher. One thread writes it, and any thread may read it.
pub(crate) struct Activity {
    pub(crate) slot: Slot,
    steps: Mutex<Vec<Entry>>,
    partitions: Mutex<Vec<String>>,
    doing: AtomicU8,
    step: AtomicUsize,
    partition: AtomicUsize,
    /// The offset in the partition, or the hash of the key.
    record: AtomicU64,
    event_time: AtomicI64,
    /// The number of times that any of it has changed.
    moves: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    step: Arc<Step>,
    is_keyed: bool,
}

/// A reading of an [`Activity`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    /// True if a step's code runs, and not the engine's.
    pub(crate) is_in_step: bool,
    /// Two readings with the same number are of the same place.
    pub(crate) moves: u64,
    step: usize,
    doing: u8,
    pub(crate) partition: Option<usize>,
    record: Option<u64>,
    event_time: Option<i64>,
}

impl Observation {
    /// True if a step's output is staged or published, which does not happen on a worker's thread.
    pub(crate) fn is_beside_the_worker(&self) -> bool {
        matches!(self.doing, STAGING | PUBLISHING)
    }
}

impl Activity {
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            steps: Mutex::default(),
            partitions: Mutex::default(),
            doing: AtomicU8::new(ENGINE),
            step: AtomicUsize::new(0),
            partition: AtomicUsize::new(NO_PARTITION),
            record: AtomicU64::new(NO_RECORD),
            event_time: AtomicI64::new(i64::MIN),
            moves: AtomicU64::new(0),
        }
    }

    /// Registers a step; `is_keyed` if its records have the hash of its key.
    pub(crate) fn add_step(&self, step: &Arc<Step>, is_keyed: bool) -> usize {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(Entry { step: step.clone(), is_keyed });
        steps.len() - 1
    }

    /// Registers the next partition.
    pub(crate) fn add_partition(&self, name: &str) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    /// Only one thread writes, so adding is a load and a store.
    #[inline]
    fn moved(&self) {
        self.moves.store(self.moves.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// From here on this step's code runs, for records.
    #[inline]
    pub(crate) fn enter(&self, step: usize) {
        self.enter_as(step, RECORDS);
    }

    /// A reader that sees the new state must also see the new number of moves, because the thread may have been idle for
    /// minutes before.
    #[inline]
    fn enter_as(&self, step: usize, doing: u8) {
        self.step.store(step, Ordering::Relaxed);
        self.moved();
        self.doing.store(doing, Ordering::Release);
    }

    /// From here on this step's code runs, and not for a record.
    pub(crate) fn enter_apart(&self, step: usize) {
        self.enter_as(step, APART);
    }

    /// From here on this step's output is staged.
    pub(crate) fn enter_staging(&self, step: usize) {
        self.enter_as(step, STAGING);
    }

    /// From here on this step's output is published.
    pub(crate) fn enter_publishing(&self, step: usize) {
        self.enter_as(step, PUBLISHING);
    }

    /// From here on the engine's code runs, or none.
    #[inline]
    pub(crate) fn leave(&self) {
        self.doing.store(ENGINE, Ordering::Relaxed);
        self.moved();
    }

    /// The code now runs for this record.
    #[inline]
    pub(crate) fn record(&self, record: RecordId, event_time: i64) {
        self.record.store(record.to_bits(), Ordering::Relaxed);
        self.event_time.store(event_time, Ordering::Relaxed);
        self.moved();
    }

    /// Records come from this partition from here on; there is no current record yet.
    pub(crate) fn partition(&self, partition: usize) {
        self.partition.store(partition, Ordering::Relaxed);
        self.record.store(NO_RECORD, Ordering::Relaxed);
        self.moved();
    }

    /// Reads the position. On another thread the fields belong together only if a later reading has the same number of
    /// moves.
    pub(crate) fn look(&self) -> Observation {
        let doing = self.doing.load(Ordering::Acquire);
        let (record, event_time) =
            (self.record.load(Ordering::Relaxed), self.event_time.load(Ordering::Relaxed));
        Observation {
            is_in_step: doing != ENGINE,
            moves: self.moves.load(Ordering::Relaxed),
            step: self.step.load(Ordering::Relaxed),
            doing,
            partition: Some(self.partition.load(Ordering::Relaxed)).filter(|&p| p != NO_PARTITION),
            record: Some(record).filter(|&r| r != NO_RECORD),
            event_time: Some(event_time).filter(|&t| t != i64::MIN),
        }
    }

    /// The step that was seen.
    pub(crate) fn step(&self, seen_at: &Observation) -> Option<Arc<Step>> {
        self.entry(seen_at).map(|entry| entry.step)
    }

    fn entry(&self, seen_at: &Observation) -> Option<Entry> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(seen_at.step).cloned()
    }

    /// The name of the partition that was seen.
    pub(crate) fn partition_name(&self, seen_at: &Observation) -> Option<String> {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        seen_at.partition.and_then(|partition| partitions.get(partition).cloned())
    }

    /// The step that was seen, as the beginning of a sentence.
    pub(crate) fn describe_step(&self, seen_at: &Observation) -> String {
        format!("step '{}'", self.step(seen_at).map_or_else(|| "?".to_owned(), |step| step.name()))
    }

    /// The record that was seen: what is known of the partition, the offset, the event time, and the key if it is given.
    pub(crate) fn describe_record(&self, seen_at: &Observation, key: Option<&str>) -> String {
        match seen_at.doing {
            APART => return String::new(),
            STAGING => return "staging its output".to_owned(),
            PUBLISHING => return "publishing its output".to_owned(),
            _ => {}
        }
        let parts = match (self.partition_name(seen_at), seen_at.record) {
            (Some(partition), None) => vec![format!("partition '{partition}'")],
            (Some(partition), Some(offset)) => {
                vec![format!("partition '{partition}'"), format!("offset {offset}")]
            }
            (None, _) => {
                let key = key.map(|key| format!("key {key}"));
                let time = seen_at.event_time.map(|time| format!("record with event time {time}"));
                key.into_iter().chain(time).collect()
            }
        };
        parts.join(", ")
    }

    /// The key as another thread can describe it, by its hash: only the worker has the key itself.
    pub(crate) fn key_hash(&self, seen_at: &Observation) -> Option<String> {
        let is_keyed = self.entry(seen_at).is_some_and(|entry| entry.is_keyed);
        seen_at.record.filter(|_| is_keyed).map(|hash| format!("with hash {hash:016x}"))
    }
}
