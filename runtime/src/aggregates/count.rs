//! How many records there are.

use crate::aggregates::{Aggregate, Mergeable};

/// Counts records.
///
/// ```
/// use tidegate::aggregates::Count;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     Ok(job.source("numbers", VecSource::of([7, 8, 7])).key_by(|n| n).aggregate("count", Count))
/// })?;
/// assert_eq!(out, [(7, 1), (8, 1), (7, 2)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Acc = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, count: &mut u64, _: &T) {
        *count += 1;
    }

    fn finish(&self, count: &u64) -> u64 {
        *count
    }
}

impl<T> Mergeable<T> for Count {
    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }
}
