//! Keys and values in memory, over the rows of one namespace of an operator in the store.
//!
//! A hash index points into a slab of entries. A entry remembers the epoch in which it was last changed; the changed ones
//! are on a list. A barrier only puts that list aside: the rows are copied out bit by bit between batches of records, and
//! that of a key that is about to change first, so that the dataflow need not stand still for them (the idea is
//! copy-on-write, as in Flink's heap snapshots and Redis' fork). When the worker's budget is exceeded, entries that the store has as they are
//! make room (a clock hand gives those used since its last round a second chance); from then on the table is *cold*: a
//! key that it does not find may lie in the store, and while memory is half free its neighbours come along. A removed key of which the store has a row stays as a tombstone until
//! the barrier that deletes the row has been written.

use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::budget::Budget;
use super::index::Index;
use super::slab::Slab;
use super::store::{Patience, RowKey, Rows, Store};
use super::weight::heap_size;
use crate::key::Key;
use tidegate_protocol::{Error, Result};

/// Rows that come along with one that is read from the store, if there is room, at most: after a restart all are there, and
/// one by one they take twenty times as long.
const ROWS_AHEAD: usize = 64;
/// Reads after which one more row comes along: the first ones should not wait for rows that nobody asks for yet.
const READS_A_ROW: usize = 128;
/// Changed entries that are written early in one go: records wait for them.
const ENTRIES_A_ROUND: usize = 8192;

/// Changes after which entries of a small table are weighed again: they may have grown.
const CHANGES: usize = 1024;
/// Bytes that may be weighed for every change.
const BYTES_A_CHANGE: usize = 64;

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
    /// None: removed, and perhaps the store still has a row.
    value: Option<V>,
    /// The epoch in which the entry was last changed; 0 if it is as the store has it.
    changed_in: u64,
    /// True if the store has a row of this key, or will have once what was copied out is written.
    stored: bool,
    /// True if the row of `changed_in` has been copied out; it counts only in the epoch of a barrier under way.
    copied: bool,
    /// True if used since the clock hand came by.
    used: bool,
}

/// One namespace of an operator's keyed state.
pub(crate) struct Table<K, V> {
    place: Namespace,
    index: Index,
    entries: Slab<Entry<K, V>>,
    free: Vec<u32>,
    changed: Vec<u32>,
    /// Slots that were changed in the epoch that has ended, and may still have to be copied out.
    pending: Vec<u32>,
    /// Rows of `pending` that have been copied out.
    copied: Rows,
    /// The epoch that `pending` is of.
    ended: u64,
    /// Tombstones that an earlier barrier has handed out.
    tombstones: Vec<u32>,
    /// The running epoch.
    epoch: u64,
    /// True if the store may have keys that are not in memory.
    cold: bool,
    /// True if there is room for rows that nobody has asked for yet.
    roomy: bool,
    /// Rows that were read because somebody asked for them.
    reads: usize,
    hand: usize,
    /// What the store had written when a search for something to evict was in vain: until it has written more, so is another.
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

/// How far a table is emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Drained {
    /// It is not being emptied.
    #[default]
    Nothing,
    /// Slots before this one.
    Entries(usize),
    /// All entries, and rows of the store up to this one: its key group, and its whole key.
    Rows(u16, Vec<u8>),
    /// Everything.
    All,
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

    /// Forgets all entries; what it has allocated for its own stays.
    pub(crate) fn clear(&mut self) {
        self.index.clear();
        for list in [&mut self.free, &mut self.changed, &mut self.pending, &mut self.tombstones] {
            list.clear();
        }
        self.entries.clear();
        self.copied = Rows::default();
    }

    /// Takes an emptied table for another namespace.
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

    /// Brings a key that memory does not have in from the store, if it is there.
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
        // While the table is emptied nothing may come in that is not asked for.
        if self.roomy && ahead > 0 && self.drained == Drained::Nothing {
            self.fetch_ahead(store, hash, key, ahead)?;
        }
        Ok(Some(i))
    }

    /// Brings in the rows behind that of a key, up to the first that memory has.
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
            // Nobody but this table has ever heard of the key. A tombstone has been changed: its row may still be there.
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

    /// Takes out up to `most` entries, those in memory first, then those that only the store has; true if nothing is left.
    /// An entry that is taken out is gone, also in the next snapshot. Nothing may be added while the table is emptied.
    ///
    /// # Errors
    /// If the store cannot be read, or an error of `each`.
    pub(crate) fn drain(
        &mut self,
        store: &Store,
        most: usize,
        mut each: impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<bool> {
        let mut left = most;
        if let Drained::Nothing = self.drained {
            self.drained = Drained::Entries(0);
        }
        if let Drained::Entries(first) = self.drained {
            let mut i = first;
            while i < self.entries.len() && left > 0 {
                left -= usize::from(self.drain_entry(store, i as u32, &mut each)?);
                i += 1;
            }
            self.drained = if i < self.entries.len() {
                Drained::Entries(i)
            } else if self.is_in_store() {
                Drained::Rows(store.owned.start, Vec::new())
            } else {
                Drained::All
            };
        }
        if let Drained::Rows(..) = self.drained
            && left > 0
        {
            self.drain_rows(store, left, &mut each)?;
        }
        Ok(self.drained == Drained::All)
    }

    /// Takes the entry of a entry out; true if there was one.
    fn drain_entry(
        &mut self,
        store: &Store,
        i: u32,
        each: &mut impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<bool> {
        if self.entries[i as usize].value.is_none() {
            return Ok(false);
        }
        let value = self.touch(store, i)?.value.take();
        let entry = &self.entries[i as usize];
        if let Some(value) = value {
            each(entry.hash, &entry.key, value)?;
        }
        Ok(true)
    }

    /// Takes out rows that only the store has.
    fn drain_rows(
        &mut self,
        store: &Store,
        most: usize,
        each: &mut impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<()> {
        let Drained::Rows(group, after) = std::mem::take(&mut self.drained) else { return Ok(()) };
        let (place, mut rows) = (self.place, Vec::with_capacity(most));
        let behind =
            store.scan_place(place.operator, place.namespace, group, &after, most, |row| rows.push(row))?;
        for row in rows {
            let row: super::store::Row<K, V> = row;
            if self.find(row.hash, &row.key).is_none() {
                each(row.hash, &row.key, row.value)?;
            }
        }
        self.drained = behind.map_or(Drained::All, |(group, key)| Drained::Rows(group, key));
        Ok(())
    }

    /// True if the row of a key has been taken out of the store by [`Table::drain`].
    fn has_drained(&self, store: &Store, hash: u64, key: &K) -> Result<bool> {
        Ok(match &self.drained {
            Drained::Nothing | Drained::Entries(_) => false,
            Drained::Rows(_, last) => self.row(store, hash, key).encoded()? <= *last,
            Drained::All => true,
        })
    }

    /// Adds to `rows` the deletion of what [`Table::drain`] has taken out of the store.
    pub(crate) fn delete_drained(&self, store: &Store, rows: &mut Rows) {
        let Namespace { operator, namespace } = self.place;
        if let Drained::Rows(group, last) = &self.drained {
            rows.delete_namespace(operator, store.owned.start..*group, namespace);
            rows.delete_up_to(operator, *group, namespace, last);
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

    /// Ends an epoch and begins the next: what has changed is to be copied out by [`Table::copy`].
    ///
    /// # Errors
    /// If that of the epoch before has not been yet.
    pub(crate) fn barrier(&mut self, store: &Store, next_epoch: u64) -> Result<()> {
        if !self.pending.is_empty() {
            return Err(Error::internal("a barrier has overtaken the copying of the one before"));
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

    /// Copies out rows of the last barrier as they were then, until it is time to stop; true if that was all.
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

    /// Copies out the row of a entry of the last barrier while it still is what it was.
    #[inline]
    fn copy_before_change(&mut self, store: &Store, i: u32) -> Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.copy_entry(store, i) }
    }

    /// Copies out the row of a entry of the last barrier, if that was not done yet.
    fn copy_entry(&mut self, store: &Store, i: u32) -> Result<()> {
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
    fn purge_tombstones(&mut self) {
        for i in std::mem::take(&mut self.tombstones) {
            if self.entries[i as usize].value.is_none() && self.entries[i as usize].changed_in != self.epoch {
                self.forget(i);
            }
        }
    }

    /// Tells the budget how large the table is, and makes room if there is too little.
    pub(crate) fn keep_to(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        if self.in_memory() > 2 * self.estimated_at || self.changes > self.changes_most {
            self.estimate()?;
        }
        self.charge(budget);
        self.roomy = budget.is_half_free();
        // A barrier copies what has changed: memory for that copy has its bounds too.
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
    fn estimate(&mut self) -> Result<()> {
        const SAMPLE: usize = 32;
        let step = (self.entries.len() / SAMPLE).max(1);
        let (mut bytes, mut sampled) = (0, 0);
        // Not always the same ones.
        for i in (self.changes % step..self.entries.len()).step_by(step) {
            let entry = &self.entries[i];
            if let Some(value) = &entry.value {
                bytes += heap_size(&entry.key)? + heap_size(value)?;
                sampled += 1;
            }
        }
        self.heap_per_entry = bytes.checked_div(sampled).unwrap_or(self.heap_per_entry);
        (self.estimated_at, self.changes) = (self.in_memory(), 0);
        // Weighing takes as long as what is weighed is large: a long list not again with every few elements.
        self.changes_most = CHANGES.max(self.estimated_at).max(bytes / BYTES_A_CHANGE);
        Ok(())
    }

    /// Writes some of what has changed since the last barrier before the next one.
    #[cold]
    fn write_early(&mut self, store: &Store, most: usize) -> Result<()> {
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

    fn per_entry(&self) -> usize {
        // The entry, its index entry with the index's slack, and what it points to.
        size_of::<Entry<K, V>>() + 10 + self.heap_per_entry
    }

    fn charge(&mut self, budget: &Budget) {
        // Free entries do not count: they are taken before the slab grows, so room that was made must be room at once.
        self.charge_as(budget, (self.in_memory() * self.per_entry(), self.changed.len() * self.per_entry()));
    }

    fn charge_as(&mut self, budget: &Budget, now: (usize, usize)) {
        let before = std::mem::replace(&mut self.charged, now);
        budget.change(before.0, now.0);
        budget.change_changed(before.1, now.1);
    }

    /// Gives back what the table was charged; it is about to go.
    pub(crate) fn discharge(&mut self, budget: &Budget) {
        self.charge_as(budget, (0, 0));
    }

    #[cold]
    fn make_room(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        if store.written() + 1 >= self.epoch {
            // Written tombstones are the cheapest room.
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
            // Too much has changed since the last barrier: once it is written, there is something to evict.
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

    /// Evicts up to `want` entries that the store has as they are.
    fn evict(&mut self, want: usize, written: u64) -> usize {
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

    /// Moves the entries together if most of the slab is free.
    fn shrink(&mut self) {
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

/// Adds the row of a entry, or its deletion, to `rows`.
fn copy_out<K: Key, V: Value>(
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

fn row<'a, K>(place: Namespace, store: &Store, hash: u64, key: &'a K) -> RowKey<'a, K> {
    let group = store.groups.of_hash(hash).0;
    RowKey { operator: place.operator, group, namespace: place.namespace, hash, key }
}

#[cfg(test)]
mod tests;
