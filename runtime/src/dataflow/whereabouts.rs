//! What a host is doing at the moment, for the message if it fails.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, on_the_way};
use crate::metrics::Step;
use crate::record::Rec;

/// Bytes of a key that a message quotes.
const KEY_BYTES: usize = 200;
/// In place of an offset: no record is at hand. No partition is as long as that.
const NO_RECORD: u64 = u64::MAX;

/// What the host is doing, for the message if it fails.
pub(crate) struct Whereabouts {
    steps: RefCell<Vec<Arc<Step>>>,
    partitions: RefCell<Vec<String>>,
    step: Cell<usize>,
    partition: Cell<Option<usize>>,
    /// The offset in the partition, or the hash of the key.
    record: Cell<u64>,
    event_time: Cell<i64>,
    /// The key for which user code failed, as JSON.
    key: RefCell<Option<String>>,
}

/// The key that code runs for now. If that fails, by a panic or by an error that is handed on, this is dropped before it
/// is [`AtKey::done`], and the message names the key; as long as all goes well it costs nothing.
#[must_use]
pub(crate) struct AtKey<'a, K: Serialize> {
    at: &'a Whereabouts,
    key: &'a K,
}

impl<K: Serialize> AtKey<'_, K> {
    #[inline]
    pub(crate) fn done(self) {
        std::mem::forget(self);
    }
}

impl<K: Serialize> Drop for AtKey<'_, K> {
    #[cold]
    fn drop(&mut self) {
        // A key that is no JSON (a map whose keys are no strings, say) is not named.
        let text = on_the_way(|| serde_json::to_string(self.key).ok()).flatten();
        *self.at.key.borrow_mut() = text.map(shortened);
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > KEY_BYTES {
        let end = (0..=KEY_BYTES).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl Default for Whereabouts {
    fn default() -> Self {
        Self {
            steps: RefCell::default(),
            partitions: RefCell::default(),
            step: Cell::default(),
            partition: Cell::default(),
            record: Cell::new(NO_RECORD),
            event_time: Cell::new(i64::MIN),
            key: RefCell::default(),
        }
    }
}

impl Whereabouts {
    /// Registers a step, for [`Whereabouts::enter`].
    pub(crate) fn step(&self, step: &Arc<Step>) -> usize {
        let mut steps = self.steps.borrow_mut();
        steps.push(step.clone());
        steps.len() - 1
    }

    #[inline]
    pub(crate) fn enter(&self, step: usize) {
        self.step.set(step);
    }

    #[inline]
    pub(crate) fn record<T>(&self, record: &Rec<T>) {
        self.record.set(record.hash);
        self.event_time.set(record.ts);
    }

    /// From here on it is this key that code runs for.
    #[inline]
    pub(crate) fn key<'a, K: Serialize>(&'a self, key: &'a K) -> AtKey<'a, K> {
        AtKey { at: self, key }
    }

    /// The partition that the records at hand come from.
    #[inline]
    pub(crate) fn current_partition(&self) -> usize {
        self.partition.get().unwrap_or(0)
    }

    /// The name of the partition that the records at hand come from; None in a host that reads no source.
    pub(crate) fn partition_name(&self) -> Option<String> {
        self.partition.get().and_then(|partition| self.partitions.borrow().get(partition).cloned())
    }

    /// From here on records come from this partition; there is none yet.
    pub(crate) fn partition(&self, partition: usize, name: &str) {
        let mut names = self.partitions.borrow_mut();
        if names.len() <= partition {
            names.resize(partition + 1, String::new());
        }
        if names[partition] != name {
            name.clone_into(&mut names[partition]);
        }
        self.partition.set(Some(partition));
        self.record.set(NO_RECORD);
    }

    /// Where the host is, as the beginning of a sentence.
    pub(crate) fn describe(&self) -> String {
        let steps = self.steps.borrow();
        let step = steps.get(self.step.get()).map_or_else(|| "?".to_owned(), |s| s.name());
        let key = self.key.borrow().as_ref().map_or_else(String::new, |key| format!(", key {key}"));
        match (self.partition_name(), self.record.get()) {
            (Some(partition), NO_RECORD) => format!("step '{step}', partition '{partition}'"),
            (Some(partition), offset) => format!("step '{step}', partition '{partition}', offset {offset}"),
            (None, _) if self.event_time.get() != i64::MIN => {
                format!("step '{step}'{key}, record with event time {}", self.event_time.get())
            }
            (None, _) => format!("step '{step}'{key}"),
        }
    }

    /// An error of user code, with the place where it happened.
    pub(crate) fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::job(format!("{}: {cause}", self.describe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cannot even be serialized.
    struct Hopeless;

    impl Serialize for Hopeless {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("no way to serialize this")
        }
    }

    fn described_after_a_panic<K: Serialize>(key: &K) -> String {
        let at = Whereabouts::default();
        at.step(&Step::new("map", "step"));
        let work = || {
            let at_key = at.key(key);
            assert!(at.step.get() == 1, "it fails here");
            at_key.done();
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
        at.describe()
    }

    #[test]
    fn a_key_is_named_if_its_code_fails_and_only_then() {
        assert_eq!(described_after_a_panic(&("a", 1)), "step 'step', key [\"a\",1]");
        assert_eq!(described_after_a_panic(&Hopeless), "step 'step'");
        let at = Whereabouts::default();
        at.key(&7).done();
        assert!(at.key.borrow().is_none());
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        let cut = shortened("ä".repeat(KEY_BYTES));
        assert_eq!(cut, "ä".repeat(KEY_BYTES / 2) + "...");
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
