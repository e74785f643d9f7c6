//! The key of a row: `operator (2 bytes) | key group (2) | namespace (8) | hash (8) | key (postcard)`, all numbers
//! big-endian, so that the rows of an operator, of a key group and of a namespace (the start of a window, or 0) are
//! adjacent.

use serde::Serialize;
use tidegate_protocol::{Error, Result};

use super::codec::encode;

/// The key of a row, by its parts.
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

    pub(super) fn encode(&self, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        push_prefix(into, self.operator, self.group, Some(self.namespace));
        into.extend_from_slice(&self.hash.to_be_bytes());
        encode(self.key, into)
    }
}

pub(super) fn push_prefix(into: &mut Vec<u8>, operator: u16, group: u16, namespace: Option<i64>) {
    into.extend_from_slice(&operator.to_be_bytes());
    into.extend_from_slice(&group.to_be_bytes());
    if let Some(namespace) = namespace {
        // With the sign bit flipped, bytes compare as the numbers do.
        into.extend_from_slice(&(namespace ^ i64::MIN).to_be_bytes());
    }
}

pub(super) fn prefix(operator: u16, group: u16, namespace: Option<i64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    push_prefix(&mut bytes, operator, group, namespace);
    bytes
}

/// The first key after all keys that begin with `prefix`.
pub(super) fn successor(mut prefix: Vec<u8>) -> Vec<u8> {
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
pub(super) fn split(row: &[u8]) -> Result<(i64, u64, &[u8])> {
    let short = || Error::internal("a key of the state store is too short");
    let namespace = row.get(4..12).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
    let hash = row.get(12..20).and_then(|b| b.try_into().ok()).ok_or_else(short)?;
    Ok((i64::from_be_bytes(namespace) ^ i64::MIN, u64::from_be_bytes(hash), &row[20..]))
}
