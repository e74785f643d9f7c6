//! The outcome of the checkpoints so far.

use tidegate_protocol::Epoch;

/// The highest epoch that was triggered, completed and published, and the snapshots that stay.
///
/// Snapshots newer than the restored one that existed before this attempt started are not listed, because they could not be
/// restored. They are collected when the listed ones are all newer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The highest epoch in use, whether it was completed or not; 0 before the first.
    pub(crate) triggered: Epoch,
    /// The epoch up to which all output is visible.
    pub(crate) published: Option<Epoch>,
    /// The completed epochs whose snapshots stay, oldest first, those of older attempts included.
    pub(crate) snapshots: Vec<Epoch>,
}

impl Progress {
    pub(crate) fn new(
        restored: Option<Epoch>,
        mut older: Vec<Epoch>,
        last_epoch: Epoch,
        retain: usize,
    ) -> Self {
        older.retain(|epoch| Some(*epoch) < restored);
        older.extend(restored);
        older.sort_unstable();
        older.dedup();
        let triggered = restored.map_or(last_epoch, |epoch| epoch.max(last_epoch));
        let mut progress = Self { triggered, published: restored, snapshots: older };
        progress.collect(retain);
        progress
    }

    /// The newest complete snapshot: where a restart goes on.
    pub(crate) fn completed(&self) -> Option<Epoch> {
        self.snapshots.last().copied()
    }

    /// A number that no checkpoint has had.
    pub(crate) fn trigger(&mut self) -> Epoch {
        self.triggered = self.triggered.next();
        self.triggered
    }

    /// Removes all but the newest `retain` snapshots from the list and returns the oldest that stays; None if there are
    /// fewer.
    pub(crate) fn collect(&mut self, retain: usize) -> Option<Epoch> {
        let surplus = self.snapshots.len().checked_sub(retain)?;
        self.snapshots.drain(..surplus);
        self.snapshots.first().copied()
    }
}
