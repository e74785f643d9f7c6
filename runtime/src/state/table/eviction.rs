//! How a table keeps to the memory budget of its worker: how much memory entries take, and which of them are evicted.

use tidegate_protocol::Result;

use super::drain::Drained;
use super::snapshot::copy_out;
use super::{Entry, Table, Value};
use crate::key::Key;
use crate::state::budget::Budget;
use crate::state::index::Index;
use crate::state::store::{Patience, Rows, Store};
use crate::state::weight::heap_size;

/// The number of changed entries that are written early at once; records wait in the meantime.
const ENTRIES_A_ROUND: usize = 8192;
/// Changes after which entries of a small table are weighed again: they may have grown.
pub(super) const CHANGES: usize = 1024;
/// Bytes that may be weighed for every change.
const BYTES_A_CHANGE: usize = 64;

impl<K: Key, V: Value> Table<K, V> {
    /// Reports the size of the table to the budget, and evicts entries if there is too little memory.
    pub(crate) fn keep_to(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        if self.in_memory() > 2 * self.estimated_at || self.changes > self.changes_most {
            self.estimate()?;
        }
        self.charge(budget);
        self.roomy = budget.is_half_free();
        // A barrier copies what has changed: the memory for that copy is limited too.
        if budget.is_much_changed() && !self.changed.is_empty() && store.may_spill(Patience::None)? {
            self.write_early(store, ENTRIES_A_ROUND)?;
            self.charge(budget);
        }
        if budget.excess() > 0 && self.in_memory() > 0 {
            self.make_room(budget, store)?;
        }
        Ok(())
    }

    /// Estimates what entries take on the heap from a few of them.
    #[cold]
    pub(super) fn estimate(&mut self) -> Result<()> {
        const SAMPLE: usize = 32;
        let step = (self.entries.len() / SAMPLE).max(1);
        let (mut bytes, mut sampled) = (0, 0);
        // The sample does not always consist of the same entries.
        for i in (self.changes % step..self.entries.len()).step_by(step) {
            let entry = &self.entries[i];
            if let Some(value) = &entry.value {
                bytes += heap_size(&entry.key)? + heap_size(value)?;
                sampled += 1;
            }
        }
        self.heap_per_entry = bytes.checked_div(sampled).unwrap_or(self.heap_per_entry);
        (self.estimated_at, self.changes) = (self.in_memory(), 0);
        // Weighing takes time in proportion to the size of the values: a long list is not weighed again after every few
        // elements.
        self.changes_most = CHANGES.max(self.estimated_at).max(bytes / BYTES_A_CHANGE);
        Ok(())
    }

    /// Writes some of the entries that have changed since the last barrier to the store before the next barrier.
    #[cold]
    pub(super) fn write_early(&mut self, store: &Store, most: usize) -> Result<()> {
        let mut rows = Rows::default();
        let written: Vec<u32> = self.changed.drain(..most.min(self.changed.len())).collect();
        for &i in &written {
            let entry = &mut self.entries[i as usize];
            copy_out(self.place, store, entry, &mut rows)?;
            entry.changed_in = 0;
        }
        store.spill(rows)?;
        self.spilled = true;
        for i in written {
            if self.entries[i as usize].value.is_none() {
                self.forget(i);
            }
        }
        Ok(())
    }

    pub(super) fn per_entry(&self) -> usize {
        // The entry, its index entry with the index's slack, and what it points to.
        size_of::<Entry<K, V>>() + 10 + self.heap_per_entry
    }

    pub(super) fn charge(&mut self, budget: &Budget) {
        // Free entries do not count: they are reused before the slab grows, so evicting an entry frees memory for the
        // budget at once.
        self.charge_as(budget, (self.in_memory() * self.per_entry(), self.changed.len() * self.per_entry()));
    }

    pub(super) fn charge_as(&mut self, budget: &Budget, now: (usize, usize)) {
        let before = std::mem::replace(&mut self.charged, now);
        budget.change(before.0, now.0);
        budget.change_changed(before.1, now.1);
    }

    /// Removes the charge of the table from the budget, because the table is about to be dropped or reused.
    pub(crate) fn discharge(&mut self, budget: &Budget) {
        self.charge_as(budget, (0, 0));
    }

    #[cold]
    pub(super) fn make_room(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        if store.written() + 1 >= self.epoch {
            // Removing tombstones that have been written is the cheapest way to free memory.
            self.purge_tombstones();
            self.charge(budget);
            if budget.excess() == 0 || self.in_memory() == 0 {
                return Ok(());
            }
        }
        // A little more than needed, so that this is not called again at once; not much, because records wait for it.
        let target = budget.excess() + budget.limit() / 64;
        let want = (target / self.per_entry()).clamp(1, self.in_memory());
        let written = store.written();
        let evicted = if self.in_vain == Some(written) { 0 } else { self.evict(want, written) };
        if evicted < want / 2 {
            // Too much has changed since the last barrier: once that is written, there are entries to evict.
            if store.may_spill(Patience::UntilWritten)? {
                let evicted = evicted + self.evict(want - evicted, store.written());
                if evicted < want / 2 {
                    self.write_early(store, want - evicted)?;
                    self.evict(want - evicted, store.written());
                }
            } else {
                self.in_vain = Some(written);
            }
        }
        self.shrink();
        self.charge(budget);
        Ok(())
    }

    /// Evicts up to `want` entries whose current values are in the store.
    pub(super) fn evict(&mut self, want: usize, written: u64) -> usize {
        let mut evicted = 0;
        for _ in 0..2 * self.entries.len() {
            if evicted >= want {
                break;
            }
            self.hand = (self.hand + 1) % self.entries.len();
            let i = self.hand as u32;
            let entry = &mut self.entries[self.hand];
            let clean = entry.value.is_some() && entry.stored && entry.changed_in <= written;
            if !clean {
                continue;
            }
            if std::mem::take(&mut entry.used) {
                continue;
            }
            entry.value = None;
            self.forget(i);
            evicted += 1;
        }
        self.cold |= evicted > 0;
        evicted
    }

    /// Compacts the slab if most of it is free.
    pub(super) fn shrink(&mut self) {
        if self.free.len() < self.entries.len() / 2 || self.entries.len() < 1024 {
            return;
        }
        let old = std::mem::take(&mut self.entries);
        let mut place: Vec<u32> = vec![u32::MAX; old.len()];
        let mut is_free = vec![false; old.len()];
        for i in self.free.drain(..) {
            is_free[i as usize] = true;
        }
        for (i, entry) in old.into_values().enumerate() {
            if !is_free[i] {
                place[i] = self.entries.push(entry) as u32;
            }
        }
        for list in [&mut self.changed, &mut self.pending, &mut self.tombstones] {
            list.iter_mut().for_each(|i| *i = place[*i as usize]);
            list.retain(|&i| i != u32::MAX);
        }
        if let Drained::Entries(_) = self.drained {
            // What has been taken out has no value any more.
            self.drained = Drained::Entries(0);
        }
        self.index = Index::default();
        let entries = &self.entries;
        for (i, entry) in entries.iter().enumerate() {
            self.index.insert(entry.hash, i as u32, |i| entries[i as usize].hash);
        }
        self.hand = 0;
    }
}
