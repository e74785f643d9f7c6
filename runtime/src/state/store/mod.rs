//! One RocksDB a worker: what earlier barriers wrote, and what does not fit in memory.
//!
//! - [`row_key`]: where a row lies; [`codec`]: its bytes; [`rows`]: changes of many.
//! - [`heritage`]: which stores of a snapshot have a worker's key groups; [`sorted_rows`]: rows that are copied from them.
//! - [`shared`]: what the worker and its snapshot thread share of a store.
//!
//! The log of RocksDB is off: the store is only ever restored from a checkpoint.

mod codec;
mod heritage;
mod row_key;
mod rows;
mod shared;
mod sorted_rows;

pub(crate) use codec::{cannot_read_back, cannot_serialize, decode, decode_all, encode};
pub(crate) use row_key::RowKey;
pub(crate) use rows::Rows;
pub(crate) use shared::SharedStore;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use rocksdb::{DB, Direction, IteratorMode, Options, ReadOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, ErrorContext, KeyGroups, Result, Slot};

use super::barriers::Barriers;
use super::budget::Shares;
use super::engine::{open_db, open_db_to_read, options};
use crate::activity::StoreActivity;
use crate::attempt::AttemptSetup;
use heritage::{Files, Heritage};
use row_key::{prefix, split};
use sorted_rows::SortedRows;

/// Bytes that are read at once from every run of a store whose rows are copied.
const READAHEAD_BYTES: usize = 1 << 20;

/// A row read back.
pub(crate) struct Row<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
}

/// Whether to wait for the snapshot thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    UntilWritten,
}

/// A worker's state store.
pub(crate) struct Store {
    shared: Option<Arc<SharedStore>>,
    pub(crate) groups: KeyGroups,
    /// The key groups that this worker owns.
    pub(crate) owned: Range<u16>,
    /// Whether the worker waits for the store, for other threads to read.
    activity: Arc<StoreActivity>,
    /// How far the worker's operator chains are with the running barrier.
    barriers: Rc<Barriers>,
}

impl Store {
    /// Opens the store of a worker, with what the restored snapshot holds for its key groups.
    pub(crate) fn open(
        slot: Slot,
        setup: &AttemptSetup,
        activity: Arc<StoreActivity>,
        barriers: Rc<Barriers>,
    ) -> Result<Self> {
        let groups = setup.settings.key_groups;
        let owned = groups.range(slot.0 as usize, setup.settings.parallelism);
        if setup.store_ids.is_empty() {
            return Ok(Self { shared: None, groups, owned, activity, barriers });
        }
        let path = setup.working.store(setup.attempt, slot);
        std::fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        let mut options = options(Shares::of(setup.settings.memory, setup.settings.parallelism));
        let restored = setup.restored.as_deref();
        let heritage = restored.map(|manifest| Heritage::new(manifest, &owned));
        // The job waits for rows that are copied: what was there before them is merged later.
        let is_copied = heritage.as_ref().is_some_and(|heritage| !heritage.copied.is_empty());
        options.set_disable_auto_compactions(is_copied);
        let mut restored_files = Default::default();
        if let Some(files) = heritage.as_ref().and_then(Heritage::linked_files) {
            setup.snapshots.get_state_files(files, &path)?;
            restored_files = files.clone();
        }
        tidegate_failpoint::point("restore.files_linked");
        let db = open_db(&options, &path)?;
        let shared = SharedStore::new(db, path, restored_files, setup.epoch_before());
        let store = Self { shared: Some(Arc::new(shared)), groups, owned, activity, barriers };
        if let Some(heritage) = heritage {
            store.leave_behind(&heritage, setup)?;
            store.take_over(&heritage, setup, &options)?;
        }
        if is_copied {
            let on = store.shared()?.db.set_options(&[("disable_auto_compactions", "false")]);
            on.map_err(|e| Error::environment("begin to merge the state store").caused_by(e))?;
        }
        Ok(store)
    }

    /// Deletes those rows of the linked store that are not of this worker: of operators that the job no longer has (another one
    /// may be given their number), and of key groups that other workers own.
    fn leave_behind(&self, heritage: &Heritage<'_>, setup: &AttemptSetup) -> Result<()> {
        let Some((_, theirs)) = &heritage.linked else { return Ok(()) };
        let shared = self.shared()?;
        let mut rows = Rows::default();
        for (uid, operator) in heritage.manifest.operators.iter().filter(|(_, o)| o.state.is_some()) {
            let of = |groups: Range<u16>| {
                (prefix(operator.store_id, groups.start, None), prefix(operator.store_id, groups.end, None))
            };
            let gone = if setup.store_ids.contains_key(uid) {
                vec![of(theirs.start..self.owned.start), of(self.owned.end..theirs.end)]
            } else {
                vec![(prefix(operator.store_id, 0, None), prefix(operator.store_id + 1, 0, None))]
            };
            for (from, to) in gone.into_iter().filter(|(from, to)| from < to) {
                // Files that have nothing else are not read again by a compaction.
                let deleted = shared.db.delete_file_in_range(&from, &to);
                deleted.map_err(|e| Error::environment("delete state of other workers").caused_by(e))?;
                rows.batch().delete_range(from, to);
            }
        }
        shared.write(rows)
    }

    /// Copies the owned key groups out of the stores that are not linked, several at a time.
    fn take_over(&self, heritage: &Heritage<'_>, setup: &AttemptSetup, options: &Options) -> Result<()> {
        let shared = self.shared()?;
        let store_ids =
            heritage.manifest.operators.keys().filter_map(|uid| setup.store_ids.get(uid).copied());
        let store_ids: BTreeSet<u16> = store_ids.collect();
        let copy_one = |(slot, files, groups): &(Slot, &Files, Range<u16>)| -> Result<()> {
            let path = shared.path.with_extension(format!("from-{slot}"));
            setup.snapshots.get_state_files(files, &path)?;
            // Only to be read: it starts no compaction.
            let old = open_db_to_read(options, &path)?;
            let mut sorted = SortedRows::new(options, shared.path.with_extension(format!("sorted-{slot}")));
            for store_id in &store_ids {
                copy(&old, *store_id, groups.clone(), &mut sorted)?;
            }
            sorted.move_into(shared)?;
            drop(old);
            std::fs::remove_dir_all(&path).context(|| format!("remove {}", path.display()))
        };
        let threads = available_parallelism().map_or(1, NonZero::get).min(heritage.copied.len());
        let stores = Mutex::new(heritage.copied.iter());
        let next = || stores.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || std::iter::from_fn(next).try_for_each(copy_one);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
            let own = run();
            let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|p| resume_unwind(p)));
            others.fold(own, Result::and)
        })
    }

    /// What the snapshot thread needs; None for a job without keyed state.
    pub(crate) fn share_with_snapshot_thread(&self) -> Option<Arc<SharedStore>> {
        self.shared.clone()
    }

    fn shared(&self) -> Result<&SharedStore> {
        self.shared.as_deref().ok_or_else(|| Error::internal("a job without keyed state uses its store"))
    }

    /// The last epoch whose changes are in the store and need not stay in memory.
    pub(crate) fn written(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.written.load(Ordering::Acquire))
    }

    /// True if changes may be written between barriers. They may not while a barrier is under way on this worker, until all
    /// of its operator chains have copied their rows; this cannot be waited for, because it needs the calling thread. They
    /// may also not be written while the snapshot thread writes.
    pub(crate) fn may_spill(&self, patience: Patience) -> Result<bool> {
        let shared = self.shared()?;
        if patience == Patience::None {
            return Ok(self.barriers.under_way().is_none() && shared.is_all_written());
        }
        let _waiting = self.activity.awaiting();
        shared.wait_until_all_is_written();
        Ok(self.barriers.under_way().is_none())
    }

    /// Writes changes between barriers; only after [`Store::may_spill`] said so.
    pub(crate) fn spill(&self, rows: Rows) -> Result<()> {
        let _waiting = self.activity.awaiting();
        self.shared()?.write(rows)
    }

    pub(crate) fn get<K: Serialize, V: DeserializeOwned>(&self, row: RowKey<'_, K>) -> Result<Option<V>> {
        let mut key = Vec::with_capacity(64);
        row.encode(&mut key)?;
        let shared = self.shared()?;
        let waiting = self.activity.awaiting();
        let found = shared.db.get_pinned(key);
        drop(waiting);
        match found.map_err(|e| Error::environment("read the state store").caused_by(e))? {
            Some(bytes) => decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Calls `each` with up to `most` rows that follow the given one in its namespace, as long as it returns true.
    pub(crate) fn scan_behind<K: Serialize + DeserializeOwned, V: DeserializeOwned>(
        &self,
        row: RowKey<'_, K>,
        most: usize,
        mut each: impl FnMut(Row<K, V>) -> bool,
    ) -> Result<()> {
        let mut from = Vec::with_capacity(64);
        row.encode(&mut from)?;
        let place = prefix(row.operator, row.group, Some(row.namespace));
        // No key lies between a row's key and that key with a zero byte appended.
        from.push(0);
        let _waiting = self.activity.awaiting();
        let rows = self.shared()?.db.iterator(IteratorMode::From(&from, Direction::Forward));
        for row in rows.take(most) {
            let (row, value) = row.map_err(|e| Error::environment("read the state store").caused_by(e))?;
            if !row.starts_with(&place) {
                break;
            }
            let (_, hash, key) = split(&row)?;
            if !each(Row { hash, key: decode(key)?, value: decode(&value)? }) {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` with namespace, hash and encoded key of the rows at or after a position in their key group, one owned
    /// group after the other. If `each` returns false, the scan continues with the next group.
    pub(crate) fn scan_groups(
        &self,
        operator: u16,
        namespace: i64,
        hash: u64,
        key: &[u8],
        mut each: impl FnMut(i64, u64, &[u8]) -> bool,
    ) -> Result<()> {
        let db = &self.shared()?.db;
        let _waiting = self.activity.awaiting();
        for group in self.owned.clone() {
            let of_group = prefix(operator, group, None);
            let mut from = prefix(operator, group, Some(namespace));
            from.extend_from_slice(&hash.to_be_bytes());
            from.extend_from_slice(key);
            for row in db.iterator(IteratorMode::From(&from, Direction::Forward)) {
                let (row, _) = row.map_err(|e| Error::environment("read the state store").caused_by(e))?;
                if !row.starts_with(&of_group) {
                    break;
                }
                let (namespace, hash, key) = split(&row)?;
                if !each(namespace, hash, key) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Calls `each` with up to `most` rows of a namespace, from key group `group` on, in which it starts after the whole
    /// key `after`. Returns the group and whole key of the last row; None if there are no more.
    pub(crate) fn scan_place<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        operator: u16,
        namespace: i64,
        group: u16,
        after: &[u8],
        most: usize,
        mut each: impl FnMut(Row<K, V>),
    ) -> Result<Option<(u16, Vec<u8>)>> {
        let (db, mut left) = (&self.shared()?.db, most);
        let _waiting = self.activity.awaiting();
        for group in group..self.owned.end {
            let of_place = prefix(operator, group, Some(namespace));
            let from = if after > of_place.as_slice() { [after, &[0]].concat() } else { of_place.clone() };
            for row in db.iterator(IteratorMode::From(&from, Direction::Forward)) {
                let (row, value) =
                    row.map_err(|e| Error::environment("read the state store").caused_by(e))?;
                if !row.starts_with(&of_place) {
                    break;
                }
                let (_, hash, key) = split(&row)?;
                each(Row { hash, key: decode(key)?, value: decode(&value)? });
                left -= 1;
                if left == 0 {
                    return Ok(Some((group, row.into_vec())));
                }
            }
        }
        Ok(None)
    }

    /// Calls `each` with the rows of an operator that this worker owns, those of one namespace if it is given, in the
    /// order of their keys.
    #[cfg(test)]
    pub(crate) fn scan<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        operator: u16,
        namespace: Option<i64>,
        mut each: impl FnMut(Row<K, V>) -> Result<()>,
    ) -> Result<()> {
        let db = &self.shared()?.db;
        for group in self.owned.clone() {
            let from = prefix(operator, group, namespace);
            for row in db.iterator(IteratorMode::From(&from, Direction::Forward)) {
                let (row, value) =
                    row.map_err(|e| Error::environment("read the state store").caused_by(e))?;
                if !row.starts_with(&from) {
                    break;
                }
                let (_, hash, key) = split(&row)?;
                each(Row { hash, key: decode(key)?, value: decode(&value)? })?;
            }
        }
        Ok(())
    }
}

/// Copies the rows of an operator in these key groups, in the order of their keys.
fn copy(old: &DB, operator: u16, groups: Range<u16>, to: &mut SortedRows<'_>) -> Result<()> {
    let from = prefix(operator, groups.start, None);
    let end = prefix(operator, groups.end, None);
    let mut reading = ReadOptions::default();
    reading.fill_cache(false);
    reading.set_readahead_size(READAHEAD_BYTES);
    for row in old.iterator_opt(IteratorMode::From(&from, Direction::Forward), reading) {
        let (key, value) = row.map_err(|e| Error::environment("read a snapshot's state").caused_by(e))?;
        if key.as_ref() >= end.as_slice() {
            break;
        }
        to.put(&key, &value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
