//! Which numbers can be added up, and what their sums are kept in.

use serde::Serialize;
use serde::de::DeserializeOwned;

mod sealed {
    /// Keeps others from implementing the traits of this module, so that they may change.
    pub trait Sealed {}
}

/// A number that [`Sum`](super::Sum), [`Mean`](super::Mean) and [`StdDev`](super::StdDev) take: an integer of up to 64 bits,
/// an `f32` or an `f64`. No other type can implement it.
///
/// ```
/// use tidegate::aggregates::Number;
///
/// fn total_of<N: Number<Total = i128>>(_: N) {}
/// total_of(7u8);
/// total_of(-7i64);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a number that can be added up",
    label = "neither an integer of up to 64 bits nor an `f32` or `f64`",
    note = "the closure must return an integer of up to 64 bits, an `f32` or an `f64`, by value: `Sum::of(|sale: &Sale| sale.cents)`"
)]
pub trait Number: sealed::Sealed + Copy + 'static {
    /// What sums are kept in: `i128` for integers, `f64` for floating-point numbers.
    type Total: Total;

    /// This number as a total; the conversion is exact.
    fn total(self) -> Self::Total;
}

/// A sum of [`Number`]s: `i128` or `f64`. No other type can implement it.
pub trait Total:
    sealed::Sealed + Copy + Default + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned + 'static
{
    /// The sum of two. That of integers saturates at the limits of `i128`, which 2^63 numbers of 64 bits do not reach.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// The nearest floating-point number.
    fn to_f64(self) -> f64;
}

impl sealed::Sealed for i128 {}

impl Total for i128 {
    #[inline]
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Total for f64 {
    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
}

macro_rules! numbers {
    ($total:ty: $($number:ty)+) => {$(
        impl sealed::Sealed for $number {}

        impl Number for $number {
            type Total = $total;

            #[inline]
            fn total(self) -> $total {
                self as $total
            }
        }
    )+};
}

numbers!(i128: i8 i16 i32 i64 isize u8 u16 u32 u64 usize);
numbers!(f64: f32 f64);
