//! Speed and memory as ratios against the bare loop.
//!
//! A figure of one machine says little about another; a ratio of two programs that ran in turn on the same
//! machine travels. So every figure here stands beside that of `bare`: the same job as a
//! loop by hand, one thread, no engine.
//!
//! | module | what it holds |
//! |---|---|
//! | [`measure`] | the measurements, one file each; add yours to its list |
//! | [`setting`] | the programs, the input and the directories of one bench run |
//! | [`child`], [`keys`] | a child that is looked at while it runs; runs of the job over synthetic keys |
//! | [`metrics`] | what a job tells of itself while it runs |
//! | [`cluster`], [`published`] | a cluster on this machine; when the output of its jobs became visible |
//! | [`by_hand`], [`consumer`] | the work of the job and the reading of a topic by hand, for the bare loops |
//! | [`topics`], [`stamped`] | brokers on this machine and topics for a measurement; when messages became visible |
//! | [`manifest`] | the manifests of a job's snapshots |
//! | [`process`] | CPU, wall time and peak memory of a child, from the kernel's accounts |
//! | [`quantile`] | the middle, the tail and the worst of a set of figures |
//! | [`table`], [`machine`] | what is printed: Markdown, with the machine it was measured on |
//!
//! A figure never fails a bench run; a program that fails, or writes something else than the bare loop, does.

pub mod by_hand;
pub mod child;
pub mod cluster;
pub mod consumer;
pub mod keys;
pub mod machine;
pub mod manifest;
pub mod measure;
pub mod metrics;
pub mod process;
pub mod published;
pub mod quantile;
pub mod setting;
pub mod stamped;
pub mod table;
pub mod topics;

/// What everything here returns: an error is a sentence for people.
pub type Result<T> = std::result::Result<T, String>;
