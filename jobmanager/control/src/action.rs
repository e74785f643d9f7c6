//! The actions that the control brain requests.

use std::fmt;

use tidegate_protocol::{Attempt, Epoch, Slot};

use crate::checkpoint::CheckpointPhase;
use crate::input::LedgerEntry;

/// Something for the driver to do, in the order of the list. None of them may be skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell every worker to end this epoch, to write its part of the snapshot and to acknowledge or decline it.
    Trigger {
        /// The attempt whose workers are meant.
        attempt: Attempt,
        /// The epoch to end.
        epoch: Epoch,
        /// Set if no epoch follows: the sources read no further.
        last: Option<Last>,
    },
    /// Tell every source to read no further: the job is to stop. The last trigger follows once no checkpoint is in flight.
    /// Records that are read until then would only delay it, and a bounded source could reach its end.
    StopReading {
        /// The attempt whose workers are meant.
        attempt: Attempt,
    },
    /// The part of the snapshot that came with this acknowledgement counts: keep it until the epoch is completed or
    /// aborted. A part that is not accepted in this way belongs to no snapshot, whatever its message says.
    Accept {
        /// The attempt that wrote it.
        attempt: Attempt,
        /// The epoch that the snapshot ends.
        epoch: Epoch,
        /// The worker whose part it is.
        slot: Slot,
    },
    /// Make the record durable, then report it by [`Input::Committed`](crate::Input::Committed).
    Propose(LedgerEntry),
    /// Make visible what the epoch staged, then report it by [`Input::Published`](crate::Input::Published). It may be done
    /// twice, after a crash.
    Publish {
        /// The attempt that may publish.
        attempt: Attempt,
        /// The epoch, which is complete.
        epoch: Epoch,
    },
    /// Snapshots older than this one, and files that only they name, may be deleted.
    Collect {
        /// The oldest epoch whose snapshot stays.
        oldest: Epoch,
    },
    /// The snapshot of this epoch will never be complete: forget its parts, and publish nothing by its number. What was
    /// written for it is deleted part by part, by [`Action::Discard`]. The output that the epoch staged is not deleted
    /// while the job goes on: it becomes part of the next snapshot, and is published with that one. After a last epoch
    /// there is no next one; the next attempt restores an older snapshot and stages anew.
    Abort {
        /// The attempt that was writing it.
        attempt: Attempt,
        /// The epoch, whose number is not used again.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// Delete the state files that a worker wrote for an epoch that was aborted: no snapshot has them, and none will. This
    /// is requested once the worker has answered, because otherwise the worker could still write while its files are
    /// deleted. It may be done twice.
    Discard {
        /// The attempt that wrote them.
        attempt: Attempt,
        /// The epoch, which was aborted.
        epoch: Epoch,
        /// The worker, which has acknowledged or declined the epoch.
        slot: Slot,
    },
    /// A checkpoint takes long: a line for the log.
    Slow {
        /// The epoch in flight.
        epoch: Epoch,
        /// The phase that it is in.
        phase: CheckpointPhase,
        /// Milliseconds since it was triggered.
        waited_ms: u64,
    },
    /// The attempt is over: end its workers. Nothing follows.
    Exit(Exit),
}

/// Why an epoch is the last of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// The bounded input is over: fire what is left.
    Finish,
    /// The job is stopped and may go on later: open windows stay open in the snapshot.
    Stop,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The bounded input was read to its end and all output is published.
    Finished,
    /// Stopped as asked, with a snapshot and everything up to it published.
    Stopped,
    /// The last snapshot could not be written; nothing of its epoch is published, and the next start goes on from the
    /// snapshot before it.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

impl Last {
    /// The exit that follows once the last epoch is published.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Finish => Exit::Finished,
            Self::Stop => Exit::Stopped,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trigger { attempt, epoch, last } => {
                write!(f, "trigger attempt {attempt} epoch {epoch}")?;
                match last {
                    None => Ok(()),
                    Some(Last::Finish) => f.write_str(" last finish"),
                    Some(Last::Stop) => f.write_str(" last stop"),
                }
            }
            Self::StopReading { attempt } => write!(f, "stop reading attempt {attempt}"),
            Self::Accept { attempt, epoch, slot } => {
                write!(f, "accept attempt {attempt} epoch {epoch} slot {slot}")
            }
            Self::Propose(LedgerEntry::Completed { attempt, epoch, finished }) => {
                let finished = if *finished { " finished" } else { "" };
                write!(f, "propose completed attempt {attempt} epoch {epoch}{finished}")
            }
            Self::Publish { attempt, epoch } => write!(f, "publish attempt {attempt} epoch {epoch}"),
            Self::Collect { oldest } => write!(f, "collect before epoch {oldest}"),
            Self::Abort { attempt, epoch, reason } => {
                write!(f, "abort attempt {attempt} epoch {epoch}: {reason}")
            }
            Self::Discard { attempt, epoch, slot } => {
                write!(f, "discard attempt {attempt} epoch {epoch} slot {slot}")
            }
            Self::Slow { epoch, phase, waited_ms } => {
                write!(f, "slow epoch {epoch}: {phase} after {waited_ms} ms")
            }
            Self::Exit(exit) => exit.fmt(f),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("exit finished"),
            Self::Stopped => f.write_str("exit stopped"),
            Self::Failed { reason } => write!(f, "exit failed: {reason}"),
        }
    }
}
