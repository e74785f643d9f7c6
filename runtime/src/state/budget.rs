//! How much memory the state of a worker may take.

use std::cell::Cell;

/// How the memory for the state of a job is divided, for one worker.
///
/// Tables and timers have half of it. RocksDB has up to two write buffers and a cache, three sixteenths in all. The rest is
/// for rows that are being copied (a barrier copies what has changed, which is about half of the entries at most), and for
/// memory that the allocators hold but cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Bytes of entries in memory, in tables and timers.
    pub(crate) entries: usize,
    /// Bytes of one of RocksDB's write buffers.
    pub(crate) write_buffer: usize,
    /// Bytes of RocksDB's block cache.
    pub(crate) block_cache: usize,
}

impl Shares {
    /// The shares of each of a number of workers.
    pub(crate) fn of(memory: usize, workers: usize) -> Self {
        let all = memory / workers;
        Self {
            entries: all / 2,
            write_buffer: (all / 16).clamp(1 << 20, 32 << 20),
            block_cache: (all / 16).clamp(1 << 20, 64 << 20),
        }
    }
}

/// A limit in bytes and what is used of it, shared by the tables of one worker.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    pub(super) used: Cell<usize>,
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
