//! What a job author writes: streams, from sources through steps to sinks.
//!
//! - [`job`]: the job that is being described, and its sources.
//! - [`plain`]: streams of records without a key.
//! - [`keyed`]: streams with a key: windows, reductions, functions with state.
//! - [`windowed`], [`connected`], [`broadcast`]: what a keyed stream becomes with windows, or together with another stream.
//! - [`keyed_operator`]: what all of these have in common, an operator behind an exchange by key.
//! - [`outline`]: what was described, as a list that can be compared.
//! - [`event_time`]: how event time and watermarks are made.

mod broadcast;
pub(crate) mod connected;
pub(crate) mod event_time;
pub(crate) mod job;
pub(crate) mod keyed;
mod keyed_operator;
pub(crate) mod outline;
pub(crate) mod plain;
mod windowed;

pub use broadcast::BroadcastConnected;
pub use connected::{Connected, Either};
pub use event_time::Watermarks;
pub use job::{Job, Sink};
pub use keyed::KeyedStream;
pub use plain::Stream;
pub use windowed::WindowedStream;
