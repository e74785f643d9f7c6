//! The inputs of the control brain.

use serde::{Deserialize, Serialize};
use tidegate_protocol::{Attempt, Epoch, Slot};

/// A fact that is durable, or is proposed to become so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerEntry {
    /// The snapshot of an epoch is complete: the job restarts from it from now on, and its output may be published.
    Completed {
        /// The attempt that wrote it.
        attempt: Attempt,
        /// The epoch that the snapshot ends.
        epoch: Epoch,
        /// True if the job's bounded input was read to its end: there is nothing left to do.
        finished: bool,
    },
}

/// An event outside of the control brain.
///
/// Messages may come late, twice or from an attempt before this one, and those of different workers in any order. What
/// does not fit the checkpoint in flight is dropped and counted ([`Control::dropped`](crate::Control::dropped)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The workers are built and run. The output that the restored snapshot had staged has been published: recovery does
    /// that with the old slots before it starts the new ones.
    Started {
        /// The epoch whose snapshot the workers were restored from.
        restored: Option<Epoch>,
        /// The complete snapshots older than that one that are still there, in any order. One that is not named is
        /// collected later than it could be, never earlier.
        older: Vec<Epoch>,
        /// The highest epoch that any attempt ever used, completed or not; 0 if none. New ones are higher.
        last_epoch: Epoch,
    },
    /// A worker's part of a snapshot is durable. A worker answers for epochs in their order, once each.
    Acked {
        /// The attempt that the worker belongs to.
        attempt: Attempt,
        /// The epoch that the snapshot ends.
        epoch: Epoch,
        /// The worker.
        slot: Slot,
    },
    /// A worker could not write its part of a snapshot, because of a full disk for example.
    Declined {
        /// The attempt that the worker belongs to.
        attempt: Attempt,
        /// The epoch that the snapshot would have ended.
        epoch: Epoch,
        /// The worker.
        slot: Slot,
        /// Why, for people.
        reason: String,
    },
    /// A proposed record is durable.
    Committed(LedgerEntry),
    /// A proposed record is not durable and certainly never will be. If that is not certain, do not send this input:
    /// propose the record again until it is durable, or end the attempt and read what was written.
    Refused {
        /// The record as it was proposed.
        record: LedgerEntry,
        /// Why, for people.
        reason: String,
    },
    /// Everything that an epoch staged is visible outside.
    Published {
        /// The attempt that published it.
        attempt: Attempt,
        /// The epoch.
        epoch: Epoch,
    },
    /// All sources of a worker have read their bounded input to its end.
    SourcesEnded {
        /// The attempt that the worker belongs to.
        attempt: Attempt,
        /// The worker.
        slot: Slot,
    },
    /// A checkpoint is wanted, whether it is due or not: the next epoch is triggered as soon as none is in flight.
    CheckpointRequested,
    /// Messages of workers may have been lost: what was acknowledged of the checkpoint in flight is not known any more.
    MessagesLost {
        /// Why, for people.
        reason: String,
    },
    /// The user wants the job to stop: a last snapshot, everything published, then exit.
    StopRequested,
    /// Nothing has happened except that time has passed.
    Tick,
}
