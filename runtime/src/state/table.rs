//! Keys and values in memory, over the rows of one namespace of an operator in the store.
//!
//! A hash index points into a slab of slots. A slot remembers the epoch in which it was last changed; the changed ones
//! are on a list, which the barrier writes. When the worker's budget is exceeded, slots that the store has as they are
//! make room (a clock hand gives those used since its last round a second chance); from then on the table is *cold*: a
//! key that it does not find may lie in the store. A removed key of which the store has a row stays as a tombstone until
//! the barrier that deletes the row has been written.

use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::budget::Budget;
use super::store::{RowKey, Rows, Store};
use crate::error::Result;
use crate::key::Key;

/// A value that a table can hold.
pub(crate) trait Value: Serialize + DeserializeOwned + 'static {}

impl<V: Serialize + DeserializeOwned + 'static> Value for V {}

/// Where a table's rows lie in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) operator: u16,
    pub(crate) namespace: i64,
}

struct Slot<K, V> {
    hash: u64,
    key: K,
    /// None: removed, and perhaps the store still has a row.
    value: Option<V>,
    /// The epoch in which the slot was last changed; 0 if it is as the store has it.
    changed_in: u64,
    /// True if the store has, or will have, a row of this key.
    stored: bool,
    /// True if used since the clock hand came by.
    used: bool,
}

/// One namespace of an operator's keyed state.
pub(crate) struct Table<K, V> {
    place: Place,
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    changed: Vec<u32>,
    /// Tombstones that an earlier barrier has handed out.
    graves: Vec<u32>,
    /// The running epoch.
    epoch: u64,
    /// True if the store may have keys that are not in memory.
    cold: bool,
    hand: usize,
    /// Bytes that an entry takes on the heap, estimated from its encoding.
    heap_per_entry: usize,
    charged: usize,
}

impl<K: Key, V: Value> Table<K, V> {
    /// An empty table; `cold` if the store holds rows of it already.
    pub(crate) fn new(place: Place, epoch: u64, cold: bool) -> Self {
        Self {
            place,
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            changed: Vec::new(),
            graves: Vec::new(),
            epoch,
            cold,
            hand: 0,
            heap_per_entry: 0,
            charged: 0,
        }
    }

    /// Empties the table for another namespace; what it has allocated stays.
    pub(crate) fn reuse(&mut self, place: Place, epoch: u64, cold: bool) {
        self.index.clear();
        for list in [&mut self.free, &mut self.changed, &mut self.graves] {
            list.clear();
        }
        self.slots.clear();
        (self.place, self.epoch, self.cold, self.hand) = (place, epoch, cold, 0);
    }

    pub(crate) fn is_cold(&self) -> bool {
        self.cold
    }

    /// Entries in memory, tombstones included.
    pub(crate) fn in_memory(&self) -> usize {
        self.index.len()
    }

    #[inline]
    fn find(&self, hash: u64, key: &K) -> Option<u32> {
        let slots = &self.slots;
        let same = |&i: &u32| slots[i as usize].hash == hash && slots[i as usize].key == *key;
        self.index.find(hash, same).copied()
    }

    fn row<'a>(&self, store: &Store, hash: u64, key: &'a K) -> RowKey<'a, K> {
        row(self.place, store, hash, key)
    }

    fn insert(&mut self, hash: u64, key: K, value: Option<V>, stored: bool) -> u32 {
        let slot = Slot { hash, key, value, changed_in: 0, stored, used: true };
        let i = match self.free.pop() {
            Some(i) => {
                self.slots[i as usize] = slot;
                i
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, i, |&i| slots[i as usize].hash);
        i
    }

    /// Brings a key that memory does not have in from the store, if it is there.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, store: &Store, hash: u64, key: &K) -> Result<Option<u32>> {
        if !self.cold {
            return Ok(None);
        }
        let found: Option<V> = store.get(self.row(store, hash, key))?;
        Ok(found.map(|value| self.insert(hash, key.clone(), Some(value), true)))
    }

    #[inline]
    fn touch(&mut self, i: u32) -> &mut Slot<K, V> {
        let slot = &mut self.slots[i as usize];
        slot.used = true;
        if slot.changed_in != self.epoch {
            slot.changed_in = self.epoch;
            self.changed.push(i);
        }
        slot
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
        Ok(self.touch(i).value.get_or_insert_with(make))
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
        let slot = &mut self.slots[i as usize];
        slot.used = true;
        Ok((i, slot.value.take()))
    }

    /// Puts the value of a taken slot back; `changed` if it is another than before.
    pub(crate) fn put_back(&mut self, i: u32, value: Option<V>, changed: bool) {
        let gone = value.is_none();
        let slot = &mut self.slots[i as usize];
        slot.value = value;
        if gone && !slot.stored && slot.changed_in != self.epoch {
            // Nobody but this table has ever heard of the key.
            self.forget(i);
        } else if changed {
            self.touch(i);
        }
    }

    fn forget(&mut self, i: u32) {
        let hash = self.slots[i as usize].hash;
        if let Ok(entry) = self.index.find_entry(hash, |&j| j == i) {
            entry.remove();
            self.free.push(i);
        }
    }

    /// Calls `each` with every entry in memory.
    pub(crate) fn for_each(&self, mut each: impl FnMut(u64, &K, &V)) {
        for slot in self.slots.iter() {
            if let Some(value) = &slot.value {
                each(slot.hash, &slot.key, value);
            }
        }
    }

    /// Calls `each` with every entry, in memory or only in the store.
    ///
    /// # Errors
    /// If the store cannot be read.
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

    /// Hands out what has changed in the epoch that ends, and begins the next.
    pub(crate) fn barrier(&mut self, store: &Store, rows: &mut Rows, next_epoch: u64) -> Result<()> {
        self.bury();
        self.write_changed(store, rows)?;
        self.epoch = next_epoch;
        Ok(())
    }

    /// Forgets tombstones of the barrier before, which has been written.
    fn bury(&mut self) {
        for i in std::mem::take(&mut self.graves) {
            if self.slots[i as usize].value.is_none() && self.slots[i as usize].changed_in != self.epoch {
                self.forget(i);
            }
        }
    }

    fn write_changed(&mut self, store: &Store, rows: &mut Rows) -> Result<()> {
        let mut order: Vec<(u16, u64, u32)> = Vec::with_capacity(self.changed.len());
        for i in self.changed.drain(..) {
            let hash = self.slots[i as usize].hash;
            order.push((store.groups.of_hash(hash).0, hash, i));
        }
        order.sort_unstable();
        let (mut bytes, mut puts) = (0, 0);
        for &(_, hash, i) in &order {
            let slot = &mut self.slots[i as usize];
            match &slot.value {
                Some(value) => {
                    bytes += rows.put(row(self.place, store, hash, &slot.key), value)?;
                    puts += 1;
                    slot.stored = true;
                }
                None => {
                    if slot.stored {
                        rows.delete(row(self.place, store, hash, &slot.key))?;
                    }
                    slot.stored = false;
                    self.graves.push(i);
                }
            }
        }
        if puts > 0 {
            self.heap_per_entry = bytes / puts;
        }
        Ok(())
    }

    /// Tells the budget how large the table is, and makes room if there is too little.
    pub(crate) fn keep_to(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        self.charge(budget);
        if budget.excess() > 0 && self.in_memory() > 0 {
            self.make_room(budget, store)?;
        }
        Ok(())
    }

    fn per_entry(&self) -> usize {
        // The slot, its index entry with the index's slack, and what it points to.
        size_of::<Slot<K, V>>() + 10 + self.heap_per_entry
    }

    fn charge(&mut self, budget: &Budget) {
        let now = self.slots.capacity() * size_of::<Slot<K, V>>()
            + self.index.capacity() * 5
            + self.index.len() * self.heap_per_entry;
        if now != self.charged {
            budget.change(self.charged, now);
            self.charged = now;
        }
    }

    /// Gives back what the table was charged; it is about to go.
    pub(crate) fn discharge(&mut self, budget: &Budget) {
        budget.change(self.charged, 0);
        self.charged = 0;
    }

    #[cold]
    fn make_room(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        // A quarter more than needed, so that this is not called again at once.
        let target = budget.excess() + budget.limit() / 16;
        let want = (target / self.per_entry()).clamp(1, self.in_memory());
        let evicted = self.evict(want, store.written());
        if evicted < want / 2 && store.may_spill()? {
            // Too much has changed since the last barrier: write it early, then there is something to evict.
            let mut rows = Rows::default();
            self.write_changed(store, &mut rows)?;
            store.spill(rows)?;
            for slot in &mut self.slots {
                slot.changed_in = 0;
            }
            self.bury_spilled();
            self.evict(want - evicted, store.written());
        }
        self.shrink();
        self.charge(budget);
        Ok(())
    }

    /// After a spill even the youngest tombstones have been written.
    fn bury_spilled(&mut self) {
        for i in std::mem::take(&mut self.graves) {
            if self.slots[i as usize].value.is_none() {
                self.forget(i);
            }
        }
    }

    /// Evicts up to `want` entries that the store has as they are.
    fn evict(&mut self, want: usize, written: u64) -> usize {
        let mut evicted = 0;
        for _ in 0..2 * self.slots.len() {
            if evicted >= want {
                break;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let i = self.hand as u32;
            let slot = &mut self.slots[self.hand];
            let clean = slot.value.is_some() && slot.stored && slot.changed_in <= written;
            if !clean {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            slot.value = None;
            self.forget(i);
            evicted += 1;
        }
        self.cold |= evicted > 0;
        evicted
    }

    /// Moves the entries together if most of the slab is free.
    fn shrink(&mut self) {
        if self.free.len() < self.slots.len() / 2 || self.slots.len() < 1024 {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        let mut place: Vec<u32> = vec![u32::MAX; old.len()];
        let mut is_free = vec![false; old.len()];
        for i in self.free.drain(..) {
            is_free[i as usize] = true;
        }
        for (i, slot) in old.into_iter().enumerate() {
            if !is_free[i] {
                place[i] = self.slots.len() as u32;
                self.slots.push(slot);
            }
        }
        for list in [&mut self.changed, &mut self.graves] {
            list.iter_mut().for_each(|i| *i = place[*i as usize]);
            list.retain(|&i| i != u32::MAX);
        }
        self.index = HashTable::with_capacity(self.slots.len());
        for (i, slot) in self.slots.iter().enumerate() {
            let slots = &self.slots;
            self.index.insert_unique(slot.hash, i as u32, |&i| slots[i as usize].hash);
        }
        self.hand = 0;
    }
}

fn row<'a, K>(place: Place, store: &Store, hash: u64, key: &'a K) -> RowKey<'a, K> {
    let group = store.groups.of_hash(hash).0;
    RowKey { operator: place.operator, group, namespace: place.namespace, hash, key }
}
