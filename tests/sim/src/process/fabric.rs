//! What the processes of an attempt know of each other over the connections between them: who is there, and how far every
//! worker's sources are. A barrier is complete when the sources of all workers have ended the epoch.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::{Epoch, Slot};

/// The connections between the processes of an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fabric {
    /// The processes that have begun.
    pub(crate) members: BTreeSet<u32>,
    /// The last epoch that the sources of every worker have ended.
    emitted: BTreeMap<Slot, Epoch>,
}

impl Fabric {
    pub(crate) fn emit(&mut self, slot: Slot, epoch: Epoch) {
        self.emitted.insert(slot, epoch);
    }

    /// The last epoch that the sources of all workers have ended.
    pub(crate) fn passed(&self, parallelism: u32) -> Epoch {
        let of = |slot| self.emitted.get(&Slot(slot)).copied().unwrap_or_default();
        (0..parallelism).map(of).min().unwrap_or_default()
    }
}
