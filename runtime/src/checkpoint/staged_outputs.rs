//! What the workers of a process have staged for snapshots that are not published yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Epoch, Slot};

/// Pieces of output, each with the uid of its sink.
pub(crate) type StagedBySink = Arc<Vec<(String, Staged)>>;

/// The staged output of every worker, by the epoch of the snapshot that has it. A worker's snapshot thread adds what it is
/// about to acknowledge; the publishers take it when the snapshot is complete.
#[derive(Default)]
pub(crate) struct StagedOutputs(Mutex<BTreeMap<Slot, BTreeMap<Epoch, StagedBySink>>>);

impl StagedOutputs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, BTreeMap<Epoch, StagedBySink>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a worker's part of a snapshot holds.
    pub(super) fn add(&self, slot: Slot, epoch: Epoch, staged: Vec<(String, Staged)>) {
        self.lock().entry(slot).or_default().insert(epoch, Arc::new(staged));
    }

    /// What a worker's part of a snapshot holds; None if the worker has not written that part, or it is forgotten.
    pub(super) fn get(&self, slot: Slot, epoch: Epoch) -> Option<StagedBySink> {
        self.lock().get(&slot)?.get(&epoch).cloned()
    }

    /// Forgets what a worker staged up to an epoch, which is published.
    pub(super) fn forget(&self, slot: Slot, published: Epoch) {
        if let Some(epochs) = self.lock().get_mut(&slot) {
            epochs.retain(|epoch, _| *epoch > published);
        }
    }
}
