//! What can be seen of the workers of a process from outside of their threads.
//!
//! A worker that waits in user code answers no message. So its operator chains leave where they are in memory that others may look at
//! ([`Activity`]), and so does its store while the worker waits for it. Between processes that has to become messages of the
//! thread that looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::{Epoch, Slot};

use crate::activity::Activity;
use crate::link::Instructions;
use crate::metrics::Gauge;

/// How long an operator chain takes from a trigger to its barrier. While it is on its way, whoever looks writes that, too; at the barrier
/// both write nearly the same.
pub(crate) struct Alignment {
    gauge: Gauge,
    /// The last epoch of which the operator chain has come to the barrier.
    epoch: AtomicU64,
}

impl Alignment {
    /// Of an operator chain that has come to the barrier of `epoch`.
    pub(crate) fn new(gauge: Gauge, epoch: Epoch) -> Arc<Self> {
        Arc::new(Self { gauge, epoch: AtomicU64::new(epoch.0) })
    }

    /// The operator chain has come to the barrier of an epoch.
    pub(crate) fn passed(&self, epoch: Epoch, instructions: &Instructions) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
        self.gauge.set(instructions.since_trigger().as_micros() as i64);
    }

    /// Shows how long the operator chain has been on its way to a barrier, if it is.
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

/// The worker waits for its store as long as this is there.
pub(crate) struct Awaiting<'a>(&'a StoreActivity);

impl StoreActivity {
    /// There is only one that writes, so adding is a load and a store.
    fn moved(&self) {
        self.moves.store(self.moves() + 1, Ordering::Relaxed);
    }

    pub(crate) fn awaiting(&self) -> Awaiting<'_> {
        self.moved();
        Awaiting(self)
    }

    /// The same number, the same wait.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }
}

/// True if a worker waits for its store, which has made so many moves.
pub(crate) fn is_awaited(moves: u64) -> bool {
    !moves.is_multiple_of(2)
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.moved();
    }
}

/// What is to be seen of the workers of a process.
#[derive(Default)]
pub(crate) struct ActivityRegistry(Mutex<Sights>);

#[derive(Default)]
struct Sights {
    activities: Vec<Arc<Activity>>,
    alignments: Vec<(Slot, Arc<Alignment>)>,
    stores: Vec<Arc<StoreActivity>>,
}

impl ActivityRegistry {
    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new place of a worker.
    pub(crate) fn activity(&self, slot: Slot) -> Arc<Activity> {
        let activity = Arc::new(Activity::new(slot));
        self.lock().activities.push(activity.clone());
        activity
    }

    pub(crate) fn add_alignment(&self, slot: Slot, alignment: Arc<Alignment>) {
        self.lock().alignments.push((slot, alignment));
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

    /// All places so far, always in the same order.
    pub(crate) fn activities(&self) -> Vec<Arc<Activity>> {
        self.lock().activities.clone()
    }

    /// Shows of every operator chain that is on its way to a barrier for how long it has been.
    pub(crate) fn show_alignments<'a>(&self, instructions: impl Fn(Slot) -> &'a Instructions) {
        self.lock().alignments.iter().for_each(|(slot, alignment)| alignment.show(instructions(*slot)));
    }
}
