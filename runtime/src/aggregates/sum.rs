//! The sum of numbers.

use super::number::{Number, Total};
use crate::aggregates::{Aggregate, Mergeable};

/// Adds up a number of every record.
///
/// Integers are added up as `i128`, which is also the type of the result: it does not overflow, since it holds the sum of
/// 2^63 numbers of 64 bits. Floating-point numbers are added up as `f64`; the result depends on the order of the records in
/// its last digits, and is NaN if one of them is NaN. The sum of no records is 0.
///
/// ```
/// use tidegate::aggregates::Sum;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     let sales = job.source("sales", VecSource::of([(1, u64::MAX), (1, u64::MAX)])).key_by(|sale| &sale.0);
///     Ok(sales.aggregate("cents", Sum::of(|sale: &(u32, u64)| sale.1)))
/// })?;
/// assert_eq!(out[1], (1, 2 * i128::from(u64::MAX)));
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sum<F> {
    f: F,
}

impl<F> Sum<F> {
    /// The sum of what `f` picks from the records; see the example of [`Sum`].
    pub fn of<T, N: Number>(f: F) -> Self
    where
        F: Fn(&T) -> N + 'static,
    {
        Self { f }
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Aggregate<T> for Sum<F> {
    type Acc = N::Total;
    type Out = N::Total;

    fn create(&self) -> N::Total {
        N::Total::default()
    }

    #[inline]
    fn add(&self, sum: &mut N::Total, record: &T) {
        *sum = sum.plus((self.f)(record).total());
    }

    fn finish(&self, sum: &N::Total) -> N::Total {
        *sum
    }
}

impl<T, N: Number, F: Fn(&T) -> N + 'static> Mergeable<T> for Sum<F> {
    fn merge(&self, sum: &mut N::Total, other: N::Total) {
        *sum = sum.plus(other);
    }
}
