//! The interface of a job's program to its user: a command line, a terminal, metrics over HTTP.
//!
//! - [`cli`]: flags, signals, the exit code.
//! - [`logging`]: the log, on standard error.
//! - [`terminal`]: notes and the progress line.
//! - [`metrics_server`]: metrics in Prometheus' text format.

pub(crate) mod cli;
pub(crate) mod logging;
mod metrics_server;
mod terminal;
