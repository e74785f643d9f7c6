//! How a table takes part in a barrier: the rows that have changed are copied out step by step, and the row of a key that
//! is about to change is copied out first.

use std::time::Instant;

use tidegate_protocol::{Error, Result};

use super::{Entry, Namespace, Table, Value, row};
use crate::key::Key;
use crate::state::store::{Rows, Store};

impl<K: Key, V: Value> Table<K, V> {
    /// Ends an epoch and begins the next: what has changed is to be copied out by [`Table::copy`].
    ///
    /// # Errors
    /// If rows of the previous epoch have not been copied out yet.
    pub(crate) fn barrier(&mut self, store: &Store, next_epoch: u64) -> Result<()> {
        if !self.pending.is_empty() {
            return Err(Error::internal(
                "a barrier has arrived before the rows of the previous one were copied",
            ));
        }
        if store.written() + 1 >= self.epoch {
            self.purge_tombstones();
        }
        self.estimate()?;
        (self.pending, self.ended) = (std::mem::take(&mut self.changed), self.epoch);
        self.epoch = next_epoch;
        Ok(())
    }

    /// True if rows of the last barrier are still to be copied out or taken.
    #[cfg(test)]
    pub(crate) fn is_copying(&self) -> bool {
        !self.pending.is_empty() || !self.copied.is_empty()
    }

    /// Copies out rows of the last barrier, with their values at the barrier, until the time `until`; true if none is left.
    pub(crate) fn copy(&mut self, store: &Store, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        const ROWS_A_LOOK: usize = 32;
        while let Some(i) = self.pending.pop() {
            self.copy_entry(store, i)?;
            let look = self.pending.len().is_multiple_of(ROWS_A_LOOK);
            if look && until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        rows.append(std::mem::take(&mut self.copied));
        Ok(self.pending.is_empty())
    }

    /// Copies out the row of an entry of the last barrier before the entry changes.
    #[inline]
    pub(super) fn copy_before_change(&mut self, store: &Store, i: u32) -> Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.copy_entry(store, i) }
    }

    /// Copies out the row of an entry of the last barrier, if that was not done yet.
    pub(super) fn copy_entry(&mut self, store: &Store, i: u32) -> Result<()> {
        let entry = &mut self.entries[i as usize];
        if entry.changed_in == self.ended && !entry.copied {
            copy_out(self.place, store, entry, &mut self.copied)?;
            if entry.value.is_none() {
                self.tombstones.push(i);
            }
        }
        Ok(())
    }

    /// Forgets tombstones of the barriers before, which have been written.
    pub(super) fn purge_tombstones(&mut self) {
        for i in std::mem::take(&mut self.tombstones) {
            if self.entries[i as usize].value.is_none() && self.entries[i as usize].changed_in != self.epoch {
                self.forget(i);
            }
        }
    }
}

/// Adds the row of an entry, or its deletion, to `rows`.
pub(super) fn copy_out<K: Key, V: Value>(
    place: Namespace,
    store: &Store,
    entry: &mut Entry<K, V>,
    rows: &mut Rows,
) -> Result<()> {
    let row = row(place, store, entry.hash, &entry.key);
    match &entry.value {
        Some(value) => rows.put(row, value)?,
        None if entry.stored => rows.delete(row)?,
        None => {}
    }
    entry.stored = entry.value.is_some();
    entry.copied = true;
    Ok(())
}
