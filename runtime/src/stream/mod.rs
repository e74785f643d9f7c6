//! What a job author writes: streams, from sources through steps to sinks.
//!
//! - [`job`]: the job that is being described, and its sources.
//! - [`plain`]: streams of records without a key.
//! - [`keyed`]: streams with a key: windows, reductions, functions with state.
//! - [`outline`]: what was described, as a list that can be compared.
//! - [`event_time`]: how event time and watermarks are made.

pub(crate) mod event_time;
pub(crate) mod job;
pub(crate) mod keyed;
pub(crate) mod outline;
pub(crate) mod plain;

pub use event_time::Watermarks;
pub use job::{Job, Sink};
pub use keyed::{BroadcastConnected, Connected, KeyedStream, WindowedStream};
pub use plain::Stream;
