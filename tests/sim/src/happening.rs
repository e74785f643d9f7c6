//! What has happened in a step, as far as an invariant is about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_control::cluster::Record;
use tidegate_protocol::{Attempt, Epoch, JobId, Manifest, Slot, TaskManagerId};

use crate::outside::Piece;

/// A fact about the world, of which the invariants keep what they need.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A record has become durable, and the ledger has changed by it: one that says nothing new, or of an attempt that
    /// was replaced, or of a job that is over, is none.
    Durable(Record),
    /// A jobmanager has begun.
    JobManagerBegan,
    /// The brain has told an attempt to end an epoch.
    Triggered { job: JobId, epoch: Epoch },
    /// The brain has told an attempt to publish an epoch.
    PublishCommanded { job: JobId, attempt: Attempt, epoch: Epoch },
    /// The brain has had a process started.
    Launched {
        job: JobId,
        attempt: Attempt,
        first: Slot,
        taskmanager: TaskManagerId,
        restored: Option<Epoch>,
    },
    /// A manifest is in the checkpoint store.
    ManifestWritten { job: JobId, manifest: Arc<Manifest> },
    /// A manifest was deleted.
    ManifestDeleted { job: JobId, epoch: Epoch },
    /// A file of the checkpoint store was deleted.
    FileDeleted { job: JobId, path: String },
    /// A file or a manifest is damaged; these snapshots are by that.
    Damaged { job: JobId, epochs: BTreeSet<Epoch> },
    /// A process of an attempt has made a piece of output visible, as part of the snapshot of an epoch.
    Published { job: JobId, attempt: Attempt, epoch: Epoch, piece: Piece },
    /// Output was taken back by an attempt that restores an older epoch.
    TakenBack { job: JobId, pieces: Vec<Piece> },
    /// The brain takes all output of an epoch for visible, or an attempt is about to begin after it.
    AllPublished { job: JobId, epoch: Epoch },
    /// The copying of a snapshot was requested.
    SavepointRequested { job: JobId, operation: u64, epoch: Epoch },
    /// The manifest of a savepoint was read, and is being copied with its files.
    SavepointBegan { copy: u64, job: JobId, manifest: Arc<Manifest> },
    /// The copying has ended.
    SavepointEnded { copy: u64 },
    /// A worker has opened a partition.
    Opened { job: JobId, attempt: Attempt, slot: Slot, partition: String },
    /// A process has met what cannot be.
    Internal(String),
}
