//! Kills, failpoints and damaged files, checked by an independent oracle.
//!
//! A job is started, killed at a random instant or step, and started again, with another parallelism where
//! chance says so, until it reaches the end of its input. After every kill all that is visible must be right;
//! at the end it must be complete. Nothing here knows the engine: it knows a command line and files.
//!
//! | module | what it answers |
//! |---|---|
//! | [`oracle`] | what must come out, computed naively from the input alone |
//! | [`judge`] | does what is visible agree: missing, duplicate, wrong, extra |
//! | [`watch`] | did a visible file ever change, vanish or show half a line |
//! | [`summary`] | are the totals that the job tells exact |
//! | [`job`], [`workbench`] | the process under test, and the directories it works in |
//! | [`plan`] | what happens to the next run, drawn from the seed |
//! | [`driver`], [`report`] | the loop: run, kill, look, damage, run again; what was done |
//! | [`damage`], [`refused`] | torn, flipped and lost files of a snapshot; snapshots that cannot be completed |
//! | [`full_disk`] | a disk without room |
//! | [`topics`] | topics, as their writers and readers see them |
//! | [`cluster`] | a storm over a real cluster, with brokers or without: kills, pauses, partitions, damage; the same oracle and judge |
//!
//! The seed is the bug report: every failure prints the command that repeats its schedule.

pub mod cluster;
pub mod damage;
pub mod driver;
pub mod failure;
pub mod full_disk;
pub mod job;
pub mod judge;
pub mod options;
pub mod oracle;
pub mod plan;
pub mod refused;
pub mod report;
pub mod rng;
pub mod summary;
pub mod topics;
pub mod visible;
pub mod watch;
pub mod workbench;

pub use driver::Driver;
pub use failure::{Context, Failure, Result};
pub use options::Options;
pub use oracle::Oracle;
