//! The actions that a cluster's brain requests.

use std::sync::Arc;

use tidegate_protocol::taskmanager::ToTaskManager;
use tidegate_protocol::{Attempt, Epoch, Error, JobId, Manifest, Plan, Slot, TaskManagerId};

use super::input::RequestId;
use super::record::Record;
use super::submission::Fits;

/// Something for the driver to do, in the order of the list.
#[derive(Clone, Debug)]
pub enum ClusterAction {
    /// Make the record durable, then report it by [`ClusterInput::Committed`](super::ClusterInput::Committed).
    Propose(Record),
    /// Send a message to a taskmanager. It is lost if the taskmanager is not connected.
    Send(TaskManagerId, ToTaskManager),
    /// Do something with the checkpoint directory of a job. What is wanted for one job is carried out in its order.
    Store(JobId, StoreAction),
    /// Copy a whole snapshot, which takes long: other actions do not wait for it.
    Copy(JobId, CopyAction),
    /// Answer a user.
    Answer(RequestId, Result<Answer, Error>),
    /// Something for the log.
    Note {
        /// The job that it is about.
        job: JobId,
        /// True for a warning.
        warning: bool,
        /// The text.
        text: String,
    },
}

/// Something to do with the checkpoint directory of a job.
#[derive(Clone, Debug)]
pub enum StoreAction {
    /// Read the manifest of a snapshot, then report it by [`ClusterInput::SnapshotRead`](super::ClusterInput::SnapshotRead).
    ReadSnapshot {
        /// The epoch.
        epoch: Epoch,
    },
    /// Put a manifest into the checkpoint store, durably, then report that by
    /// [`ClusterInput::ManifestWritten`](super::ClusterInput::ManifestWritten). It is no fact before the record is committed.
    WriteManifest {
        /// The manifest.
        manifest: Arc<Manifest>,
    },
    /// Remove what older attempts have left in the checkpoint store: manifests that were written but never committed, and
    /// files that no manifest names.
    RemoveLeftovers {
        /// The attempt that begins.
        attempt: Attempt,
        /// The last epoch that is complete; later manifests were not committed.
        last_epoch: Epoch,
    },
    /// Never restore from a snapshot again.
    SetAside {
        /// The epoch.
        epoch: Epoch,
    },
    /// Delete the state files that a worker wrote for an epoch that was aborted. It may be done twice.
    Discard {
        /// The attempt that wrote them.
        attempt: Attempt,
        /// The epoch.
        epoch: Epoch,
        /// The worker.
        slot: Slot,
    },
    /// Note that an epoch is published. A note that is lost costs a second publishing.
    NotePublished {
        /// The epoch.
        epoch: Epoch,
    },
    /// Delete snapshots older than this one, and files that only they name.
    Collect {
        /// The oldest epoch whose snapshot stays.
        oldest: Epoch,
    },
}

/// A copy of a whole snapshot.
#[derive(Clone, Debug)]
pub enum CopyAction {
    /// Copy a snapshot into a directory that belongs to the user, then report that by
    /// [`ClusterInput::SavepointWritten`](super::ClusterInput::SavepointWritten).
    WriteSavepoint {
        /// The number of the operation.
        operation: u64,
        /// The epoch.
        epoch: Epoch,
        /// Where; a directory of its own is made in it.
        directory: String,
    },
    /// Copy the newest snapshot of another directory into the checkpoint directory of a job that does not run yet, then report
    /// that by [`ClusterInput::Imported`](super::ClusterInput::Imported).
    Import {
        /// The directory.
        from: String,
        /// Which snapshots the job can go on from: of another one nothing is copied.
        fits: Box<Fits>,
    },
}

/// What a user is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The plan.
    Plan(Box<Plan>),
    /// The job is submitted.
    Submitted(JobId),
    /// An operation has begun, with this number.
    Operation(u64),
    /// It is done, or under way.
    Done,
}
