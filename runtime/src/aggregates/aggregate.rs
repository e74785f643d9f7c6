//! What an aggregate is.

use serde::Serialize;

use super::Map;

/// Computes one value from the records of a key (in a window, or of all time), one record after the other.
///
/// [`aggregates`](crate::aggregates) has the usual ones ready-made. One of your own keeps an accumulator between records:
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::Aggregate;
///
/// /// The share of the records that `f` is true of.
/// struct Share<F>(F);
///
/// impl<T, F: Fn(&T) -> bool + 'static> Aggregate<T> for Share<F> {
///     type Acc = (u64, u64);
///     type Out = f64;
///
///     fn create(&self) -> Self::Acc {
///         (0, 0)
///     }
///
///     fn add(&self, (hits, all): &mut Self::Acc, record: &T) {
///         *hits += u64::from((self.0)(record));
///         *all += 1;
///     }
///
///     fn finish(&self, (hits, all): &Self::Acc) -> f64 {
///         *hits as f64 / *all as f64
///     }
/// }
///
/// let out = collect(|job| {
///     let numbers = job.source("numbers", VecSource::of([1, 2, 3, 4])).key_by_value(|_| 0u8);
///     Ok(numbers.aggregate("even", Share(|n: &i32| n % 2 == 0)))
/// })?;
/// assert_eq!(out.last(), Some(&(0, 0.5)));
/// # Ok::<(), tidegate::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate of records of the type `{T}`",
    label = "not an aggregate of `{T}`",
    note = "take one of `tidegate::aggregates`, or implement `Aggregate<{T}>` for a struct of your own, with the types `Acc` and \
            `Out` and the functions `create`, `add` and `finish`",
    note = "a closure cannot be one: `fold(\"total\", 0, |total, record| ..)` takes a closure, on a keyed stream and on windows"
)]
pub trait Aggregate<T>: 'static {
    /// What is kept between records; part of snapshots. [Some types](crate::KeyedProcess#what-can-be-kept) cannot be.
    type Acc: Serialize + serde::de::DeserializeOwned + 'static;
    /// The type of the result.
    type Out: 'static;

    /// The value before the first record.
    fn create(&self) -> Self::Acc;

    /// Takes a record into account.
    fn add(&self, acc: &mut Self::Acc, record: &T);

    /// The result for the records so far. There is at least one record: no step asks for the result of no records.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;

    /// The same aggregate with another result: `f` makes it of the one that [`finish`](Self::finish) gives. What is kept, and so
    /// the snapshot, stays the same.
    ///
    /// ```
    /// use tidegate::Aggregate;
    /// use tidegate::aggregates::{Count, Sum};
    /// use tidegate::testing::{VecSource, collect};
    ///
    /// let out = collect(|job| {
    ///     let sales = job.source("sales", VecSource::of([(1, 10u32), (1, 25)])).key_by(|sale| &sale.0);
    ///     let cents_by_sale = (Sum::of(|sale: &(u32, u32)| sale.1), Count).map(|(sum, count)| sum / i128::from(count));
    ///     Ok(sales.aggregate("cents_by_sale", cents_by_sale))
    /// })?;
    /// assert_eq!(out, [(1, 10), (1, 17)]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    fn map<U: 'static, F: Fn(Self::Out) -> U + 'static>(self, f: F) -> Map<Self, F, T>
    where
        Self: Sized,
    {
        Map::new(self, f)
    }
}

/// An aggregate that can merge two accumulators into one, for steps that compute parts of a result separately.
///
/// All [`aggregates`](crate::aggregates) of this crate implement it, and so do tuples of aggregates that implement it.
/// [`WindowedStream::aggregate_hot`](crate::WindowedStream::aggregate_hot) needs it.
///
/// For all records in their order, wherever they are cut in two, merging the accumulator of the second part into that of
/// the first must give what adding all of them to one gives; with floating-point numbers as nearly as rounding allows. Merging
/// a new accumulator into another must not change it, and merging another into a new one must give that other.
///
/// ```
/// use tidegate::{Aggregate, Mergeable};
///
/// /// The largest number.
/// struct Largest;
///
/// impl Aggregate<u32> for Largest {
///     type Acc = u32;
///     type Out = u32;
///
///     fn create(&self) -> u32 {
///         0
///     }
///
///     fn add(&self, largest: &mut u32, number: &u32) {
///         *largest = (*largest).max(*number);
///     }
///
///     fn finish(&self, largest: &u32) -> u32 {
///         *largest
///     }
/// }
///
/// impl Mergeable<u32> for Largest {
///     fn merge(&self, largest: &mut u32, other: u32) {
///         *largest = (*largest).max(other);
///     }
/// }
///
/// let (mut first, mut second) = (Largest.create(), Largest.create());
/// Largest.add(&mut first, &7);
/// Largest.add(&mut second, &9);
/// Largest.merge(&mut first, second);
/// assert_eq!(Largest.finish(&first), 9);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot merge two accumulators of records of the type `{T}`",
    label = "an aggregate without `merge`",
    note = "implement `Mergeable<{T}>` beside `Aggregate<{T}>`, with the function `merge`; the aggregates of \
            `tidegate::aggregates` have it, and tuples of them"
)]
pub trait Mergeable<T>: Aggregate<T> {
    /// Takes the records of another accumulator into account, which come behind those of `acc`.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
}
