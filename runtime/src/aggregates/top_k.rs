//! The largest values.

use super::extremes::{Comparable, has_a_place};
use crate::aggregates::{Aggregate, Mergeable};

/// The `k` largest values of all records, the largest first; of equal ones those that came first.
///
/// It keeps no more than `k` values for a key, in order: inserting one costs up to `k` steps, so it is meant for a `k` of
/// up to a few hundred. NaN is left out. If there are fewer values, it is all of them.
///
/// ```
/// use tidegate::aggregates::TopK;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     let scores = job.source("scores", VecSource::of([("a", 3), ("b", 9), ("c", 5)]));
///     let scores = scores.map(|(player, score)| (player.to_owned(), score)).key_by_value(|_| 0u8);
///     Ok(scores.aggregate("best", TopK::of(2, |score: &(String, u32)| (score.1, score.0.clone()))).map(|(_, top)| top))
/// })?;
/// assert_eq!(out[2], [(9, "b".to_owned()), (5, "c".to_owned())]);
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// `k` may differ after a restart. If it is smaller, the rest is dropped; if it is larger, what was dropped before
/// does not come back.
#[derive(Clone, Copy, Debug)]
pub struct TopK<F> {
    k: usize,
    f: F,
}

impl<F> TopK<F> {
    /// The `k` largest of what `f` picks from the records; see the example of [`TopK`].
    pub fn of<T, V: Comparable>(k: usize, f: F) -> Self
    where
        F: Fn(&T) -> V + 'static,
    {
        Self { k, f }
    }

    /// Inserts a value; false if it is not among the largest.
    fn insert<V: PartialOrd>(&self, top: &mut Vec<V>, value: V) -> bool {
        let place = top.partition_point(|kept| *kept >= value);
        if place >= self.k || !has_a_place(&value) {
            return false;
        }
        top.truncate(self.k - 1);
        top.insert(place, value);
        true
    }
}

impl<T, V: Comparable, F: Fn(&T) -> V + 'static> Aggregate<T> for TopK<F> {
    /// The largest first.
    type Acc = Vec<V>;
    type Out = Vec<V>;

    fn create(&self) -> Vec<V> {
        Vec::new()
    }

    #[inline]
    fn add(&self, top: &mut Vec<V>, record: &T) {
        self.insert(top, (self.f)(record));
    }

    fn finish(&self, top: &Vec<V>) -> Vec<V> {
        top.iter().take(self.k).cloned().collect()
    }
}

impl<T, V: Comparable, F: Fn(&T) -> V + 'static> Mergeable<T> for TopK<F> {
    fn merge(&self, top: &mut Vec<V>, other: Vec<V>) {
        for value in other {
            if !self.insert(top, value) {
                break; // those behind it are smaller
            }
        }
    }
}
