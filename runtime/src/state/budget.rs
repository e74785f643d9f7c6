//! How much memory the tables of a worker may take.

use std::cell::Cell;

/// A limit in bytes and what is used of it, shared by the tables of one worker.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: Cell<usize>,
    /// Bytes of entries that the next barrier is to copy.
    changed: Cell<usize>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: Cell::new(0), changed: Cell::new(0) }
    }

    /// A table has grown or shrunk from `before` to `after` bytes.
    pub(crate) fn change(&self, before: usize, after: usize) {
        self.used.set((self.used.get() + after).saturating_sub(before));
    }

    /// The same for what has changed since the last barrier.
    pub(crate) fn change_changed(&self, before: usize, after: usize) {
        self.changed.set((self.changed.get() + after).saturating_sub(before));
    }

    /// True if a barrier would copy more than half of the limit.
    pub(crate) fn is_much_changed(&self) -> bool {
        self.changed.get() > self.limit / 2
    }

    /// Bytes used beyond the limit.
    pub(crate) fn excess(&self) -> usize {
        self.used.get().saturating_sub(self.limit)
    }

    /// True if as much again could be added to what is used.
    pub(crate) fn is_half_free(&self) -> bool {
        self.used.get() < self.limit / 2
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}
