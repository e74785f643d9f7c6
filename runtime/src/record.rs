//! A record on its way, and the watermark that follows records.

/// A record with its event time and the hash of its key, computed once.
///
/// Before a stream has event time, `ts` is `i64::MIN`; before it has a key, `hash` holds the record's offset in its
/// partition, so that a message about a record can say which one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rec<T> {
    /// Event time in milliseconds since the Unix epoch.
    pub(crate) ts: i64,
    /// The stable hash of the key, or the offset before there is a key.
    pub(crate) hash: u64,
    /// The record itself.
    pub(crate) val: T,
}

/// What a sender tells about event time, behind its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mark {
    /// The watermark.
    pub(crate) at: i64,
    /// True if the sender expects nothing for now and must not hold back the others.
    pub(crate) idle: bool,
}

impl Mark {
    /// Event time is over.
    pub(crate) const END: Self = Self { at: i64::MAX, idle: false };

    pub(crate) fn at(at: i64) -> Self {
        Self { at, idle: false }
    }
}

/// The least watermark over a set of senders, which never goes back.
///
/// Idle senders do not count. While all are idle, the watermark is that of the one that had come furthest, and the result
/// is idle too.
#[derive(Clone, Debug)]
pub(crate) struct MinWatermark {
    senders: Vec<Mark>,
    now: Mark,
}

impl MinWatermark {
    /// Nobody of `senders` has told anything yet, and what was told before a restart stays: `floor`.
    pub(crate) fn new(senders: usize, floor: i64) -> Self {
        Self { senders: vec![Mark::at(i64::MIN); senders], now: Mark::at(floor) }
    }

    /// The number of senders.
    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }

    /// Takes note of what a sender tells; returns the new least watermark if it changed.
    pub(crate) fn update(&mut self, sender: usize, mark: Mark) -> Option<Mark> {
        let old = &mut self.senders[sender];
        *old = Mark { at: old.at.max(mark.at), idle: mark.idle };
        let open = || self.senders.iter().filter(|m| m.at < i64::MAX);
        let next = match open().filter(|m| !m.idle).map(|m| m.at).min() {
            Some(at) => Mark { at: at.max(self.now.at), idle: false },
            // Whoever is idle may come back: event time is over only when it is for all.
            // Until then nobody holds back the one that had come furthest.
            None => match open().map(|m| m.at).max() {
                Some(at) => Mark { at: at.max(self.now.at), idle: true },
                None => Mark::END,
            },
        };
        (next != self.now).then(|| {
            self.now = next;
            next
        })
    }
}

/// A record that can cross to another worker, in this process or another: whatever derives serde's traits.
///
/// # What can cross
///
/// Records cross where they change the worker: at [`Stream::key_by`](crate::Stream::key_by) and
/// [`key_by_value`](crate::Stream::key_by_value), [`rebalance`](crate::Stream::rebalance),
/// [`broadcast`](crate::Stream::broadcast) and
/// [`connect_broadcast`](crate::KeyedStream::connect_broadcast). To another process they travel as bytes that do not
/// describe themselves, so that a value must be read by the same steps by which it was written. Numbers, texts, lists,
/// maps, tuples, structs and enums can cross, and whatever is made of them by serde's derive, but not with
/// `#[serde(untagged)]`, `#[serde(tag)]`, `#[serde(flatten)]` or `#[serde(skip_serializing_if)]`, anywhere in it, and no
/// `serde_json::Value`. A type whose `Serialize` and `Deserialize` were written by hand must have them fit each other.
///
/// A job that has such a type cross is refused before it starts, with one worker, too, though its records stay in memory.
/// The type is tried for that with values made up for it; a field that is left out only for a value that was not tried
/// ends the job when that value is sent to another process. The same goes for what a snapshot
/// [keeps](crate::KeyedProcess#what-can-be-kept).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate::testing::{VecSource, collect};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Reading {
///     device: u32,
///     #[serde(skip_serializing_if = "Option::is_none")]
///     note: Option<String>,
/// }
///
/// let readings = VecSource::of([Reading { device: 7, note: None }]);
/// // It may be read, changed and written; only the exchange refuses it.
/// let refused = collect(move |job| Ok(job.source("readings", readings.clone()).rebalance())).map(|_| ()).unwrap_err();
/// assert!(refused.to_string().contains("its field 'note' (of Reading) is left out"), "{refused}");
/// ```
pub trait Data: serde::Serialize + serde::de::DeserializeOwned + Send + 'static {}

impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Data for T {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_slowest_active_sender_decides() {
        let mut min = MinWatermark::new(2, 0);
        assert_eq!(min.update(0, Mark::at(10)), None);
        assert_eq!(min.update(1, Mark::at(5)), Some(Mark::at(5)));
        assert_eq!(min.update(1, Mark { at: 5, idle: true }), Some(Mark::at(10)));
        assert_eq!(min.update(0, Mark { at: 10, idle: true }), Some(Mark { at: 10, idle: true }));
        assert_eq!(min.update(1, Mark::at(7)), Some(Mark::at(10)));
        // The other one is idle, not over: it may come back with a record that is not late.
        assert_eq!(min.update(1, Mark::END), Some(Mark { at: 10, idle: true }));
        assert_eq!(min.update(0, Mark::at(20)), Some(Mark::at(20)));
        assert_eq!(min.update(0, Mark::END), Some(Mark::END));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_is_the_least_where_all_are_active(
            marks in prop::collection::vec((0usize..3, -50i64..50, prop::bool::weighted(0.2)), 1..60)
        ) {
            let mut min = MinWatermark::new(3, -100);
            let mut told = [Mark::at(i64::MIN); 3];
            let mut before = min.now;
            for (sender, at, idle) in marks {
                min.update(sender, Mark { at, idle });
                told[sender] = Mark { at: told[sender].at.max(at), idle };
                prop_assert!(min.now.at >= before.at);
                prop_assert_eq!(min.now.idle, told.iter().all(|m| m.idle));
                if let Some(least) = told.iter().filter(|m| !m.idle).map(|m| m.at).min() {
                    prop_assert_eq!(min.now.at, least.max(before.at));
                } else {
                    let furthest = told.iter().map(|m| m.at).fold(i64::MIN, i64::max);
                    prop_assert_eq!(min.now.at, furthest.max(before.at));
                }
                before = min.now;
            }
        }
    }
}
