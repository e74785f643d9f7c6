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

    /// Schedules every source of this process once.
    pub(crate) fn wake(&self) {
        for activator in self.lock().iter() {
            // A worker that has ended needs no activation.
            let _ = activator.activate();
        }
    }

    /// Schedules every source of this process once, if there are others than the calling one.
    pub(crate) fn wake_others(&self) {
        let several = self.lock().len() > 1;
        if several {
            self.wake();
        }
    }
}
