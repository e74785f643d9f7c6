//! The setup of an attempt of a job. It does not change while the attempt runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_protocol::manifest::OperatorSnapshot;
use tidegate_protocol::{Attempt, Epoch, Error, JobId, KeyGroups, Manifest, Result, Slot};
use tidegate_snapshots::Snapshots;

use crate::working_directory::WorkingDirectory;

/// What a user sets for a job as a whole.
#[derive(Clone, Debug)]
pub(crate) struct JobSettings {
    /// The number of workers of the job, in all of its processes.
    pub(crate) parallelism: usize,
    pub(crate) key_groups: KeyGroups,
    /// Memory for keyed state of all workers, in bytes.
    pub(crate) memory: usize,
    /// Whether all sources are followed, that is read on as they grow.
    pub(crate) follow: bool,
    /// Whether batches between workers are sent as bytes, as between processes, even within one process.
    pub(crate) over_the_wire: bool,
}

/// The workers of the job that run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessWorkers {
    /// The slot of the first one; the others follow it.
    pub(crate) first: Slot,
    pub(crate) count: usize,
}

impl ProcessWorkers {
    /// Their slots.
    pub(crate) fn slots(self) -> impl Iterator<Item = Slot> {
        (self.first.0..).take(self.count).map(Slot)
    }

    /// True if the worker with this slot's number is one of them.
    pub(crate) fn contains(self, worker: usize) -> bool {
        (self.first.0 as usize..self.first.0 as usize + self.count).contains(&worker)
    }

    /// The number of the process that has the worker with this slot's number: every process of an attempt has as many
    /// workers as this one.
    pub(crate) fn process_of(self, worker: usize) -> usize {
        worker / self.count.max(1)
    }
}

/// An attempt: its numbers, the snapshot that it goes on from, and where it writes its own.
#[derive(Clone, Debug)]
pub(crate) struct AttemptSetup {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    pub(crate) settings: JobSettings,
    /// The first epoch of this attempt; timestamps count from it.
    pub(crate) first_epoch: Epoch,
    pub(crate) restored: Option<Arc<Manifest>>,
    pub(crate) snapshots: Snapshots,
    /// Where running state stores are.
    pub(crate) working: WorkingDirectory,
    /// The prefix of each operator's keys in the state store.
    pub(crate) store_ids: BTreeMap<String, u16>,
}

impl AttemptSetup {
    /// The epoch before the first of this attempt.
    pub(crate) fn epoch_before(&self) -> Epoch {
        Epoch(self.first_epoch.0 - 1)
    }

    /// The prefix of an operator's keys in the store.
    ///
    /// # Errors
    /// If the plan of the job has no such operator with state.
    pub(crate) fn store_id(&self, uid: &str) -> Result<u16> {
        let unknown = || Error::internal(format!("operator '{uid}' has no state in the plan of the job"));
        self.store_ids.get(uid).copied().ok_or_else(unknown)
    }

    /// What every slot of the restored snapshot holds of an operator.
    pub(crate) fn restored_parts<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a OperatorSnapshot> {
        let slots = self.restored.iter().flat_map(|manifest| manifest.slots.values());
        slots.filter_map(move |slot| slot.operators.get(uid))
    }

    /// True if the restored snapshot holds state of an operator.
    pub(crate) fn has_state(&self, uid: &str) -> bool {
        self.restored.as_ref().is_some_and(|manifest| manifest.operators.contains_key(uid))
    }
}
