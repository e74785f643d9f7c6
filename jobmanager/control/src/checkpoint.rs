//! The checkpoint in flight.

use std::collections::BTreeSet;
use std::fmt;

use tidegate_protocol::{Attempt, Epoch, Slot};

use crate::action::Last;
use crate::input::LedgerEntry;
use crate::time::Time;

/// How far the checkpoint in flight is. A job without one in flight is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPhase {
    /// Triggered; not every worker has acknowledged its part.
    Pending,
    /// Every part is durable; the record that says so is not yet.
    Completing,
    /// Complete; not all of its output is visible yet.
    Publishing,
}

impl fmt::Display for CheckpointPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Completing => "completing",
            Self::Publishing => "publishing",
        })
    }
}

/// A checkpoint from its trigger until its output is visible.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) epoch: Epoch,
    pub(crate) last: Option<Last>,
    pub(crate) phase: CheckpointPhase,
    /// The workers whose part is durable.
    pub(crate) acked: BTreeSet<Slot>,
    pub(crate) triggered_at: Time,
    /// When it is reported as slow (again).
    pub(crate) slow_at: Time,
}

impl Checkpoint {
    pub(crate) fn new(epoch: Epoch, last: Option<Last>, now: Time, slow_ms: u64) -> Self {
        let slow_at = now.plus_ms(slow_ms);
        Self {
            epoch,
            last,
            phase: CheckpointPhase::Pending,
            acked: BTreeSet::new(),
            triggered_at: now,
            slow_at,
        }
    }

    /// When it is aborted because workers have not answered; None once they all have. The last one is waited for: at its
    /// barrier everything fires that is due, and an attempt that failed because of that would be followed by one that
    /// fails in the same way.
    pub(crate) fn times_out_at(&self, timeout_ms: Option<u64>) -> Option<Time> {
        let may_be_aborted = self.phase == CheckpointPhase::Pending && self.last.is_none();
        let timeout_ms = timeout_ms.filter(|_| may_be_aborted)?;
        Some(self.triggered_at.plus_ms(timeout_ms))
    }

    /// The record that completes it.
    pub(crate) fn record(&self, attempt: Attempt) -> LedgerEntry {
        LedgerEntry::Completed { attempt, epoch: self.epoch, finished: self.last == Some(Last::Finish) }
    }

    /// The milliseconds that it has taken so far, if a report is due; the next report is due as much later.
    pub(crate) fn slow(&mut self, now: Time, slow_ms: u64) -> Option<u64> {
        if now < self.slow_at {
            return None;
        }
        self.slow_at = now.plus_ms(slow_ms);
        Some(now.since_ms(self.triggered_at))
    }
}
