//! Keys and values in memory, over the rows of one namespace of an operator in the store.
//!
//! - [`drain`]: how it is emptied.
//! - [`snapshot`]: what it does at a barrier.
//! - [`eviction`]: how it keeps to the memory of its worker.
//!
//! A hash index points into a slab of entries. An entry holds the epoch in which it was last changed; the changed entries
//! are on a list. A barrier only sets that list aside: the rows are copied step by step between batches of records, and the
//! row of a key that is about to change is copied first, so that the dataflow does not stop (the idea is copy-on-write, as
//! in Flink's heap snapshots and Redis' fork). When the worker's budget is exceeded, entries whose current values are in
//! the store are evicted (by the clock algorithm, which gives entries that were used since the last round a second chance).
//! From then on the table is *cold*: a key that it does not find may be in the store, and while half of the memory is free
//! the rows after it are read with it. A removed key of which the store has a row stays as a tombstone until the barrier
//! that deletes the row has been written.

mod drain;
mod eviction;
mod snapshot;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::drain::Drained;
use self::eviction::CHANGES;
use super::index::Index;
use super::slab::Slab;
use super::store::{RowKey, Rows, Store};
use crate::key::Key;
use tidegate_protocol::Result;

/// The largest number of rows that are read ahead with one that is read from the store, if there is room. After a restart
/// all rows are in the store, and reading them one by one takes twenty times as long.
const ROWS_AHEAD: usize = 64;
/// The number of reads after which one more row is read ahead: the first reads should not wait for rows that are not needed
/// yet.
const READS_A_ROW: usize = 128;

/// A value that a table can hold.
pub(crate) trait Value: Serialize + DeserializeOwned + 'static {}

impl<V: Serialize + DeserializeOwned + 'static> Value for V {}

/// Where a table's rows lie in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    pub(crate) operator: u16,
    pub(crate) namespace: i64,
}

struct Entry<K, V> {
    hash: u64,
    key: K,
    /// None if the key was removed; the store may still have a row.
    value: Option<V>,
    /// The epoch in which the entry was last changed; 0 if it is as the store has it.
    changed_in: u64,
    /// True if the store has a row of this key, or will have one once the copied rows are written.
    stored: bool,
    /// True if the row of `changed_in` has been copied out; it counts only in the epoch of a barrier under way.
    copied: bool,
    /// True if the entry was used since the clock hand passed it last.
    used: bool,
}

/// One namespace of an operator's keyed state.
pub(crate) struct Table<K, V> {
    place: Namespace,
    index: Index,
    entries: Slab<Entry<K, V>>,
    free: Vec<u32>,
    changed: Vec<u32>,
    /// Entries that were changed in the epoch that has ended, and may still have to be copied out.
    pending: Vec<u32>,
    /// Rows of `pending` that have been copied out.
    copied: Rows,
    /// The epoch that `pending` is of.
    ended: u64,
    /// Tombstones whose deletions were copied out for an earlier barrier.
    tombstones: Vec<u32>,
    /// The running epoch.
    epoch: u64,
    /// True if the store may have keys that are not in memory.
    cold: bool,
    /// True if there is room for rows that are read ahead.
    roomy: bool,
    /// The number of rows that were requested and read from the store.
    reads: usize,
    hand: usize,
    /// The last epoch that the store had written when a search found nothing to evict: another search is in vain until the
    /// store has written more.
    in_vain: Option<u64>,
    /// Bytes that an entry takes on the heap, estimated from some of them.
    heap_per_entry: usize,
    /// The number of entries when that was last estimated.
    estimated_at: usize,
    /// Changes since then, and after how many to estimate again.
    changes: usize,
    changes_most: usize,
    /// Bytes that the budget knows of: of all entries, and of those on `changed`.
    charged: (usize, usize),
    /// True if rows were written before a barrier.
    spilled: bool,
    /// How far [`Table::drain`] has come.
    drained: Drained,
}

impl<K: Key, V: Value> Table<K, V> {
    /// An empty table; `cold` if the store holds rows of it already.
    pub(crate) fn new(place: Namespace, epoch: u64, cold: bool) -> Self {
        Self {
            place,
            index: Index::default(),
            entries: Slab::default(),
            free: Vec::new(),
            changed: Vec::new(),
            pending: Vec::new(),
            copied: Rows::default(),
            ended: 0,
            tombstones: Vec::new(),
            epoch,
            cold,
            roomy: true,
            reads: 0,
            hand: 0,
            in_vain: None,
            heap_per_entry: 0,
            estimated_at: 0,
            changes: 0,
            changes_most: CHANGES,
            charged: (0, 0),
            spilled: false,
            drained: Drained::Nothing,
        }
    }

    /// Removes all entries; the memory of the table stays allocated.
    pub(crate) fn clear(&mut self) {
        self.index.clear();
        for list in [&mut self.free, &mut self.changed, &mut self.pending, &mut self.tombstones] {
            list.clear();
        }
        self.entries.clear();
        self.copied = Rows::default();
    }

    /// Reuses an emptied table for another namespace.
    pub(crate) fn reuse(&mut self, place: Namespace, epoch: u64, cold: bool) {
        self.clear();
        (self.place, self.epoch, self.cold, self.hand) = (place, epoch, cold, 0);
        (self.spilled, self.in_vain, self.reads) = (false, None, 0);
        self.estimated_at = 0;
        self.drained = Drained::Nothing;
    }

    /// Bytes that it has allocated for entries.
    pub(crate) fn slab_bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// True if the store may have rows of it.
    pub(crate) fn is_in_store(&self) -> bool {
        self.cold || self.spilled
    }

    /// Entries in memory, tombstones included.
    pub(crate) fn in_memory(&self) -> usize {
        self.index.len()
    }

    #[inline]
    fn find(&self, hash: u64, key: &K) -> Option<u32> {
        let entries = &self.entries;
        self.index.find(hash, |i| {
            let entry = &entries[i as usize];
            entry.hash == hash && entry.key == *key
        })
    }

    fn row<'a>(&self, store: &Store, hash: u64, key: &'a K) -> RowKey<'a, K> {
        row(self.place, store, hash, key)
    }

    fn insert(&mut self, hash: u64, key: K, value: Option<V>, stored: bool) -> u32 {
        let entry = Entry { hash, key, value, changed_in: 0, stored, copied: false, used: true };
        let i = match self.free.pop() {
            Some(i) => {
                self.entries[i as usize] = entry;
                i
            }
            None => self.entries.push(entry) as u32,
        };
        let entries = &self.entries;
        self.index.insert(hash, i, |i| entries[i as usize].hash);
        i
    }

    /// Reads a key that is not in memory from the store, if it is there.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, store: &Store, hash: u64, key: &K) -> Result<Option<u32>> {
        if !self.cold || self.has_drained(store, hash, key)? {
            return Ok(None);
        }
        let Some(value) = store.get(self.row(store, hash, key))? else { return Ok(None) };
        let i = self.insert(hash, key.clone(), Some(value), true);
        self.reads += 1;
        let ahead = ROWS_AHEAD.min(self.reads / READS_A_ROW);
        // While the table is being emptied no rows may be read ahead.
        if self.roomy && ahead > 0 && self.drained == Drained::Nothing {
            self.fetch_ahead(store, hash, key, ahead)?;
        }
        Ok(Some(i))
    }

    /// Reads ahead the rows after that of a key, up to the first that is in memory.
    fn fetch_ahead(&mut self, store: &Store, hash: u64, key: &K, most: usize) -> Result<()> {
        store.scan_behind(self.row(store, hash, key), most, |row| {
            let is_new = self.find(row.hash, &row.key).is_none();
            if is_new {
                let i = self.insert(row.hash, row.key, Some(row.value), true);
                self.entries[i as usize].used = false;
            }
            is_new
        })
    }

    #[inline]
    fn touch(&mut self, store: &Store, i: u32) -> Result<&mut Entry<K, V>> {
        if self.entries[i as usize].changed_in != self.epoch {
            self.copy_before_change(store, i)?;
            let entry = &mut self.entries[i as usize];
            (entry.changed_in, entry.copied) = (self.epoch, false);
            self.changed.push(i);
        }
        self.changes += 1;
        let entry = &mut self.entries[i as usize];
        entry.used = true;
        Ok(entry)
    }

    /// The value of a key, to be changed; made by `make` if there is none.
    ///
    /// # Errors
    /// If the store cannot be read.
    #[inline]
    pub(crate) fn entry(
        &mut self,
        store: &Store,
        hash: u64,
        key: &K,
        make: impl FnOnce() -> V,
    ) -> Result<&mut V> {
        let i = match self.find(hash, key) {
            Some(i) => i,
            None => match self.fetch(store, hash, key)? {
                Some(i) => i,
                None => self.insert(hash, key.clone(), None, false),
            },
        };
        Ok(self.touch(store, i)?.value.get_or_insert_with(make))
    }

    /// Takes the value of a key out, to be put back by [`Table::put_back`] or not.
    pub(crate) fn take(&mut self, store: &Store, hash: u64, key: &K) -> Result<(u32, Option<V>)> {
        let i = match self.find(hash, key) {
            Some(i) => i,
            None => match self.fetch(store, hash, key)? {
                Some(i) => i,
                None => self.insert(hash, key.clone(), None, false),
            },
        };
        self.copy_before_change(store, i)?;
        let entry = &mut self.entries[i as usize];
        entry.used = true;
        Ok((i, entry.value.take()))
    }

    /// Puts the value of a taken entry back; `changed` if it is another than before.
    pub(crate) fn put_back(&mut self, store: &Store, i: u32, value: Option<V>, changed: bool) -> Result<()> {
        let gone = value.is_none();
        let entry = &mut self.entries[i as usize];
        entry.value = value;
        if gone && !entry.stored && entry.changed_in == 0 {
            // Only this table has the key. A tombstone has `changed_in` set: the store may still have its row.
            self.forget(i);
        } else if changed {
            self.touch(store, i)?;
        }
        Ok(())
    }

    fn forget(&mut self, i: u32) {
        let hash = self.entries[i as usize].hash;
        if self.index.remove(hash, i) {
            self.free.push(i);
        }
    }

    /// Calls `each` with every entry in memory.
    #[cfg(test)]
    pub(crate) fn for_each(&self, mut each: impl FnMut(u64, &K, &V)) {
        for entry in self.entries.iter() {
            if let Some(value) = &entry.value {
                each(entry.hash, &entry.key, value);
            }
        }
    }

    /// Calls `each` with every entry, in memory or only in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    #[cfg(test)]
    pub(crate) fn for_all(&self, store: &Store, mut each: impl FnMut(u64, &K, &V)) -> Result<()> {
        self.for_each(&mut each);
        if !self.cold {
            return Ok(());
        }
        store.scan(self.place.operator, Some(self.place.namespace), |row: super::store::Row<K, V>| {
            if self.find(row.hash, &row.key).is_none() {
                each(row.hash, &row.key, &row.value);
            }
            Ok(())
        })
    }
}

fn row<'a, K>(place: Namespace, store: &Store, hash: u64, key: &'a K) -> RowKey<'a, K> {
    let group = store.groups.of_hash(hash).0;
    RowKey { operator: place.operator, group, namespace: place.namespace, hash, key }
}

#[cfg(test)]
mod tests;
