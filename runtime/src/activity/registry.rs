//! The registry of everything that other threads can observe of the workers of a process; see [`super`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::why::{KeyedLoad, PartitionProgress};
use tidegate_protocol::{Epoch, Slot};

use crate::activity::{Activity, KeyedActivity, SourceActivity};
use crate::link::Instructions;
use crate::metrics::Gauge;
use crate::step::Step;

/// How long an operator chain takes from a trigger to its barrier. Until the barrier the observing thread updates the
/// gauge; at the barrier the chain sets it.
pub(crate) struct Alignment {
    gauge: Gauge,
    activity: Arc<Activity>,
    /// The last epoch whose barrier the operator chain has reached.
    epoch: AtomicU64,
}

impl Alignment {
    /// The gauge of an operator chain that has reached the barrier of `epoch`.
    pub(crate) fn new(gauge: Gauge, activity: Arc<Activity>, epoch: Epoch) -> Arc<Self> {
        Arc::new(Self { gauge, activity, epoch: AtomicU64::new(epoch.0) })
    }

    /// The operator chain, by the step that it is named after, and its worker.
    pub(crate) fn chain(&self) -> (Arc<Step>, Slot) {
        self.gauge.of()
    }

    /// What the operator chain does.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The last epoch whose barrier the operator chain has reached.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    /// The operator chain has reached the barrier of an epoch.
    pub(crate) fn passed(&self, epoch: Epoch, instructions: &Instructions) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
        self.gauge.set(instructions.since_trigger().as_micros() as i64);
    }

    /// Sets the gauge to the time since the trigger if the operator chain has not reached the barrier yet.
    fn show(&self, instructions: &Instructions) {
        if instructions.triggered().0 > self.epoch.load(Ordering::Relaxed) {
            self.gauge.set(instructions.since_trigger().as_micros() as i64);
        }
    }
}

/// Whether a worker waits for its store, that is for RocksDB or for the snapshot thread. The worker writes it.
pub(crate) struct StoreActivity {
    pub(crate) slot: Slot,
    /// How often it has begun or ended to wait: while it waits, an odd number.
    moves: AtomicU64,
}

/// The worker waits for its store until this guard is dropped.
pub(crate) struct Awaiting<'a>(&'a StoreActivity);

impl StoreActivity {
    /// Only one thread writes, so adding is a load and a store.
    fn moved(&self) {
        self.moves.store(self.moves() + 1, Ordering::Relaxed);
    }

    pub(crate) fn awaiting(&self) -> Awaiting<'_> {
        self.moved();
        Awaiting(self)
    }

    /// Two readings with the same odd number are of the same wait.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }
}

/// True if a worker waits for its store, given the number of its moves.
pub(crate) fn is_awaited(moves: u64) -> bool {
    !moves.is_multiple_of(2)
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.moved();
    }
}

/// What other threads can observe of the workers of a process.
#[derive(Default)]
pub(crate) struct ActivityRegistry(Mutex<Sights>);

#[derive(Default)]
struct Sights {
    activities: Vec<Arc<Activity>>,
    alignments: Vec<Arc<Alignment>>,
    sources: Vec<Arc<SourceActivity>>,
    stores: Vec<Arc<StoreActivity>>,
    keyed: Vec<Arc<KeyedActivity>>,
}

impl ActivityRegistry {
    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an activity of a worker.
    pub(crate) fn activity(&self, slot: Slot) -> Arc<Activity> {
        let activity = Arc::new(Activity::new(slot));
        self.lock().activities.push(activity.clone());
        activity
    }

    pub(crate) fn add_alignment(&self, alignment: Arc<Alignment>) {
        self.lock().alignments.push(alignment);
    }

    /// All operator chains so far.
    pub(crate) fn alignments(&self) -> Vec<Arc<Alignment>> {
        self.lock().alignments.clone()
    }

    /// Adds a source of a worker, with the gauge of its lag.
    pub(crate) fn source(&self, step: &Arc<Step>, lag: Gauge) -> Arc<SourceActivity> {
        let source = Arc::new(SourceActivity::new(step, lag.of().1, lag));
        self.lock().sources.push(source.clone());
        source
    }

    /// How far all partitions are.
    pub(crate) fn partitions(&self) -> Vec<PartitionProgress> {
        let sources = self.lock().sources.clone();
        sources.iter().flat_map(|source| source.progress()).collect()
    }

    /// Updates the gauges of the lag of all sources.
    pub(crate) fn show_lags(&self, now_ms: i64) {
        self.lock().sources.iter().for_each(|source| source.show_lag(now_ms));
    }

    /// Adds a keyed step of a worker, to which so many key groups belong.
    pub(crate) fn keyed(&self, step: &Arc<Step>, slot: Slot, key_groups: u32) -> Arc<KeyedActivity> {
        let keyed = Arc::new(KeyedActivity::new(step, slot, key_groups));
        self.lock().keyed.push(keyed.clone());
        keyed
    }

    /// What all keyed steps have had.
    pub(crate) fn keyed_loads(&self) -> Vec<KeyedLoad> {
        self.lock().keyed.iter().map(|keyed| keyed.load()).collect()
    }

    /// The store of a worker.
    pub(crate) fn store(&self, slot: Slot) -> Arc<StoreActivity> {
        let store = Arc::new(StoreActivity { slot, moves: AtomicU64::new(0) });
        self.lock().stores.push(store.clone());
        store
    }

    /// All stores so far, always in the same order.
    pub(crate) fn stores(&self) -> Vec<Arc<StoreActivity>> {
        self.lock().stores.clone()
    }

    /// All activities so far, always in the same order.
    pub(crate) fn activities(&self) -> Vec<Arc<Activity>> {
        self.lock().activities.clone()
    }

    /// Updates the gauges of all operator chains that have not reached a triggered barrier yet.
    pub(crate) fn show_alignments(&self, instructions: &Instructions) {
        self.lock().alignments.iter().for_each(|alignment| alignment.show(instructions));
    }
}
