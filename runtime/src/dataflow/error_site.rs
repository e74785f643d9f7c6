//! What an operator chain is doing at the moment, for the message if it fails.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde::Serialize;

use super::lost_peers;
use crate::activity::Activity;
use crate::panics::on_the_way;
use crate::step::Step;
use tidegate_protocol::Error;

/// Bytes of a key that a message quotes.
const KEY_BYTES: usize = 200;

/// What the operator chain is doing, for the message if it fails.
pub(crate) struct ErrorSite {
    /// The part that other threads can read.
    activity: Arc<Activity>,
    /// The number of partitions that have a name.
    partitions: Cell<usize>,
    /// The key for which user code failed, as JSON.
    key: RefCell<Option<String>>,
}

/// The key that user code runs for. If the code panics or returns an error, this guard is dropped without a call of
/// [`AtKey::done`], and the message names the key. Otherwise it costs nothing.
#[must_use]
pub(crate) struct AtKey<'a, K: Serialize> {
    at: &'a ErrorSite,
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
        // A key that cannot be written as JSON (for example a map whose keys are not strings) is not named.
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

impl ErrorSite {
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        Self { activity, partitions: Cell::new(0), key: RefCell::default() }
    }

    /// Where steps write their position, for other threads to read.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Registers a step; `is_keyed` if its records have the hash of its key.
    pub(crate) fn step(&self, step: &Arc<Step>, is_keyed: bool) -> usize {
        self.activity.add_step(step, is_keyed)
    }

    /// From here on the engine's code runs.
    pub(crate) fn leave(&self) {
        self.activity.leave();
    }

    /// From here on code runs for this key.
    #[inline]
    pub(crate) fn key<'a, K: Serialize>(&'a self, key: &'a K) -> AtKey<'a, K> {
        AtKey { at: self, key }
    }

    /// The partition of the current records.
    #[inline]
    pub(crate) fn current_partition(&self) -> usize {
        self.activity.look().partition.unwrap_or(0)
    }

    /// The name of the partition of the current records; None in an operator chain that does not read a source.
    pub(crate) fn partition_name(&self) -> Option<String> {
        self.activity.partition_name(&self.activity.look())
    }

    /// From here on records come from this partition, whose name never changes. There is no current record yet.
    pub(crate) fn partition(&self, partition: usize, name: &str) {
        if partition == self.partitions.get() {
            self.activity.add_partition(name);
            self.partitions.set(partition + 1);
        }
        self.activity.partition(partition);
    }

    /// Where the operator chain is, as the beginning of a sentence.
    pub(crate) fn describe(&self) -> String {
        let seen_at = self.activity.look();
        let step = self.activity.describe_step(&seen_at);
        match self.activity.describe_record(&seen_at, self.key.borrow().as_deref()) {
            record if record.is_empty() => step,
            record => format!("{step}, {record}"),
        }
    }

    /// An error of user code, with the place where it happened.
    pub(crate) fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::job(format!("{}: {cause}", self.describe()))
    }

    /// What a caught panic is for the job. Records that are to go to another process may find out that it is gone: timely
    /// panics then, which is no error of user code.
    pub(crate) fn error_of_panic(&self, panic: &(dyn Any + Send)) -> Error {
        lost_peers::error_of(panic, |text| self.error(text))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::ErrorKind;

    use super::*;
    use crate::step::StepKind;

    /// Cannot even be serialized.
    struct Hopeless;

    impl Serialize for Hopeless {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("no way to serialize this")
        }
    }

    fn error_site() -> ErrorSite {
        ErrorSite::new(Arc::new(Activity::new(tidegate_protocol::Slot(0))))
    }

    fn described_after_a_panic<K: Serialize>(key: &K) -> String {
        let at = error_site();
        at.step(&Step::new(StepKind::Map, "step"), true);
        let work = || {
            let at_key = at.key(key);
            assert!(at.key.borrow().is_some(), "it fails here");
            at_key.done();
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
        at.describe()
    }

    #[test]
    fn a_key_is_named_if_its_code_fails_and_only_then() {
        assert_eq!(described_after_a_panic(&("a", 1)), "step 'step', key [\"a\",1]");
        assert_eq!(described_after_a_panic(&Hopeless), "step 'step'");
        let at = error_site();
        at.key(&7).done();
        assert!(at.key.borrow().is_none());
    }

    #[test]
    fn a_process_that_is_gone_is_no_error_of_the_step_that_sends_to_it() {
        let at = error_site();
        at.step(&Step::new(StepKind::Map, "step"), true);
        let kind = |text: &str| at.error_of_panic(&text.to_owned()).kind();
        assert_eq!(kind("MergeQueue poisoned."), ErrorKind::Environment);
        assert_eq!(kind("index out of bounds"), ErrorKind::Job);
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        let cut = shortened("ä".repeat(KEY_BYTES));
        assert_eq!(cut, "ä".repeat(KEY_BYTES / 2) + "...");
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
