//! Tidegate: a distributed dataflow runtime with exactly-once checkpointing.
//!
//! A job describes one dataflow; this one counts the alarms of every device by the minute, and tests itself:
//!
//! ```
//! use std::time::Duration;
//! use tidegate::aggregates::Count;
//! use tidegate::testing::{TestJob, VecSink, VecSource};
//! use tidegate::{Tumbling, Watermarks};
//!
//! let readings = VecSource::of([("pump", 1_000, 71.5), ("pump", 2_000, 98.0), ("fan", 61_000, 99.5)]);
//! let out = VecSink::new();
//! let sink = out.clone();
//! let job = TestJob::new(move |job| {
//!     job.source("readings", readings.clone())
//!         .filter(|r| r.2 > 90.0).named("cool")
//!         .map(|r| (r.0.to_owned(), r.1))
//!         .event_time(|r| r.1, Watermarks::bounded(Duration::from_secs(2)))
//!         .key_by(|r| &r.0)
//!         .window(Tumbling::of(Duration::from_secs(60)))
//!         .aggregate("alarms", Count)
//!         .map(|w| (w.key, w.window.start, w.value))
//!         .sink("minutes", sink.clone());
//!     Ok(())
//! });
//! let summary = job.parallelism(2).run()?;
//! assert_eq!(out.sorted(), [("fan".to_owned(), 60_000, 1), ("pump".to_owned(), 0, 1)]);
//! assert_eq!((summary.rows_in, summary.dropped["cool"]), (3, 1));
//! # Ok::<(), tidegate::Error>(())
//! ```
//!
//! As a program of its own, a job's `main` is one call of [`main`], which gives it a command line, checkpoints, metrics and
//! a clean stop:
//!
//! ```no_run
//! use tidegate::testing::{Discard, VecSource};
//! use tidegate::{Job, Result};
//!
//! /// Lets small numbers through
//! #[derive(clap::Args)]
//! struct Args {
//!     /// The largest number that is small.
//!     #[arg(long, default_value_t = 10)]
//!     limit: u32,
//! }
//!
//! fn main() -> Result<()> {
//!     tidegate::main("small-numbers", build)
//! }
//!
//! fn build(job: &mut Job, args: &Args) -> Result<()> {
//!     let limit = args.limit;
//!     job.source("numbers", VecSource::of(0..100)).filter(move |n| *n <= limit).sink("small", Discard::named("small"));
//!     Ok(())
//! }
//! ```
//!
//! Start with [`Job::source`] and [`Stream`]; [`connector`] is for implementing a source or a sink, [`testing`] for testing
//! a job.
//!
//! # The allocator
//!
//! A program chooses its own global allocator. Tidegate's own jobs use `MiMalloc`, and `make new` writes it into a project.
//! It is compiled only with the feature `mimalloc`, which is on by default.

mod activity;
pub mod aggregates;
mod allocator;
mod api;
mod attempt;
mod checkpoint;
pub mod clock;
mod cluster;
mod data;
mod dataflow;
mod exit;
mod fingerprint;
#[doc(hidden)]
pub mod internals;
mod job_process;
mod key;
mod key_context;
mod keyed_process;
mod link;
mod local;
mod metrics;
mod operators;
mod panics;
mod shell;
mod state;
mod step;
pub mod testing;
mod thread_group;
mod timer;
mod watermark;
mod window;
mod working_directory;

#[cfg(feature = "mimalloc")]
pub use allocator::MiMalloc;
pub use shell::cli::main;

pub use aggregates::{Aggregate, Mergeable};
pub use api::{
    BroadcastConnected, Connected, Either, Job, KeyedStream, Sink, Stream, Watermarks, WindowedStream,
};
pub use data::Data;
pub use key::Key;
pub use key_context::{KeyContext, KeyTimers, Output, Times, ValueState};
pub use keyed_process::{BroadcastContext, BroadcastProcess, Context, KeyedProcess};
pub use local::summary::Summary;
pub use operators::error_route::OnError;

pub use tidegate_connector_api as connector;
pub use tidegate_failpoint as failpoint;
pub use tidegate_protocol as protocol;
pub use tidegate_protocol::{Error, ErrorContext, ErrorKind, Result};
pub use timer::{TimeDomain, Timer};
pub use window::{Sliding, Tumbling, Window, Windowed, Windows};
