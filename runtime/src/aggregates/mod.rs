//! Ready-made aggregates: what [`KeyedStream::aggregate`](crate::KeyedStream::aggregate) and
//! [`WindowedStream::aggregate`](crate::WindowedStream::aggregate) take when a count, a sum or a maximum is wanted.
//!
//! | aggregate | result | NaN |
//! |---|---|---|
//! | [`Count`] | `u64` | |
//! | [`Sum::of`] | `i128` for integers, `f64` for floating-point numbers | makes the result NaN |
//! | [`Mean::of`], [`StdDev::of`] | `f64` | makes the result NaN |
//! | [`Min::of`], [`Max::of`] | the value | is left out; the result is NaN if there is nothing else |
//! | [`TopK::of`] | `Vec` of the values, the largest first | is left out |
//!
//! A tuple of two to six aggregates is an aggregate, whose result is a tuple, and
//! [`Aggregate::map`] changes a result:
//!
//! ```
//! use std::time::Duration;
//! use tidegate::aggregates::{Count, Max, Mean};
//! use tidegate::testing::{VecSource, collect};
//! use tidegate::{Aggregate, Tumbling, Watermarks};
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Reading {
//!     device: u32,
//!     at: i64,
//!     celsius: f64,
//! }
//!
//! let reading = |at, celsius| Reading { device: 7, at, celsius };
//! let readings = VecSource::of([reading(0, 20.0), reading(500, 23.0), reading(1_500, 21.0)]);
//! let out = collect(move |job| {
//!     let readings = job.source("readings", readings.clone()).event_time(|r| r.at, Watermarks::monotonous());
//!     let windows = readings.key_by(|r| &r.device).window(Tumbling::of(Duration::from_secs(1)));
//!     let celsius = |r: &Reading| r.celsius;
//!     let statistics = (Count, Mean::of(celsius), Max::of(celsius).map(|max| max.round()));
//!     Ok(windows.aggregate("statistics", statistics).map(|w| w.value))
//! })?;
//! assert_eq!(out, [(2, 21.5, 23.0), (1, 21.0, 21.0)]);
//! # Ok::<(), tidegate::Error>(())
//! ```
//!
//! A closure that picks a value names the type of the record, `|r: &Reading| r.celsius`: the compiler looks into the closure
//! before it knows which stream the aggregate is for.
//!
//! All of them can [merge](crate::Mergeable) two accumulators, and take the memory of a few numbers for a key, [`TopK`] that
//! of `k` values. For anything else, implement [`Aggregate`], or give a closure to
//! [`KeyedStream::fold`](crate::KeyedStream::fold) or [`WindowedStream::fold`](crate::WindowedStream::fold).

mod aggregate;
mod closures;
mod count;
mod extremes;
mod map;
mod mean;
mod number;
mod std_dev;
mod sum;
mod top_k;
mod tuples;

pub use aggregate::{Aggregate, Mergeable};
pub(crate) use closures::{Fold, Reduce};
pub use count::Count;
pub use extremes::{Comparable, Max, Min};
pub use map::Map;
pub use mean::Mean;
pub use number::{Number, Total};
pub use std_dev::StdDev;
pub use sum::Sum;
pub use top_k::TopK;

#[cfg(test)]
mod tests;
