//! Wakes workers that have parked themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use timely::scheduling::SyncActivator;

/// The sources of a process, to have them scheduled from other threads.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<Vec<SyncActivator>>);

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, Vec<SyncActivator>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, activator: SyncActivator) {
        self.lock().push(activator);
    }

    /// Has every source of this process scheduled once.
    pub(crate) fn wake(&self) {
        for activator in self.lock().iter() {
            // A worker that is gone needs no waking.
            let _ = activator.activate();
        }
    }

    /// The same, if there is more than the one that asks.
    pub(crate) fn wake_others(&self) {
        let several = self.lock().len() > 1;
        if several {
            self.wake();
        }
    }
}
