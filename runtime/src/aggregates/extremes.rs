//! The smallest and the largest value.

use std::cmp::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aggregates::{Aggregate, Mergeable};

/// A value that [`Min`], [`Max`] and [`TopK`](super::TopK) can compare and keep: a number, a text, a tuple of such, or a type
/// that derives `PartialOrd`, `Clone`, `Default` and serde's traits.
///
/// Its order must be total, except for values that cannot even be compared with themselves: NaN, or a tuple with NaN in it.
/// Each aggregate documents how it treats these.
pub trait Comparable: PartialOrd + Clone + Default + Serialize + DeserializeOwned + 'static {}

impl<V: PartialOrd + Clone + Default + Serialize + DeserializeOwned + 'static> Comparable for V {}

/// False for NaN and whatever else has no place in an order.
pub(super) fn has_a_place<V: PartialOrd>(value: &V) -> bool {
    value.partial_cmp(value).is_some()
}

/// Takes `value` as the best if there is none, if its order against the best is as wanted, or if the best is NaN.
#[inline]
fn improve<V: PartialOrd>(best: &mut Option<V>, value: V, wanted: Ordering) {
    let is_better = match best {
        Some(best) => match value.partial_cmp(best) {
            Some(order) => order == wanted,
            None => has_a_place(&value) && !has_a_place(best),
        },
        None => true,
    };
    if is_better {
        *best = Some(value);
    }
}

/// The smallest value of all records; of equal ones the first.
///
/// NaN is left out, as in `f64::min`: the result is NaN only if there is nothing else. Of no records it is the default of the
/// type; no step asks for that.
///
/// ```
/// use tidegate::aggregates::Min;
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| {
///     let levels = job.source("levels", VecSource::of([(1, 3.0), (1, f64::NAN), (1, 2.5)])).key_by(|level| &level.0);
///     Ok(levels.aggregate("lowest", Min::of(|level: &(u32, f64)| level.1)))
/// })?;
/// assert_eq!(out, [(1, 3.0), (1, 3.0), (1, 2.5)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Min<F> {
    f: F,
}

impl<F> Min<F> {
    /// The smallest of what `f` picks from the records; see the example of [`Min`].
    pub fn of<T, V: Comparable>(f: F) -> Self
    where
        F: Fn(&T) -> V + 'static,
    {
        Self { f }
    }
}

/// The largest value of all records; of equal ones the first.
///
/// NaN is left out, as in `f64::max`: the result is NaN only if there is nothing else. Of no records it is the default of the
/// type; no step asks for that.
///
/// ```
/// use tidegate::aggregates::Max;
/// use tidegate::testing::{VecSource, collect};
///
/// // The largest sale with its number: tuples are compared by their first part first.
/// let out = collect(|job| {
///     let sales = job.source("sales", VecSource::of([("ann", 30, 1), ("ann", 50, 2), ("ann", 20, 3)]));
///     let sales = sales.map(|(who, cents, number)| (who.to_owned(), cents, number)).key_by(|sale| &sale.0);
///     Ok(sales.aggregate("largest", Max::of(|sale: &(String, u64, u32)| (sale.1, sale.2))).map(|(_, max)| max))
/// })?;
/// assert_eq!(out, [(30, 1), (50, 2), (50, 2)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Max<F> {
    f: F,
}

impl<F> Max<F> {
    /// The largest of what `f` picks from the records; see the example of [`Max`].
    pub fn of<T, V: Comparable>(f: F) -> Self
    where
        F: Fn(&T) -> V + 'static,
    {
        Self { f }
    }
}

macro_rules! extreme {
    ($name:ident is $wanted:expr) => {
        impl<T, V: Comparable, F: Fn(&T) -> V + 'static> Aggregate<T> for $name<F> {
            type Acc = Option<V>;
            type Out = V;

            fn create(&self) -> Option<V> {
                None
            }

            #[inline]
            fn add(&self, best: &mut Option<V>, record: &T) {
                improve(best, (self.f)(record), $wanted);
            }

            fn finish(&self, best: &Option<V>) -> V {
                best.clone().unwrap_or_default()
            }
        }

        impl<T, V: Comparable, F: Fn(&T) -> V + 'static> Mergeable<T> for $name<F> {
            fn merge(&self, best: &mut Option<V>, other: Option<V>) {
                if let Some(value) = other {
                    improve(best, value, $wanted);
                }
            }
        }
    };
}

extreme!(Min is Ordering::Less);
extreme!(Max is Ordering::Greater);
