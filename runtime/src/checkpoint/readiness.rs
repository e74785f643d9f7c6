//! What has to be ready in a slot before checkpoints begin: its worker, and the publishers of all sinks. A publisher that may not
//! publish (another run of the job does) ends the attempt before there is a snapshot with output that nobody may publish.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_protocol::Slot;

/// How many parts of every slot are not ready.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<BTreeMap<Slot, usize>>);

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot waits for so many parts besides its worker.
    pub(super) fn wait_for(&self, slot: Slot, parts: usize) {
        *self.lock().entry(slot).or_insert(1) += parts;
    }

    /// A part of a slot is ready; true if it was the last one.
    pub(crate) fn part_is_ready(&self, slot: Slot) -> bool {
        let mut slots = self.lock();
        let missing = slots.entry(slot).or_insert(1);
        *missing = missing.saturating_sub(1);
        *missing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_ready_when_its_worker_and_all_publishers_are() {
        let readiness = Readiness::default();
        readiness.wait_for(Slot(1), 2);
        assert!(!readiness.part_is_ready(Slot(1)));
        assert!(readiness.part_is_ready(Slot(0)), "a worker without sinks");
        assert!(!readiness.part_is_ready(Slot(1)));
        assert!(readiness.part_is_ready(Slot(1)));
    }
}
