//! The mean of numbers.

use super::number::{Number, Total};
use crate::aggregates::{Aggregate, Mergeable};

/// The mean of a number of every record, as `f64`.
///
/// It is the [`Sum`](super::Sum) divided by the count: of integers it is as exact as an `f64` can be, of floating-point
/// numbers it depends on the order of the records in its last digits. It is NaN if one of the numbers is NaN, or if there
/// are no records.
///
/// ```
/// use tidegate::aggregates::Mean;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     let levels = job.source("levels", VecSource::of([(1, 2.0), (1, 5.0)])).key_by(|level| &level.0);
///     Ok(levels.aggregate("mean", Mean::of(|level: &(u32, f64)| level.1)))
/// })?;
/// assert_eq!(out, [(1, 2.0), (1, 3.5)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Mean<F> {
    f: F,
}

impl<F> Mean<F> {
    /// The mean of what `f` picks from the records; see the example of [`Mean`].
    pub fn of<T, N: Number>(f: F) -> Self
    where
        F: Fn(&T) -> N + 'static,
    {
        Self { f }
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Aggregate<T> for Mean<F> {
    /// The count and the sum.
    type Acc = (u64, N::Total);
    type Out = f64;

    fn create(&self) -> Self::Acc {
        (0, N::Total::default())
    }

    #[inline]
    fn add(&self, (count, sum): &mut Self::Acc, record: &T) {
        *count += 1;
        *sum = sum.plus((self.f)(record).total());
    }

    fn finish(&self, (count, sum): &Self::Acc) -> f64 {
        sum.to_f64() / *count as f64
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Mergeable<T> for Mean<F> {
    fn merge(&self, (count, sum): &mut Self::Acc, other: Self::Acc) {
        *count += other.0;
        *sum = sum.plus(other.1);
    }
}
