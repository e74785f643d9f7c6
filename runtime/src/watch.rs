//! What can be seen of the workers of a process from outside of their threads.
//!
//! A worker that waits in user code answers no message. So its hosts leave where they are in memory that others may look at
//! ([`Place`]), and so does its store while the worker waits for it. Between processes that has to become messages of the
//! thread that looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::{Epoch, Slot};

use crate::dataflow::place::Place;
use crate::link::Told;
use crate::metrics::Gauge;

/// How long a host takes from a trigger to its barrier. While it is on its way, whoever looks writes that, too; at the barrier
/// both write nearly the same.
pub(crate) struct Alignment {
    gauge: Gauge,
    /// The last epoch of which the host has come to the barrier.
    epoch: AtomicU64,
}

impl Alignment {
    /// Of a host that has come to the barrier of `epoch`.
    pub(crate) fn new(gauge: Gauge, epoch: Epoch) -> Arc<Self> {
        Arc::new(Self { gauge, epoch: AtomicU64::new(epoch.0) })
    }

    /// The host has come to the barrier of an epoch.
    pub(crate) fn passed(&self, epoch: Epoch, told: &Told) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
        self.gauge.set(told.since_trigger().as_micros() as i64);
    }

    /// Shows how long the host has been on its way to a barrier, if it is.
    fn show(&self, told: &Told) {
        if told.triggered().0 > self.epoch.load(Ordering::Relaxed) {
            self.gauge.set(told.since_trigger().as_micros() as i64);
        }
    }
}

/// What is to be seen of the workers of a process.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Sights>);

#[derive(Default)]
struct Sights {
    places: Vec<Arc<Place>>,
    alignments: Vec<(Slot, Arc<Alignment>)>,
    /// Of every worker, whether it waits for its store.
    stores: Vec<(Slot, Arc<AtomicBool>)>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new place of a worker.
    pub(crate) fn place(&self, slot: Slot) -> Arc<Place> {
        let place = Arc::new(Place::new(slot));
        self.lock().places.push(place.clone());
        place
    }

    pub(crate) fn add_alignment(&self, slot: Slot, alignment: Arc<Alignment>) {
        self.lock().alignments.push((slot, alignment));
    }

    /// `waits` is true while the worker waits for its store.
    pub(crate) fn add_store(&self, slot: Slot, waits: Arc<AtomicBool>) {
        self.lock().stores.push((slot, waits));
    }

    /// All places so far, always in the same order.
    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        self.lock().places.clone()
    }

    /// True if a worker waits for its store.
    pub(crate) fn waits_for_store(&self, slot: Slot) -> bool {
        self.lock().stores.iter().any(|(of, waits)| *of == slot && waits.load(Ordering::Relaxed))
    }

    /// Shows of every host that is on its way to a barrier for how long it has been.
    pub(crate) fn show_alignments<'a>(&self, told: impl Fn(Slot) -> &'a Told) {
        self.lock().alignments.iter().for_each(|(slot, alignment)| alignment.show(told(*slot)));
    }
}
