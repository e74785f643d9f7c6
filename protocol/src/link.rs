//! The messages between the driver of an attempt and its processes.
//!
//! The driver (of a job that runs alone, or in the jobmanager) sends commands, a process reports how far its workers are.
//! What delivery promises, and what it does not, is said where messages are received: in the runtime's module `link`.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ids::{Attempt, Epoch, Slot};
use crate::manifest::SlotSnapshot;

/// A message of the driver to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToProcess {
    /// The attempt whose workers are meant.
    pub attempt: Attempt,
    /// What they are to do.
    pub command: Command,
}

/// What a process is to do, or has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Sources end all epochs up to this one. After the last one they read no further.
    Trigger {
        /// The epoch to end.
        epoch: Epoch,
        /// True if no epoch follows.
        last: bool,
    },
    /// Sources read no further: the job is to stop.
    StopReading,
    /// The snapshot of an epoch is complete: what the workers of the process staged for it is to be made visible.
    Publish(Epoch),
    /// The snapshot of an epoch is complete and its output published. It is sent before the next trigger: output that a
    /// worker has staged is part of the next snapshot again unless the worker knows by then that it is published.
    Completed(Epoch),
    /// All partitions of a source that are assigned to a worker, in the order of their assignment. A later list only adds
    /// to an earlier one.
    Assigned {
        /// The source's uid.
        source: String,
        /// The worker.
        slot: Slot,
        /// Its partitions.
        partitions: Vec<String>,
    },
    /// Workers leave without a barrier; nothing of this attempt is acknowledged any more.
    Abort,
}

/// A message of a process to the driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToDriver {
    /// The attempt that the worker belongs to.
    pub attempt: Attempt,
    /// What has happened.
    pub report: Report,
}

/// The progress of a worker or of its process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The worker's dataflow is built, its state restored, and its output can be published.
    Ready(Slot),
    /// All sources of the worker have read their bounded input to its end.
    SourcesEnded(Slot),
    /// The worker's part of a snapshot is durable.
    Acked {
        /// The worker.
        slot: Slot,
        /// The epoch that the snapshot ends.
        epoch: Epoch,
        /// What the worker wrote.
        part: Box<SlotSnapshot>,
    },
    /// The worker could not write its part.
    Declined {
        /// The worker.
        slot: Slot,
        /// The epoch that the snapshot would have ended.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// All that the worker staged for an epoch is visible.
    Published {
        /// The worker.
        slot: Slot,
        /// The epoch.
        epoch: Epoch,
    },
    /// The partitions that a source has now.
    Partitions {
        /// The source's uid.
        source: String,
        /// Their names, in any order.
        names: Vec<String>,
    },
    /// The job cannot go on.
    Failed(Error),
    /// The worker's thread has ended.
    Done(Slot),
}

impl Report {
    /// True for reports that are sent only while the attempt is running.
    pub fn is_progress(&self) -> bool {
        match self {
            Self::Ready(_)
            | Self::SourcesEnded(_)
            | Self::Acked { .. }
            | Self::Declined { .. }
            | Self::Published { .. }
            | Self::Partitions { .. } => true,
            Self::Failed(_) | Self::Done(_) => false,
        }
    }
}
