//! The standard deviation of numbers.

use super::number::{Number, Total};
use crate::aggregates::{Aggregate, Mergeable};

/// The standard deviation of a number of every record, as `f64`: that of the whole population, the root of the mean of the
/// squared distances from the mean.
///
/// It is computed in one pass that does not lose digits where the numbers are large and close together (Welford 1962), and
/// depends on the order of the records in its last digits. It is 0 for one record, and NaN if one of the numbers is NaN
/// or infinite, or if there are no records.
///
/// ```
/// use tidegate::aggregates::StdDev;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     let levels = job.source("levels", VecSource::of([(1, 2.0), (1, 6.0)])).key_by(|level| &level.0);
///     Ok(levels.aggregate("spread", StdDev::of(|level: &(u32, f64)| level.1)))
/// })?;
/// assert_eq!(out, [(1, 0.0), (1, 2.0)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StdDev<F> {
    f: F,
}

impl<F> StdDev<F> {
    /// The standard deviation of what `f` picks from the records; see the example of [`StdDev`].
    pub fn of<T, N: Number>(f: F) -> Self
    where
        F: Fn(&T) -> N + 'static,
    {
        Self { f }
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Aggregate<T> for StdDev<F> {
    /// The count, the mean, and the sum of the squared distances from it.
    type Acc = (u64, f64, f64);
    type Out = f64;

    fn create(&self) -> Self::Acc {
        (0, 0.0, 0.0)
    }

    #[inline]
    fn add(&self, (count, mean, squares): &mut Self::Acc, record: &T) {
        let number = (self.f)(record).total().to_f64();
        *count += 1;
        let distance = number - *mean;
        *mean += distance / *count as f64;
        *squares += distance * (number - *mean);
    }

    fn finish(&self, (count, _, squares): &Self::Acc) -> f64 {
        (squares / *count as f64).sqrt()
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Mergeable<T> for StdDev<F> {
    /// After Chan, Golub and LeVeque 1979.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        if acc.0 == 0 || other.0 == 0 {
            *acc = if acc.0 == 0 { other } else { *acc };
            return;
        }
        let (mine, others) = (acc.0 as f64, other.0 as f64);
        let distance = other.1 - acc.1;
        acc.0 += other.0;
        acc.1 += distance * others / (mine + others);
        acc.2 += other.2 + distance * distance * mine * others / (mine + others);
    }
}
