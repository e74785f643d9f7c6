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
use super::store::{RowKey, Rows, Store, encoded_len};
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
    /// The number of entries when that was last estimated.
    estimated_at: usize,
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
            estimated_at: 0,
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
                self.grow();
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, i, |&i| slots[i as usize].hash);
        i
    }

    /// Makes room for a slot; in a large slab not for as many as there are, which nobody may ever need.
    fn grow(&mut self) {
        const LARGE: usize = 1 << 16;
        if self.slots.len() == self.slots.capacity() && self.slots.len() >= LARGE {
            self.slots.reserve_exact(self.slots.len() / 4);
        }
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
        if gone && !slot.stored && slot.changed_in == 0 {
            // Nobody but this table has ever heard of the key. A tombstone has been changed: its row may still be there.
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
        if store.written() + 1 >= self.epoch {
            self.bury();
        }
        self.write_changed(store, rows)?;
        self.epoch = next_epoch;
        Ok(())
    }

    /// Forgets tombstones of the barriers before, which have been written.
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
        self.heap_per_entry = bytes.checked_div(puts).unwrap_or(self.heap_per_entry);
        Ok(())
    }

    /// Tells the budget how large the table is, and makes room if there is too little.
    pub(crate) fn keep_to(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        if self.in_memory() > 2 * self.estimated_at {
            self.estimate()?;
        }
        self.charge(budget);
        if self.changed.len() * self.per_entry() > budget.limit() / 2 {
            // A barrier copies what has changed: memory for that copy has its bounds too.
            self.write_early(store)?;
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
        let step = (self.slots.len() / SAMPLE).max(1);
        let (mut bytes, mut sampled) = (0, 0);
        for slot in self.slots.iter().step_by(step) {
            if let Some(value) = &slot.value {
                bytes += encoded_len(&slot.key)? + encoded_len(value)?;
                sampled += 1;
            }
        }
        self.heap_per_entry = bytes.checked_div(sampled).unwrap_or(self.heap_per_entry);
        self.estimated_at = self.in_memory();
        Ok(())
    }

    /// Writes what has changed since the last barrier before the next one, if that may be now.
    #[cold]
    fn write_early(&mut self, store: &Store) -> Result<bool> {
        if !store.may_spill()? {
            return Ok(false);
        }
        let mut rows = Rows::default();
        self.write_changed(store, &mut rows)?;
        store.spill(rows)?;
        for slot in &mut self.slots {
            slot.changed_in = 0;
        }
        self.bury_spilled();
        Ok(true)
    }

    fn per_entry(&self) -> usize {
        // The slot, its index entry with the index's slack, and what it points to.
        size_of::<Slot<K, V>>() + 10 + self.heap_per_entry
    }

    fn charge(&mut self, budget: &Budget) {
        // Free slots do not count: they are taken before the slab grows, so room that was made must be room at once.
        let now = self.in_memory() * self.per_entry();
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
        // Too much has changed since the last barrier: once it is written, there is something to evict.
        if evicted < want / 2 && self.write_early(store)? {
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::mpsc::Receiver;

    use proptest::prelude::*;
    use tidegate_protocol::{Epoch, Manifest, Slot as WorkerSlot};

    use super::*;
    use crate::process::{Event, Process};
    use crate::state::snapshotter::{Barrier, Snapshotter};
    use crate::testing::parts::{self, OPERATOR};

    const PLACE: Place = Place { operator: OPERATOR, namespace: 0 };

    /// A table over a real store; what its barriers hand out is written when the test says so.
    struct Bench {
        _directory: tempfile::TempDir,
        store: Rc<Store>,
        table: Table<u32, u64>,
        budget: Budget,
        epoch: u64,
        pending: Option<(u64, Rows)>,
    }

    impl Bench {
        fn new(budget: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (process, _) = parts::process(directory.path(), 1, None);
            let store = Rc::new(Store::open(WorkerSlot(0), &process).unwrap());
            let table = Table::new(PLACE, 1, false);
            let budget = Budget::new(budget);
            Self { _directory: directory, store, table, budget, epoch: 1, pending: None }
        }

        fn set(&mut self, key: u32, value: Option<u64>) {
            let hash = crate::key::hash(&key);
            let (i, old) = self.table.take(&self.store, hash, &key).unwrap();
            self.table.put_back(i, value, old.is_some() || value.is_some());
        }

        fn get(&mut self, key: u32) -> Option<u64> {
            let (i, value) = self.table.take(&self.store, crate::key::hash(&key), &key).unwrap();
            self.table.put_back(i, value, false);
            value
        }

        fn add(&mut self, key: u32, more: u64) {
            *self.table.entry(&self.store, crate::key::hash(&key), &key, || 0).unwrap() += more;
        }

        /// A barrier whose rows are not written yet. The one before has been: there is one checkpoint at a time.
        fn barrier(&mut self) {
            self.write();
            self.barrier_over_another();
        }

        /// A barrier while the rows of the one before may still wait.
        fn barrier_over_another(&mut self) {
            let mut rows = self.pending.take().map(|(_, rows)| rows).unwrap_or_default();
            self.store.share_with_snapshotter().unwrap().begin_alignment();
            self.table.barrier(&self.store, &mut rows, self.epoch + 1).unwrap();
            self.pending = Some((self.epoch, rows));
            self.epoch += 1;
        }

        /// What the snapshot thread does.
        fn write(&mut self) {
            if let Some((epoch, rows)) = self.pending.take() {
                let shared = self.store.share_with_snapshotter().unwrap();
                shared.begin_writing();
                shared.write(rows).unwrap();
                shared.set_written(Epoch(epoch));
                shared.end_snapshot();
            }
        }

        fn make_room(&mut self) {
            self.table.keep_to(&self.budget, &self.store).unwrap();
        }

        fn all(&self) -> BTreeMap<u32, u64> {
            let mut all = BTreeMap::new();
            let each = |_, key: &u32, value: &u64| assert_eq!(all.insert(*key, *value), None, "{key} twice");
            self.table.for_all(&self.store, each).unwrap();
            all
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Remove(u32),
        Add(u32, u64),
        Get(u32),
        Barrier,
        Write,
        MakeRoom,
        All,
    }

    fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
        let key = || 0u32..40;
        let step = prop_oneof![
            6 => (key(), 1u64..1_000).prop_map(|(k, v)| Step::Set(k, v)),
            4 => key().prop_map(Step::Remove),
            3 => (key(), 1u64..1_000).prop_map(|(k, v)| Step::Add(k, v)),
            8 => key().prop_map(Step::Get),
            2 => Just(Step::Barrier),
            2 => Just(Step::Write),
            3 => Just(Step::MakeRoom),
            1 => Just(Step::All),
        ];
        prop::collection::vec(step, 1..most)
    }

    fn run(bench: &mut Bench, model: &mut HashMap<u32, u64>, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Set(key, value) => {
                bench.set(key, Some(value));
                model.insert(key, value);
            }
            Step::Remove(key) => {
                bench.set(key, None);
                model.remove(&key);
            }
            Step::Add(key, more) => {
                bench.add(key, more);
                *model.entry(key).or_default() += more;
            }
            Step::Get(key) => prop_assert_eq!(bench.get(key), model.get(&key).copied()),
            Step::Barrier => bench.barrier(),
            Step::Write => bench.write(),
            Step::MakeRoom => bench.make_room(),
            Step::All => prop_assert_eq!(bench.all(), model.clone().into_iter().collect()),
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_table_is_a_map_whatever_memory_it_has(steps in steps(400), budget in prop_oneof![Just(0), Just(1_500)]) {
            let (mut bench, mut model) = (Bench::new(budget), HashMap::new());
            for step in steps {
                run(&mut bench, &mut model, step)?;
            }
            prop_assert_eq!(bench.all(), model.into_iter().collect());
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn a_table_is_a_map_after_restarts_with_any_parallelism(
            lives in prop::collection::vec((steps(60), 1usize..=3), 3), budget in prop_oneof![Just(0), Just(1_500)]
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (mut model, mut restored) = (HashMap::new(), None);
            for (steps, workers) in lives {
                let mut life = Life::new(directory.path(), workers, restored, budget);
                for step in steps {
                    life.run(&mut model, step)?;
                }
                restored = Some(life.snapshot());
                // Of the next epoch, and lost with the life.
                life.workers.iter_mut().for_each(|w| w.bench.set(1, Some(77)));
            }
        }
    }

    /// All workers of an attempt, with real snapshot threads.
    struct Life {
        process: Arc<Process>,
        events: Receiver<Event>,
        workers: Vec<Worker>,
    }

    struct Worker {
        snapshotter: Snapshotter,
        bench: Bench,
    }

    impl Life {
        fn new(root: &std::path::Path, workers: usize, restored: Option<Manifest>, budget: usize) -> Self {
            let cold = restored.is_some();
            let (process, events) = parts::process(root, workers, restored);
            let worker = |slot| {
                let slot = WorkerSlot(slot as u32);
                let store = Rc::new(Store::open(slot, &process).unwrap());
                let shared = store.share_with_snapshotter();
                let epoch = process.first_epoch.0;
                let bench = Bench {
                    _directory: tempfile::tempdir().unwrap(),
                    store,
                    table: Table::new(PLACE, epoch, cold),
                    budget: Budget::new(budget),
                    epoch,
                    pending: None,
                };
                Worker { snapshotter: Snapshotter::start(slot, shared, process.clone()).unwrap(), bench }
            };
            let workers = (0..workers).map(worker).collect();
            Self { process, events, workers }
        }

        fn owner(&mut self, key: u32) -> &mut Bench {
            let groups = self.process.settings.key_groups;
            let owner = groups.owner(groups.of_hash(crate::key::hash(&key)), self.workers.len());
            &mut self.workers[owner].bench
        }

        fn run(&mut self, model: &mut HashMap<u32, u64>, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Set(key, _) | Step::Remove(key) | Step::Add(key, _) | Step::Get(key) => {
                    run(self.owner(key), model, step)?;
                }
                Step::Barrier => drop(self.snapshot()),
                Step::Write => {}
                Step::MakeRoom => self.workers.iter_mut().for_each(|w| w.bench.make_room()),
                Step::All => {
                    let all: BTreeMap<u32, u64> = self.workers.iter().flat_map(|w| w.bench.all()).collect();
                    prop_assert_eq!(all, model.clone().into_iter().collect());
                }
            }
            Ok(())
        }

        /// A checkpoint of all workers, and its manifest.
        fn snapshot(&mut self) -> Manifest {
            let mut epoch = Epoch(0);
            for Worker { snapshotter, bench } in &mut self.workers {
                snapshotter.begin_alignment();
                let mut rows = Rows::default();
                bench.table.barrier(&bench.store, &mut rows, bench.epoch + 1).unwrap();
                epoch = Epoch(bench.epoch);
                bench.epoch += 1;
                let (operators, stagings) = (BTreeMap::new(), Vec::new());
                snapshotter.write(Barrier { epoch, rows, operators, stagings });
            }
            let mut slots = BTreeMap::new();
            while slots.len() < self.workers.len() {
                match self.events.recv().unwrap() {
                    Event::Acked { slot, part, .. } => drop(slots.insert(slot, *part)),
                    Event::Declined { reason, .. } => panic!("{reason}"),
                    Event::Failed(error) => panic!("{error}"),
                    _ => {}
                }
            }
            self.process.set_completed(epoch);
            let manifest = parts::manifest(&self.process, epoch, slots);
            self.process.state.check_files(&manifest).unwrap();
            manifest
        }
    }

    /// A table of which the store has one row, as after a restart.
    fn with_a_stored_row() -> Bench {
        let mut bench = Bench::new(0);
        bench.set(1, Some(10));
        bench.barrier();
        bench.write();
        bench.make_room();
        assert_eq!(bench.table.in_memory(), 0, "it was evicted");
        bench
    }

    #[test]
    fn a_look_at_a_removed_key_does_not_bring_it_back_before_its_row_is_deleted() {
        let mut bench = with_a_stored_row();
        bench.set(1, None);
        bench.barrier();
        assert_eq!(bench.get(1), None);
        assert_eq!(bench.get(1), None);
        bench.write();
        assert_eq!(bench.get(1), None);
    }

    #[test]
    fn a_removed_key_stays_removed_when_a_second_barrier_overtakes_the_writing_of_the_first() {
        let mut bench = with_a_stored_row();
        bench.set(1, None);
        bench.barrier_over_another();
        bench.barrier_over_another();
        assert_eq!(bench.get(1), None);
    }

    #[test]
    fn nothing_is_spilled_while_a_barrier_is_under_way() {
        let mut bench = Bench::new(0);
        (0..10).for_each(|key| bench.set(key, Some(1)));
        bench.barrier();
        let shared = bench.store.share_with_snapshotter().unwrap();
        assert!(!bench.store.may_spill().unwrap());
        // The barrier before, given up but still being written, is done meanwhile.
        shared.end_snapshot();
        assert!(!bench.store.may_spill().unwrap(), "another barrier is aligning");
        bench.write();
        assert!(bench.store.may_spill().unwrap());
    }
}
