//! The messages between the driver and a process.

use tidegate_protocol::manifest::SlotSnapshot;
use tidegate_protocol::{Attempt, Epoch, Slot};

use tidegate_protocol::Error;

/// A message of the driver to a process.
#[derive(Clone, Debug)]
pub(crate) struct ToProcess {
    /// The attempt whose workers are meant.
    pub(crate) attempt: Attempt,
    pub(crate) command: Command,
}

/// What a process is to do, or has to know.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Sources end all epochs up to this one. After the last one they read no further.
    Trigger { epoch: Epoch, last: bool },
    /// Sources read no further: the job is to stop.
    StopReading,
    /// The snapshot of an epoch is complete and its output published. It is sent before the next trigger: output that a
    /// worker has staged is part of the next snapshot again unless the worker knows by then that it is published.
    Completed(Epoch),
    /// All partitions of a source that are assigned to a worker, in the order of their assignment. A later list only adds
    /// to an earlier one.
    Assigned { source: String, slot: Slot, partitions: Vec<String> },
    /// Workers leave without a barrier; nothing of this attempt is acknowledged any more.
    Abort,
}

/// A message of a process to the driver.
#[derive(Clone, Debug)]
pub(crate) struct ToDriver {
    /// The attempt that the worker belongs to.
    pub(crate) attempt: Attempt,
    pub(crate) report: Report,
}

/// The progress of a worker.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// The worker's dataflow is built, its state restored.
    Ready(Slot),
    /// All sources of the worker have read their bounded input to its end.
    SourcesEnded(Slot),
    /// The worker's part of a snapshot is durable.
    Acked { slot: Slot, epoch: Epoch, part: Box<SlotSnapshot> },
    /// The worker could not write its part.
    Declined { slot: Slot, epoch: Epoch, reason: String },
    /// The job cannot go on.
    Failed(Error),
    /// The worker's thread has ended.
    Done(Slot),
}

impl Report {
    /// True for reports that are sent only while the attempt is running.
    pub(crate) fn is_progress(&self) -> bool {
        match self {
            Self::Ready(_) | Self::SourcesEnded(_) | Self::Acked { .. } | Self::Declined { .. } => true,
            Self::Failed(_) | Self::Done(_) => false,
        }
    }
}
