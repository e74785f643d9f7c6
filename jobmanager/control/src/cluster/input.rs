//! The inputs of a cluster's brain.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_protocol::taskmanager::{FromTaskManager, Program, Registration};
use tidegate_protocol::{Epoch, Error, JobId, Manifest, TaskManagerId};

use super::record::{JobSettings, Record};
use crate::time::Time;

/// The time of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The time that only goes forward, by which everything is decided.
    pub time: Time,
    /// Milliseconds since the Unix epoch, for people; no rule depends on it.
    pub wall_ms: u64,
}

/// A request of a user, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// An event outside of the brain.
#[derive(Clone, Debug)]
pub enum ClusterInput {
    /// A proposed record is durable. Records are committed in the order in which they were proposed.
    Committed(Record),
    /// A taskmanager has connected. If it was connected before, that connection is over.
    Connected(Box<Registration>),
    /// The connection to a taskmanager is over.
    Disconnected(TaskManagerId),
    /// A connected taskmanager has sent a message.
    FromTaskManager(TaskManagerId, FromTaskManager),
    /// A user wants something.
    Request(RequestId, Request),
    /// The answer to [`StoreAction::ReadSnapshot`](super::StoreAction::ReadSnapshot).
    SnapshotRead {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// What was found.
        read: SnapshotRead,
    },
    /// The answer to [`StoreAction::WriteManifest`](super::StoreAction::WriteManifest).
    ManifestWritten {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
        /// Why it is not there, if it is not, and whether that is certain.
        result: Result<(), NotWritten>,
    },
    /// The answer to [`CopyAction::WriteSavepoint`](super::CopyAction::WriteSavepoint).
    SavepointWritten {
        /// The job.
        job: JobId,
        /// The number of the operation.
        operation: u64,
        /// Where it is, or why it is not there.
        result: Result<String, Error>,
    },
    /// The answer to [`CopyAction::Import`](super::CopyAction::Import).
    Imported {
        /// The job.
        job: JobId,
        /// The manifest of the snapshot that was imported, or why none was.
        result: Result<Arc<Manifest>, Error>,
    },
    /// Nothing has happened except that time has passed.
    Tick,
}

/// Why a manifest is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWritten {
    /// Why, for people.
    pub reason: String,
    /// False if it may be there nevertheless.
    pub is_certain: bool,
}

/// What was found of a snapshot.
#[derive(Clone, Debug)]
pub enum SnapshotRead {
    /// Its manifest, and the last epoch that is noted as published.
    Read(Arc<Manifest>, Epoch),
    /// It is damaged, or gone.
    Damaged(String),
    /// The checkpoint store does not answer: it can be tried again.
    Unavailable(String),
}

/// What a user wants.
#[derive(Clone, Debug)]
pub enum Request {
    /// The plan of an executable.
    Describe(Program),
    /// A job is to run.
    Run(Box<RunJob>),
    /// A job is to end without a last checkpoint.
    Cancel(JobId),
    /// A job is to stop.
    Stop {
        /// The job.
        job: JobId,
        /// Whether it reads its input to the present end and finishes.
        drain: bool,
        /// Where a savepoint is made.
        savepoint: Option<String>,
    },
    /// A savepoint is wanted.
    Savepoint {
        /// The job.
        job: JobId,
        /// Where it is made.
        directory: String,
    },
    /// Another number of workers is wanted.
    Rescale {
        /// The job.
        job: JobId,
        /// The number; with `auto` only for now.
        parallelism: u32,
        /// Whether it is to follow the partitions and the slots there are.
        auto: bool,
    },
}

/// A job that is to run.
#[derive(Clone, Debug)]
pub struct RunJob {
    /// Its id, which the client has chosen.
    pub job: JobId,
    /// What is started.
    pub program: Program,
    /// The number of workers; None for what the job's flags say, or for as many as there is room and work for. It does not count
    /// if the parallelism is automatic.
    pub parallelism: Option<u32>,
    /// The snapshot that it goes on from.
    pub snapshot: Option<String>,
    /// Whether state of operators that the job does not have may be left behind.
    pub allow_non_restored_state: bool,
    /// The name that people see; None for the job's own.
    pub name: Option<String>,
    /// What the user has set; what is None is taken from the job's flags.
    pub interval_ms: Option<u64>,
    /// The same for the number of snapshots.
    pub retain: Option<usize>,
    /// The other settings.
    pub settings: JobSettings,
}
