//! What all threads of a job process share: the settings, the restored snapshot, the triggers, the first failure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::manifest::SlotSnapshot;
use tidegate_protocol::{Attempt, Epoch, KeyGroups, Manifest, Slot};

use crate::clock::Clock;
use crate::dataflow::batch::Ways;
use crate::dataflow::worker::Wakers;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::state::directory::StateDirectory;
use crate::stream::outline::Outline;

/// The numbers that a run is started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) key_groups: KeyGroups,
    /// Memory for keyed state of all workers, in bytes.
    pub(crate) memory: usize,
    /// Whether sources are read on as they grow, all of them.
    pub(crate) follow: bool,
    /// Whether batches between workers travel as bytes, as between processes, where memory would do.
    pub(crate) over_the_wire: bool,
}

/// What a worker or its snapshot thread tells the driver.
pub(crate) enum Event {
    /// A worker's dataflow is built, its state restored.
    Ready,
    /// All sources of a worker have read their bounded input to its end.
    SourcesEnded(Slot),
    /// A worker's part of a snapshot is durable.
    Acked { slot: Slot, epoch: Epoch, part: Box<SlotSnapshot> },
    /// A worker could not write its part.
    Declined { slot: Slot, epoch: Epoch, reason: String },
    /// The job cannot go on.
    Failed(Error),
    /// A worker's thread has come to its end.
    Done,
    /// Somebody asked for a stop with a final snapshot.
    StopRequested,
}

/// The parts of a job process that its threads share.
pub(crate) struct Process {
    pub(crate) settings: Settings,
    pub(crate) attempt: Attempt,
    /// The first epoch of this attempt; timestamps count from it.
    pub(crate) first_epoch: Epoch,
    pub(crate) restored: Option<Arc<Manifest>>,
    /// Where state lives; None for a job without checkpoints and without state.
    pub(crate) state: StateDirectory,
    /// The prefix of each operator's keys in the state store.
    pub(crate) store_ids: BTreeMap<String, u16>,
    /// The dataflow that was checked before the start.
    pub(crate) outline: Outline,
    /// The partitions of each source, dealt to the workers.
    pub(crate) deals: Mutex<BTreeMap<String, Vec<Vec<String>>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ways: Arc<Ways>,
    pub(crate) wakers: Wakers,
    /// The epoch that sources are asked to end; those before it have ended.
    trigger: AtomicU64,
    /// The epoch after which there is none, or `u64::MAX`.
    last: AtomicU64,
    /// The last epoch whose snapshot is known to be complete.
    completed: AtomicU64,
    /// The highest timestamp that any source of the process has come to; see [`crate::dataflow::source`].
    pub(crate) clock_hand: AtomicU64,
    /// When the last epoch was triggered, for measuring.
    triggered_at: Mutex<Instant>,
    aborted: AtomicBool,
    events: Mutex<Sender<Event>>,
}

/// What a process is made of; see [`Process`] for the fields.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) attempt: Attempt,
    pub(crate) first_epoch: Epoch,
    pub(crate) restored: Option<Arc<Manifest>>,
    pub(crate) state: StateDirectory,
    pub(crate) store_ids: BTreeMap<String, u16>,
    pub(crate) outline: Outline,
    pub(crate) deals: BTreeMap<String, Vec<Vec<String>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Sender<Event>,
}

impl Process {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            settings: parts.settings,
            attempt: parts.attempt,
            first_epoch: parts.first_epoch,
            restored: parts.restored,
            state: parts.state,
            store_ids: parts.store_ids,
            outline: parts.outline,
            deals: Mutex::new(parts.deals),
            clock: parts.clock,
            metrics: parts.metrics,
            ways: Arc::default(),
            wakers: Wakers::default(),
            trigger: AtomicU64::new(parts.first_epoch.0 - 1),
            last: AtomicU64::new(u64::MAX),
            completed: AtomicU64::new(0),
            clock_hand: AtomicU64::new(0),
            triggered_at: Mutex::new(Instant::now()),
            aborted: AtomicBool::new(false),
            events: Mutex::new(parts.events),
        }
    }

    /// Asks the sources to end an epoch, the last one if `last`.
    pub(crate) fn trigger(&self, epoch: Epoch, last: bool) {
        if last {
            self.last.store(epoch.0, Ordering::Release);
        }
        *self.triggered_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.trigger.store(epoch.0, Ordering::Release);
        self.wakers.wake();
    }

    /// How long ago the last epoch was triggered.
    pub(crate) fn since_trigger(&self) -> Duration {
        self.triggered_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The epoch that sources are asked to end.
    #[inline]
    pub(crate) fn triggered(&self) -> Epoch {
        Epoch(self.trigger.load(Ordering::Acquire))
    }

    /// The epoch after which there is none, if that is known.
    pub(crate) fn last_epoch(&self) -> Option<Epoch> {
        Some(self.last.load(Ordering::Acquire)).filter(|&e| e != u64::MAX).map(Epoch)
    }

    /// The last epoch whose snapshot is known to be complete.
    pub(crate) fn completed(&self) -> Epoch {
        Epoch(self.completed.load(Ordering::Acquire))
    }

    pub(crate) fn set_completed(&self, epoch: Epoch) {
        self.completed.store(epoch.0, Ordering::Release);
    }

    /// Tells the driver something.
    pub(crate) fn tell(&self, event: Event) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // A driver that is gone has ended the process for everybody.
        drop(events.send(event));
    }

    /// Ends the job with an error: nothing of the running epoch is published.
    pub(crate) fn fail(&self, error: Error) {
        self.tell(Event::Failed(error));
        self.abort();
    }

    /// Makes the workers leave their loops without a barrier.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.wakers.wake();
    }

    /// True once workers are to leave their loops.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// The prefix of an operator's keys in the store.
    pub(crate) fn store_id(&self, uid: &str) -> Result<u16> {
        self.store_ids
            .get(uid)
            .copied()
            .ok_or_else(|| Error::us(format!("operator '{uid}' was not there when the job was checked")))
    }
}

impl Process {
    /// The partitions of a source that were dealt to a worker, from the `seen`-th on.
    pub(crate) fn dealt(&self, source: &str, worker: usize, seen: usize) -> Vec<String> {
        let deals = self.deals.lock().unwrap_or_else(PoisonError::into_inner);
        let of_worker = deals.get(source).and_then(|workers| workers.get(worker));
        of_worker.map(|names| names[seen.min(names.len())..].to_vec()).unwrap_or_default()
    }
}

impl Process {
    /// Deals partitions that nobody has yet to the workers that have the fewest; true if there were any.
    pub(crate) fn deal_new(&self, source: &str, names: Vec<String>) -> bool {
        let mut deals = self.deals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(workers) = deals.get_mut(source) else { return false };
        let mut fresh: Vec<String> =
            names.into_iter().filter(|name| !workers.iter().any(|hand| hand.contains(name))).collect();
        fresh.sort();
        let any = !fresh.is_empty();
        for name in fresh {
            if let Some(hand) = workers.iter_mut().min_by_key(|hand| hand.len()) {
                hand.push(name);
            }
        }
        any
    }
}
