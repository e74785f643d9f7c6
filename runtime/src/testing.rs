//! For testing jobs: sources and sinks in memory, and a runner in which a test can stop, crash and restart a job.
//!
//! - [`collect`] runs a few steps to their end and returns what comes out: enough for most functions.
//! - [`VecSource`] and [`TestSource`] are sources: one is filled before the run, the other while it goes on.
//! - [`VecSink`] keeps what was published, and by which epoch; [`Discard`] keeps nothing.
//! - [`TestJob`] runs a whole job, with real checkpoints in a temporary directory; [`Running`] is a job under way, which
//!   can be stopped, or killed as by a crash, and started again from its last snapshot with any parallelism.
//! - [`crate::clock::ManualClock`] is a clock of processing time that the test sets.
//!
//! A job that survives a crash in the middle of its input, and is restarted with more workers:
//!
//! ```
//! use tidegate::aggregates::Count;
//! use tidegate::testing::{TestJob, TestSource, VecSink};
//!
//! let (words, counts) = (TestSource::new(1), VecSink::new());
//! let (source, sink) = (words.clone(), counts.clone());
//! let job = TestJob::new(move |job| {
//!     job.source("words", source.clone())
//!         .key_by_value(|word: &String| word.clone())
//!         .aggregate("count", Count)
//!         .sink("counts", sink.clone());
//!     Ok(())
//! });
//!
//! words.push(0, "tide".to_owned());
//! let running = job.start();
//! running.checkpoint();
//! words.push(0, "gate".to_owned());
//! running.kill();
//!
//! words.push(0, "tide".to_owned());
//! words.end();
//! let summary = job.parallelism(2).run()?;
//! assert_eq!(counts.sorted(), [("gate".to_owned(), 1), ("tide".to_owned(), 1), ("tide".to_owned(), 2)]);
//! assert_eq!((summary.rows_in, summary.restarts), (3, 1));
//! # Ok::<(), tidegate::Error>(())
//! ```

mod directory;
#[cfg(test)]
mod golden;
mod hostile;
mod job;
mod observer;
#[cfg(test)]
pub(crate) mod parts;
mod sink;
mod source;

pub use job::{Running, TestJob};
pub use sink::{Discard, VecSink};
pub use source::{Item, TestSource, VecSource};

use crate::api::{Job, Stream};
use tidegate_protocol::Result;

/// Runs a job with one worker to the end of its input and returns the records of the stream, in the order of publishing.
///
/// ```
/// use tidegate::testing::{VecSource, collect};
///
/// let out = collect(|job| Ok(job.source("numbers", VecSource::of([1, 2, 3])).map(|n| n * 10)))?;
/// assert_eq!(out, [10, 20, 30]);
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// # Errors
/// The error that ended the job.
pub fn collect<T: Clone + Send + 'static>(
    build: impl Fn(&mut Job) -> Result<Stream<T>> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let out = VecSink::new();
    let sink = out.clone();
    TestJob::new(move |job| {
        build(job)?.sink("out", sink.clone());
        Ok(())
    })
    .run()?;
    Ok(out.records())
}
