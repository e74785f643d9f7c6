//! Changes to the store, gathered before they are written.

use std::ops::Range;

use rocksdb::WriteBatch;
use serde::Serialize;
use tidegate_protocol::Result;

use super::codec::encode;
use super::row_key::{RowKey, prefix, successor};

/// Bytes of changes that RocksDB takes at once: one write goes into one write buffer, however large.
const WRITE_BYTES: usize = 1 << 20;

/// Changes to the store, in the order in which they are made.
#[derive(Default)]
pub(crate) struct Rows {
    /// Full batches, which come before `batch`.
    pub(super) full: Vec<WriteBatch>,
    pub(super) batch: WriteBatch,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Rows {
    /// The batch for the next change.
    pub(super) fn batch(&mut self) -> &mut WriteBatch {
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
            // No key lies between a key and that key with a zero byte appended.
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
