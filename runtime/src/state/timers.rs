//! Timers, by time and key.
//!
//! A timer is a key and a time; setting it twice is the same as once. Timers are ordered by time, then by the key's hash,
//! then by the key's encoding ([`Due`]); a row of the store is `(time as the namespace, key) -> nothing`, so that the rows
//! of a key group lie in the same order.
//!
//! All timers that are due before the *horizon* are in memory; later ones may be in the store alone. When the worker's
//! memory is short, the latest of those in memory are left to the store and the horizon moves to an earlier time. When the
//! timers before the horizon have all fired, the next ones are read from the store. Changes since the last barrier, and
//! those of the last barrier until they are written, are kept separately, because the store does not have them yet.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::mem::size_of;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::store::{Patience, RowKey, Rows, Store, decode, encode};
use crate::key::Key;
use tidegate_protocol::Result;

/// The least number of timers that stay in memory, and that are read from the store at once.
const LEAST: usize = 1 << 10;
/// Bytes of timers that are read from the store at once, at most.
const READ_AHEAD: usize = 8 << 20;
/// What a timer takes in an ordered set besides its own bytes: room in the nodes, which are two thirds full, and what the
/// allocator adds to the key's bytes.
const OVERHEAD: usize = 48;

/// A timer of a key, in the order in which timers fire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Due {
    /// The time it is set for (ms).
    pub(crate) at: i64,
    /// The key's hash.
    pub(crate) hash: u64,
    /// The key, encoded.
    key: Box<[u8]>,
}

impl Due {
    /// The first of all.
    fn first() -> Self {
        Self { at: i64::MIN, hash: 0, key: Box::default() }
    }

    pub(crate) fn of<K: Key>(at: i64, hash: u64, key: &K) -> Result<Self> {
        let mut bytes = Vec::new();
        encode(key, &mut bytes)?;
        Ok(Self { at, hash, key: bytes.into() })
    }

    /// The key.
    pub(crate) fn key<K: Key>(&self) -> Result<K> {
        decode(&self.key)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + OVERHEAD
    }
}

/// A timer that a sweep has reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// It was removed and is to fire.
    Due(Due),
    /// It is still set.
    Waits(Due),
}

/// The timers of one operator on one worker.
pub(crate) struct Timers<K> {
    operator: u16,
    /// All timers before the horizon.
    near: BTreeSet<Due>,
    /// From here on timers may be in the store alone; None if all are in memory.
    horizon: Option<Due>,
    /// Whether a timer was set or removed, for those that have changed since the last barrier.
    changed: BTreeMap<Due, bool>,
    /// The same for the last barrier, with its epoch, until that is written.
    handed_over: (u64, BTreeMap<Due, bool>),
    /// Bytes of `near`, and of `changed` with `handed_over`.
    bytes: (usize, usize),
    /// Bytes that the budget knows of: of all, and of what has changed.
    charged: (usize, usize),
    keys: std::marker::PhantomData<fn() -> K>,
}

impl<K: Key> Timers<K> {
    /// The timers of an operator; `in_store` if the store holds some.
    pub(crate) fn new(operator: u16, in_store: bool) -> Self {
        Self {
            operator,
            near: BTreeSet::new(),
            horizon: in_store.then(Due::first),
            changed: BTreeMap::new(),
            handed_over: (0, BTreeMap::new()),
            bytes: (0, 0),
            charged: (0, 0),
            keys: std::marker::PhantomData,
        }
    }

    /// Sets a timer; a timer that is set already stays.
    pub(crate) fn set(&mut self, at: i64, hash: u64, key: &K) -> Result<()> {
        let due = Due::of(at, hash, key)?;
        if self.is_near(&due) && !self.insert(due.clone()) {
            return Ok(());
        }
        self.change(due, true);
        Ok(())
    }

    /// Removes a timer; nothing happens if it is not set.
    pub(crate) fn clear(&mut self, at: i64, hash: u64, key: &K) -> Result<()> {
        let due = Due::of(at, hash, key)?;
        if self.is_near(&due) && !self.remove(&due) {
            return Ok(());
        }
        self.change(due, false);
        Ok(())
    }

    fn is_near(&self, due: &Due) -> bool {
        self.horizon.as_ref().is_none_or(|horizon| due < horizon)
    }

    fn insert(&mut self, due: Due) -> bool {
        let bytes = due.bytes();
        let is_new = self.near.insert(due);
        self.bytes.0 += if is_new { bytes } else { 0 };
        is_new
    }

    fn remove(&mut self, due: &Due) -> bool {
        let was_there = self.near.remove(due);
        self.bytes.0 -= if was_there { due.bytes() } else { 0 };
        was_there
    }

    fn change(&mut self, due: Due, set: bool) {
        let bytes = due.bytes();
        if self.changed.insert(due, set).is_none() {
            self.bytes.1 += bytes;
        }
    }

    /// A time before which no timer is due: that of the first one, or of the horizon.
    pub(crate) fn next_at(&self) -> Option<i64> {
        let first = self.near.first().map(|due| due.at);
        first.or_else(|| self.horizon.as_ref().map(|horizon| horizon.at))
    }

    /// Returns the first timer after `after` that is due at or before `until`. It is removed, unless `waits` is true for it
    /// and its key group: then it stays set.
    pub(crate) fn pop(
        &mut self,
        store: &Store,
        budget: &Budget,
        after: Option<&Due>,
        until: i64,
        waits: impl Fn(u16, &Due) -> bool,
    ) -> Result<Option<Popped>> {
        loop {
            let first = match after {
                Some(after) => {
                    self.near.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)).next()
                }
                None => self.near.first(),
            };
            if let Some(due) = first {
                if due.at > until {
                    return Ok(None);
                }
                let due = due.clone();
                if waits(store.groups.of_hash(due.hash).0, &due) {
                    return Ok(Some(Popped::Waits(due)));
                }
                self.remove(&due);
                self.change(due.clone(), false);
                return Ok(Some(Popped::Due(due)));
            }
            if self.horizon.as_ref().is_none_or(|horizon| horizon.at > until) {
                return Ok(None);
            }
            self.read_ahead(store, budget)?;
        }
    }

    /// Reads the first timers from the horizon on into memory.
    fn read_ahead(&mut self, store: &Store, budget: &Budget) -> Result<()> {
        self.forget_written(store);
        let Some(horizon) = self.horizon.clone() else { return Ok(()) };
        let mut first = First::new(LEAST, READ_AHEAD.min(budget.limit() / 8));
        let handed_over = &self.handed_over.1;
        let unwritten = |due: &Due| self.changed.get(due).or_else(|| handed_over.get(due)).copied();
        let older = handed_over.range(horizon.clone()..).filter(|(due, _)| !self.changed.contains_key(due));
        for (due, &set) in self.changed.range(horizon.clone()..).chain(older) {
            if set && first.wants(due) {
                first.add(due.clone());
            }
        }
        store.scan_groups(self.operator, horizon.at, horizon.hash, &horizon.key, |at, hash, key| {
            let due = Due { at, hash, key: key.into() };
            let wanted = first.wants(&due);
            if wanted && unwritten(&due).is_none() {
                first.add(due);
            }
            wanted
        })?;
        let (dues, horizon) = first.finish();
        self.horizon = horizon;
        for due in dues {
            self.insert(due);
        }
        Ok(())
    }

    /// Adds the changes since the last barrier to `rows`, and begins the next epoch.
    pub(crate) fn barrier(&mut self, store: &Store, epoch: u64, rows: &mut Rows) -> Result<()> {
        self.forget_written(store);
        self.write(store, rows)?;
        // The changes of an epoch that was aborted while it was being written may still be there; they are the older ones.
        self.handed_over.0 = epoch;
        self.handed_over.1.append(&mut self.changed);
        self.bytes.1 = self.handed_over.1.keys().map(Due::bytes).sum();
        Ok(())
    }

    /// Adds what has changed to `rows`.
    fn write(&self, store: &Store, rows: &mut Rows) -> Result<()> {
        for (due, &set) in &self.changed {
            let key: K = due.key()?;
            let group = store.groups.of_hash(due.hash).0;
            let row = RowKey { operator: self.operator, group, namespace: due.at, hash: due.hash, key: &key };
            if set { rows.put(row, &())? } else { rows.delete(row)? }
        }
        Ok(())
    }

    /// Drops changes that are in the store.
    fn forget_written(&mut self, store: &Store) {
        if !self.handed_over.1.is_empty() && store.written() >= self.handed_over.0 {
            self.handed_over.1.clear();
            self.bytes.1 = self.changed.keys().map(Due::bytes).sum();
        }
    }

    /// Reports the memory of the timers to the budget, and leaves some of them to the store if there is too little memory.
    pub(crate) fn keep_to(&mut self, budget: &Budget, store: &Store) -> Result<()> {
        self.forget_written(store);
        self.charge(budget);
        if budget.is_much_changed() && !self.changed.is_empty() && store.may_spill(Patience::None)? {
            self.write_early(store)?;
            self.charge(budget);
        }
        // The excess beyond the size of the timers has to be freed by tables.
        let excess = budget.excess().min(self.bytes.0);
        if excess > 0 && self.near.len() > LEAST && store.may_spill(Patience::UntilWritten)? {
            self.write_early(store)?;
            self.leave_to_store(excess + budget.limit() / 16);
            self.charge(budget);
        }
        Ok(())
    }

    fn charge(&mut self, budget: &Budget) {
        let now = (self.bytes.0 + self.bytes.1, self.bytes.1);
        let before = std::mem::replace(&mut self.charged, now);
        budget.change(before.0, now.0);
        budget.change_changed(before.1, now.1);
    }

    #[cfg(test)]
    fn charge_nothing(&mut self, budget: &Budget) {
        budget.change(self.charged.0, 0);
        budget.change_changed(self.charged.1, 0);
    }

    /// Writes the changes since the last barrier to the store before the next barrier.
    fn write_early(&mut self, store: &Store) -> Result<()> {
        self.forget_written(store);
        let mut rows = Rows::default();
        self.write(store, &mut rows)?;
        store.spill(rows)?;
        self.changed.clear();
        self.bytes.1 = self.handed_over.1.keys().map(Due::bytes).sum();
        Ok(())
    }

    /// Removes the latest timers from memory; the store has all of them.
    fn leave_to_store(&mut self, bytes: usize) {
        let mut left = 0;
        while left < bytes
            && self.near.len() > LEAST
            && let Some(due) = self.near.pop_last()
        {
            left += due.bytes();
            self.horizon = Some(due);
        }
        self.bytes.0 -= left;
    }
}

/// Collects the earliest of a number of timers: as many as have about `most_bytes` bytes, and at least `least`.
struct First {
    least: usize,
    most_bytes: usize,
    /// The first ones, and once it is full one more: the horizon.
    dues: BinaryHeap<Due>,
    bytes: usize,
}

impl First {
    fn new(least: usize, most_bytes: usize) -> Self {
        Self { least, most_bytes, dues: BinaryHeap::new(), bytes: 0 }
    }

    /// True if so many timers with so many bytes are enough.
    fn is_full(&self, dues: usize, bytes: usize) -> bool {
        dues > self.least && bytes > self.most_bytes
    }

    /// True if a timer is among the first ones seen so far.
    fn wants(&self, due: &Due) -> bool {
        !self.is_full(self.dues.len(), self.bytes) || self.dues.peek().is_some_and(|last| due < last)
    }

    fn add(&mut self, due: Due) {
        self.bytes += due.bytes();
        self.dues.push(due);
        while let Some(last) = self.dues.peek()
            && self.is_full(self.dues.len() - 1, self.bytes - last.bytes())
        {
            self.bytes -= last.bytes();
            self.dues.pop();
        }
    }

    /// The first ones, and the one behind them if there may be more.
    fn finish(mut self) -> (impl Iterator<Item = Due>, Option<Due>) {
        let is_full = self.is_full(self.dues.len(), self.bytes);
        let behind = if is_full { self.dues.pop() } else { None };
        (self.dues.into_iter(), behind)
    }
}

#[cfg(test)]
mod tests;
