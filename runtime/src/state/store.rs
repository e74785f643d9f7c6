//! One RocksDB a worker: what earlier barriers wrote, and what does not fit in memory.
//!
//! A row's key is `operator (2 bytes) | key group (2) | namespace (8) | hash (8) | key (postcard)`, all numbers
//! big-endian, so that the rows of an operator, of a key group and of a namespace (a window's start, or 0) lie together.
//! The log of RocksDB is off: the store is only ever restored from a checkpoint.

use std::any::type_name;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Epoch, KeyGroups, Manifest, Slot};
use tidegate_snapshots::Snapshots;

use super::engine::{open_db, options};
use crate::fingerprint::readable;
use crate::fingerprint::whole::{NotWhole, left_out};
use crate::process::Process;
use crate::watch::StoreActivity;
use tidegate_protocol::{Error, ErrorContext, Result};

/// Bytes of changes that RocksDB takes at once: one write goes into one write buffer, however large.
const WRITE_BYTES: usize = 1 << 20;

/// Changes to the store, in the order in which they are made.
#[derive(Default)]
pub(crate) struct Rows {
    /// Full ones, before `batch`.
    full: Vec<WriteBatch>,
    batch: WriteBatch,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Rows {
    /// The batch for the next change.
    fn batch(&mut self) -> &mut WriteBatch {
        if self.batch.size_in_bytes() >= WRITE_BYTES {
            self.full.push(std::mem::take(&mut self.batch));
        }
        &mut self.batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.batch.is_empty()
    }

    /// Adds changes that come after these.
    pub(crate) fn append(&mut self, later: Rows) {
        if later.is_empty() {
            return;
        }
        if !self.batch.is_empty() {
            self.full.push(std::mem::take(&mut self.batch));
        }
        self.full.extend(later.full);
        self.batch = later.batch;
    }

    pub(crate) fn put<K: Serialize, V: Serialize>(&mut self, row: RowKey<'_, K>, value: &V) -> Result<()> {
        row.encode(&mut self.key)?;
        self.value.clear();
        encode(value, &mut self.value)?;
        let (key, value) = (std::mem::take(&mut self.key), std::mem::take(&mut self.value));
        self.batch().put(&key, &value);
        (self.key, self.value) = (key, value);
        Ok(())
    }

    pub(crate) fn delete<K: Serialize>(&mut self, row: RowKey<'_, K>) -> Result<()> {
        row.encode(&mut self.key)?;
        let key = std::mem::take(&mut self.key);
        self.batch().delete(&key);
        self.key = key;
        Ok(())
    }

    /// Deletes the rows of a namespace in a key group up to one of them, given by its whole key.
    pub(crate) fn delete_up_to(&mut self, operator: u16, group: u16, namespace: i64, last: &[u8]) {
        let from = prefix(operator, group, Some(namespace));
        if last > from.as_slice() {
            // Nothing lies between a key and the same with a zero behind it.
            self.batch().delete_range(from, [last, &[0]].concat());
        }
    }

    /// Deletes a whole namespace of an operator in the given key groups.
    pub(crate) fn delete_namespace(&mut self, operator: u16, groups: Range<u16>, namespace: i64) {
        for group in groups {
            let from = prefix(operator, group, Some(namespace));
            let to = successor(from.clone());
            self.batch().delete_range(from, to);
        }
    }
}

/// Where a row lies.
#[derive(Clone, Copy)]
pub(crate) struct RowKey<'a, K> {
    pub(crate) operator: u16,
    pub(crate) group: u16,
    pub(crate) namespace: i64,
    pub(crate) hash: u64,
    pub(crate) key: &'a K,
}

impl<K: Serialize> RowKey<'_, K> {
    /// The whole key.
    pub(crate) fn encoded(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(64);
        self.encode(&mut bytes)?;
        Ok(bytes)
    }

    fn encode(&self, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        push_prefix(into, self.operator, self.group, Some(self.namespace));
        into.extend_from_slice(&self.hash.to_be_bytes());
        encode(self.key, into)
    }
}

/// Appends a key or a state as it is written to a snapshot.
///
/// # Errors
/// If the type refuses the value, or writes it in a way that could not be read back.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> Result<()> {
    // Such a value would be written, and the snapshot with it could not be read back.
    if let Some(what) = left_out(value) {
        return Err(cannot_keep::<T>(what));
    }
    let bytes = std::mem::take(into);
    *into = postcard::to_extend(value, bytes).map_err(cannot_serialize)?;
    Ok(())
}

/// The type of a key or a state refuses a value.
pub(crate) fn cannot_serialize(why: postcard::Error) -> Error {
    Error::job("a key or a state cannot be serialized").caused_by(why)
}

/// A value that its bytes could not give back; nothing of it was written.
#[cold]
fn cannot_keep<T: ?Sized>(what: NotWhole) -> Error {
    Error::job(format!(
        "a value of type {} cannot be kept in a snapshot: {what}, and could not be read back; remove that attribute",
        readable(type_name::<T>())
    ))
}

/// Reads a key or a state of a row.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    decode_all(bytes).map_err(|why| cannot_read_back::<T>(&why))
}

/// Bytes of the state store are covered by checksums, so what they are not is most likely written by the type itself in
/// another way than it is read.
#[cold]
pub(crate) fn cannot_read_back<T>(why: &str) -> Error {
    Error::job(format!(
        "a value of type {} was written to the state store and cannot be read back: {why}. The likely reason is that its \
         'Serialize' does not write what its 'Deserialize' reads, because of a serde attribute (skip_serializing, \
         skip_serializing_if, flatten, untagged, tag, with) or because one of the two was written by hand: change the type, \
         and start with an empty --checkpoint-dir and empty output directories. If it has nothing of that kind, this is a \
         defect of Tidegate: please report it",
        readable(type_name::<T>())
    ))
}

/// Reads all of the bytes as one value: what is left over belongs to a value of another type.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes are left behind its value", rest.len())),
        Err(e) => Err(e.to_string()),
    }
}

fn push_prefix(into: &mut Vec<u8>, operator: u16, group: u16, namespace: Option<i64>) {
    into.extend_from_slice(&operator.to_be_bytes());
    into.extend_from_slice(&group.to_be_bytes());
    if let Some(namespace) = namespace {
        // With the sign bit flipped, bytes compare as the numbers do.
        into.extend_from_slice(&(namespace ^ i64::MIN).to_be_bytes());
    }
}

fn prefix(operator: u16, group: u16, namespace: Option<i64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    push_prefix(&mut bytes, operator, group, namespace);
    bytes
}

/// The first key after all keys that begin with `prefix`.
fn successor(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return prefix;
        }
    }
    // Only a prefix of nothing but 0xff has no successor; operators are numbered from 0, so this is beyond all of them.
    vec![u8::MAX; 32]
}

/// The parts of a row's key: namespace, hash, encoded key.
fn split(row: &[u8]) -> Result<(i64, u64, &[u8])> {
    let short = || Error::internal("a key of the state store is too short");
    let namespace = row.get(4..12).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
    let hash = row.get(12..20).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
    Ok((i64::from_be_bytes(namespace) ^ i64::MIN, u64::from_be_bytes(hash), &row[20..]))
}

/// A row read back.
pub(crate) struct Row<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: V,
}

/// What the worker and its snapshot thread share of a store.
pub(crate) struct SharedStore {
    pub(crate) db: DB,
    pub(crate) path: PathBuf,
    /// The files of the restored snapshot that the store started with, by RocksDB's name.
    pub(crate) restored_files: std::collections::BTreeMap<String, FileRef>,
    /// The last epoch whose changes are in the store.
    written: AtomicU64,
    /// Batches written so far.
    writes: AtomicU64,
    phase: Mutex<SnapshotPhase>,
    snapshot_made: Condvar,
}

/// How far the store is with snapshots, which decides whether anything else may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SnapshotPhase {
    /// Some operator chains of the worker have come to the barrier, and not all have copied the rows of it.
    aligning: bool,
    /// Barriers that the snapshot thread has still to write; it ends without any help of the worker. More than one if an
    /// epoch was aborted, for another worker's sake, while this one was still writing it.
    writing: u32,
    /// The snapshot thread is gone: the job is about to end, and nobody may wait for it.
    abandoned: bool,
}

impl SharedStore {
    fn lock(&self) -> MutexGuard<'_, SnapshotPhase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first operator chain has come to the barrier: what others write now would belong to two epochs.
    pub(crate) fn begin_alignment(&self) {
        self.lock().aligning = true;
    }

    /// All operator chains have come to the barrier, and all rows are copied.
    pub(crate) fn begin_writing(&self) {
        let mut phase = self.lock();
        phase.aligning = false;
        phase.writing += u32::from(!phase.abandoned);
    }

    /// A checkpoint is made.
    pub(crate) fn end_snapshot(&self) {
        let mut phase = self.lock();
        phase.writing = phase.writing.saturating_sub(1);
        self.snapshot_made.notify_all();
    }

    /// No checkpoint will be made any more.
    pub(crate) fn abandon(&self) {
        let mut phase = self.lock();
        (phase.writing, phase.abandoned) = (0, true);
        self.snapshot_made.notify_all();
    }

    pub(crate) fn write(&self, rows: Rows) -> Result<()> {
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        for batch in rows.full.into_iter().chain([rows.batch]).filter(|batch| !batch.is_empty()) {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.db.write_opt(batch, &options).map_err(|e| {
                Error::environment(format!("write to the state store {}", self.path.display())).caused_by(e)
            })?;
        }
        Ok(())
    }

    /// Batches written so far: while that does not change, neither does the store.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_written(&self, epoch: Epoch) {
        self.written.store(epoch.0, Ordering::Release);
    }
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
    /// What can be seen of it from outside.
    sight: Arc<StoreActivity>,
}

impl Store {
    /// Opens the store of a worker, with what the restored snapshot holds for its key groups.
    pub(crate) fn open(slot: Slot, process: &Process) -> Result<Self> {
        let groups = process.settings.key_groups;
        let owned = groups.range(slot.0 as usize, process.settings.workers);
        let sight = process.watch.store(slot);
        if process.store_ids.is_empty() {
            return Ok(Self { shared: None, groups, owned, sight });
        }
        let path = process.working.store(process.attempt, slot);
        std::fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        let options = options(process.settings.shares());
        let restored = process.restored.as_deref();
        let same = restored.is_some_and(|m| m.parallelism as usize == process.settings.workers);
        let mut restored_files = Default::default();
        if let Some(part) = restored.filter(|_| same).and_then(|m| m.slots.get(&slot)) {
            process.snapshots.get_state_files(&part.store, &path)?;
            restored_files = part.store.clone();
        }
        tidegate_failpoint::point("restore.files_linked");
        let db = open_db(&options, &path)?;
        let shared = SharedStore {
            db,
            path,
            restored_files,
            written: AtomicU64::new(process.first_epoch.0 - 1),
            writes: AtomicU64::new(0),
            phase: Mutex::default(),
            snapshot_made: Condvar::new(),
        };
        let store = Self { shared: Some(Arc::new(shared)), groups, owned, sight };
        if let Some(manifest) = restored.filter(|_| !same) {
            store.take_over(manifest, &process.snapshots, &options)?;
        }
        Ok(store)
    }

    /// Copies the owned key groups out of a snapshot that was written with another parallelism.
    fn take_over(&self, manifest: &Manifest, snapshots: &Snapshots, options: &Options) -> Result<()> {
        let shared = self.shared()?;
        for (slot, part) in &manifest.slots {
            let theirs = manifest.key_groups.range(slot.0 as usize, manifest.parallelism as usize);
            let common = theirs.start.max(self.owned.start)..theirs.end.min(self.owned.end);
            if common.is_empty() || part.store.is_empty() {
                continue;
            }
            let path = shared.path.with_extension(format!("from-{slot}"));
            snapshots.get_state_files(&part.store, &path)?;
            let old = open_db(options, &path)?;
            for operator in manifest.operators.values().filter(|o| o.state.is_some()) {
                self.copy(&old, operator.store_id, common.clone())?;
            }
            drop(old);
            std::fs::remove_dir_all(&path).context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    fn copy(&self, old: &DB, operator: u16, groups: Range<u16>) -> Result<()> {
        let shared = self.shared()?;
        let from = prefix(operator, groups.start, None);
        let to = prefix(operator, groups.end, None);
        let mut rows = Rows::default();
        for row in old.iterator(IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = row.map_err(|e| Error::environment("read a snapshot's state").caused_by(e))?;
            if key.as_ref() >= to.as_slice() {
                break;
            }
            rows.batch().put(key, value);
            if !rows.full.is_empty() {
                shared.write(std::mem::take(&mut rows))?;
            }
        }
        shared.write(rows)
    }

    /// What the snapshot thread needs; None for a job without keyed state.
    pub(crate) fn share_with_snapshotter(&self) -> Option<Arc<SharedStore>> {
        self.shared.clone()
    }

    fn shared(&self) -> Result<&SharedStore> {
        self.shared.as_deref().ok_or_else(|| Error::internal("a job without keyed state uses its store"))
    }

    /// The last epoch whose changes are in the store and need not stay in memory.
    pub(crate) fn written(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.written.load(Ordering::Acquire))
    }

    /// True if changes may be written between barriers. They may not while operator chains of this worker are on their way to a
    /// barrier or copy its rows, for which they need the thread that asks; nor while the snapshot thread writes.
    pub(crate) fn may_spill(&self, patience: Patience) -> Result<bool> {
        let shared = self.shared()?;
        let mut phase = shared.lock();
        if patience == Patience::None {
            return Ok(*phase == SnapshotPhase::default());
        }
        let _waiting = self.sight.awaiting();
        while phase.writing > 0 {
            phase = shared.snapshot_made.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(!phase.aligning)
    }

    /// Writes changes between barriers; only after [`Store::may_spill`] said so.
    pub(crate) fn spill(&self, rows: Rows) -> Result<()> {
        let _waiting = self.sight.awaiting();
        self.shared()?.write(rows)
    }

    pub(crate) fn get<K: Serialize, V: DeserializeOwned>(&self, row: RowKey<'_, K>) -> Result<Option<V>> {
        let mut key = Vec::with_capacity(64);
        row.encode(&mut key)?;
        let shared = self.shared()?;
        let waiting = self.sight.awaiting();
        let found = shared.db.get_pinned(key);
        drop(waiting);
        match found.map_err(|e| Error::environment("read the state store").caused_by(e))? {
            Some(bytes) => decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Calls `each` with up to `most` rows that lie behind one in its namespace, as long as it returns true.
    pub(crate) fn scan_behind<K: Serialize + DeserializeOwned, V: DeserializeOwned>(
        &self,
        row: RowKey<'_, K>,
        most: usize,
        mut each: impl FnMut(Row<K, V>) -> bool,
    ) -> Result<()> {
        let mut from = Vec::with_capacity(64);
        row.encode(&mut from)?;
        let place = prefix(row.operator, row.group, Some(row.namespace));
        // Nothing lies between a row's key and the same with a zero behind it.
        from.push(0);
        let _waiting = self.sight.awaiting();
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

    /// Calls `each` with namespace, hash and encoded key of the rows that lie at or behind a place in their key group, one
    /// owned group after the other, as long as it returns true; false goes on to the next group.
    pub(crate) fn scan_groups(
        &self,
        operator: u16,
        namespace: i64,
        hash: u64,
        key: &[u8],
        mut each: impl FnMut(i64, u64, &[u8]) -> bool,
    ) -> Result<()> {
        let db = &self.shared()?.db;
        let _waiting = self.sight.awaiting();
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

    /// Calls `each` with up to `most` rows of a namespace, from key group `group` on and there behind the whole key `after`.
    /// Returns the group and whole key of the last one; None if there are no more.
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
        let _waiting = self.sight.awaiting();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(namespace: i64, key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let row =
            RowKey { operator: 0x0102, group: 0x0304, namespace, hash: 0x1112_1314_1516_1718, key: &key };
        row.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_layout_of_a_row_is_that_of_the_first_release() {
        let prefix = [1, 2, 3, 4];
        let hash = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
        let tail = [&hash[..], &[2, b'a', b'b']].concat();
        assert_eq!(encoded(0, "ab"), [&prefix[..], &[0x80, 0, 0, 0, 0, 0, 0, 0], &tail].concat());
        assert_eq!(
            encoded(-1, "ab"),
            [&prefix[..], &[0x7f, 255, 255, 255, 255, 255, 255, 255], &tail].concat()
        );
        let mut value = Vec::new();
        encode(&(1u64, "x", Some(-2i32)), &mut value).unwrap();
        assert_eq!(value, [1, 1, b'x', 1, 3]);
    }

    #[test]
    fn rows_lie_in_the_order_of_their_namespaces() {
        let namespaces = [i64::MIN, -5, -1, 0, 1, 300, i64::MAX];
        assert!(namespaces.windows(2).all(|pair| encoded(pair[0], "z") < encoded(pair[1], "a")));
        let row = encoded(-5, "key");
        assert_eq!(split(&row).unwrap(), (-5, 0x1112_1314_1516_1718, &[3, b'k', b'e', b'y'][..]));
        assert!(split(&row[..19]).is_err());
    }

    #[test]
    fn a_row_with_bytes_behind_its_value_is_not_read() {
        assert_eq!(decode::<u8>(&[7]).unwrap(), 7);
        let error = decode::<u8>(&[7, 0]).unwrap_err().to_string();
        assert!(error.contains("1 bytes are left"), "{error}");
    }

    /// Leaves its field out for a value that the check before the start does not try.
    #[derive(Debug, Serialize, serde::Deserialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "is_seven")]
        n: u32,
        more: u32,
    }

    fn is_seven(n: &u32) -> bool {
        *n == 7
    }

    #[test]
    fn a_value_that_leaves_a_field_out_is_not_written() {
        assert!(
            crate::fingerprint::state_type::<Sparse>().is_ok(),
            "the check before the start does not notice it"
        );
        let mut bytes = Vec::new();
        encode(&Sparse { n: 8, more: 1 }, &mut bytes).unwrap();
        assert_eq!(decode::<Sparse>(&bytes).unwrap().n, 8);
        let error = encode(&vec![Sparse { n: 7, more: 1 }], &mut bytes).unwrap_err();
        assert_eq!(error.kind(), tidegate_protocol::ErrorKind::Job);
        let error = error.to_string();
        for part in
            ["Vec<Sparse>", "its field 'n' (of Sparse)", "skip_serializing_if", "remove that attribute"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_back_names_its_type_and_the_likely_reason() {
        let error = decode::<Sparse>(&[1]).unwrap_err();
        assert_eq!(error.kind(), tidegate_protocol::ErrorKind::Job);
        let error = error.to_string();
        for part in ["of type Sparse", "skip_serializing_if", "flatten", "untagged", "change the type"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    enum Any {
        Unit,
        Text(String),
        Numbers(Vec<u64>),
        Map(std::collections::HashMap<String, Vec<(char, Option<bool>)>>),
        Set(std::collections::BTreeSet<i128>),
        Nested { deep: Option<Box<Any>>, float: f64 },
    }

    /// Any bytes, many of them such as begin with a great length.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![
            Just(vec![]),
            Just(vec![0xff; 9]),
            Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
        ];
        let rest = prop::collection::vec(any::<u8>(), 0..60);
        (0u8..7, length, rest).prop_map(|(kind, length, rest)| [vec![kind], length, rest].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// No length is believed: with one of these a list would not even fit into the address space.
        #[test]
        fn any_bytes_are_a_row_or_an_error(bytes in bytes()) {
            if let Ok(value) = decode::<Any>(&bytes) {
                let mut again = Vec::new();
                encode(&value, &mut again).unwrap();
                prop_assert!(again.len() <= bytes.len());
            }
            drop((decode::<String>(&bytes), decode::<Vec<String>>(&bytes), decode::<(u8, Box<[u128]>)>(&bytes)));
            prop_assert_eq!(split(&bytes).is_ok(), bytes.len() >= 20);
        }
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(successor(vec![1, 2]), [1, 3]);
        assert_eq!(successor(vec![1, 255, 255]), [2]);
        assert!(successor(vec![255, 255]) > vec![255, 255, 255, 255]);
    }
}
