//! What is due when: timers by time and key, in memory, with the changes that the next barrier writes.
//!
//! A timer is a key and a time; setting it twice is the same as once. All timers of a worker are in memory, in the order
//! of their times; a row of the store is `(time as the namespace, key) -> nothing`.

use std::collections::{BTreeMap, BTreeSet};

use super::store::{Row, RowKey, Rows, Store};
use crate::error::Result;
use crate::key::Key;

/// A key with its hash, ordered by hash and then by the key's encoding.
type TimerKey = (u64, Vec<u8>);

/// The timers of one operator on one worker.
pub(crate) struct Timers<K> {
    operator: u16,
    due: BTreeMap<i64, BTreeSet<TimerKey>>,
    /// Whether a timer is set or gone, for those that have changed since the last barrier.
    changed: BTreeMap<(i64, TimerKey), bool>,
    keys: std::marker::PhantomData<fn() -> K>,
}

impl<K: Key> Timers<K> {
    pub(crate) fn new(operator: u16) -> Self {
        Self { operator, due: BTreeMap::new(), changed: BTreeMap::new(), keys: std::marker::PhantomData }
    }

    /// Takes up what the store holds for the owned key groups.
    pub(crate) fn restore(&mut self, store: &Store) -> Result<()> {
        let due = &mut self.due;
        store.scan(self.operator, None, |row: Row<K, ()>| {
            due.entry(row.namespace).or_default().insert((row.hash, encode(&row.key)?));
            Ok(())
        })
    }

    /// Sets a timer; a timer that is set already stays.
    pub(crate) fn set(&mut self, at: i64, hash: u64, key: &K) -> Result<()> {
        let key = (hash, encode(key)?);
        if self.due.entry(at).or_default().insert(key.clone()) {
            self.changed.insert((at, key), true);
        }
        Ok(())
    }

    /// Takes a timer back; one that is not set is none.
    pub(crate) fn clear(&mut self, at: i64, hash: u64, key: &K) -> Result<()> {
        let key = (hash, encode(key)?);
        let Some(keys) = self.due.get_mut(&at) else { return Ok(()) };
        if keys.remove(&key) {
            if keys.is_empty() {
                self.due.remove(&at);
            }
            self.changed.insert((at, key), false);
        }
        Ok(())
    }

    /// The first time at which a timer is due.
    pub(crate) fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|(&at, _)| at)
    }

    /// The last time at which a timer is due.
    pub(crate) fn last(&self) -> Option<i64> {
        self.due.last_key_value().map(|(&at, _)| at)
    }

    /// Takes the timers of the first due time at or before `now`, in the order of their keys' hashes.
    pub(crate) fn pop(&mut self, now: i64) -> Result<Option<(i64, Vec<(u64, K)>)>> {
        if self.next().is_none_or(|at| at > now) {
            return Ok(None);
        }
        let Some((at, keys)) = self.due.pop_first() else { return Ok(None) };
        let mut fired = Vec::with_capacity(keys.len());
        for (hash, bytes) in keys {
            fired.push((hash, decode(&bytes)?));
            self.changed.insert((at, (hash, bytes)), false);
        }
        Ok(Some((at, fired)))
    }

    /// Hands out what has changed since the last barrier.
    pub(crate) fn barrier(&mut self, store: &Store, rows: &mut Rows) -> Result<()> {
        for ((at, (hash, bytes)), set) in std::mem::take(&mut self.changed) {
            let key: K = decode(&bytes)?;
            let group = store.groups.of_hash(hash).0;
            let row = RowKey { operator: self.operator, group, namespace: at, hash, key: &key };
            if set { rows.put(row, &())? } else { rows.delete(row)? }
        }
        Ok(())
    }
}

fn encode<K: Key>(key: &K) -> Result<Vec<u8>> {
    Ok(postcard::to_stdvec(key)?)
}

fn decode<K: Key>(bytes: &[u8]) -> Result<K> {
    Ok(postcard::from_bytes(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_once() {
        let mut timers = Timers::<String>::new(0);
        for (at, key) in [(20, "b"), (10, "a"), (10, "a"), (30, "c")] {
            timers.set(at, 1, &key.to_owned()).unwrap();
        }
        timers.clear(30, 1, &"c".to_owned()).unwrap();
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.pop(9).unwrap(), None);
        assert_eq!(timers.pop(25).unwrap(), Some((10, vec![(1, "a".to_owned())])));
        assert_eq!(timers.pop(25).unwrap(), Some((20, vec![(1, "b".to_owned())])));
        assert_eq!(timers.pop(i64::MAX).unwrap(), None);
    }
}
