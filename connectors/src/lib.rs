//! Sources and sinks for Tidegate jobs.
//!
//! There is one connector so far: [`file_log`], a directory of files of JSON lines, read with [`FileLog::partitions`]
//! and written with [`FileLog::sink`]. It is also the example to follow for a connector of your own: everything here is
//! built on the public traits of [`tidegate_connector_api`].

pub mod file_log;
mod format;

pub use file_log::FileLog;

/// Runs the source and the sink that the documentation shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/connectors.md")]
mod documentation {}
