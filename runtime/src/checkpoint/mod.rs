//! From a barrier to published output: the part of a checkpoint that happens in a process with workers.
//!
//! - [`collector`]: collects the parts that the operator chains hand over at a barrier, and sends them to the snapshot
//!   thread.
//! - [`snapshot_thread`]: makes a worker's part of a snapshot durable while the dataflow goes on, and acknowledges it.
//! - [`staged_files`]: where staged output is kept that has no place of its own.
//! - [`staged_outputs`]: what is staged and waits for its snapshot to be complete.
//! - [`publishers`]: make the output of a complete snapshot visible; [`job_sink`]: a sink as they see it.
//! - [`committers`]: tell others how far complete snapshots have read.
//! - [`readiness`]: what a slot waits for before its first checkpoint.
//! - [`recovery`]: what happens to the targets of sinks before an attempt starts.
//!
//! Not here: when a checkpoint starts or is complete (the control brain), what an operator hands over
//! ([`crate::dataflow::operator`]), the layout of snapshots (the crate `tidegate-snapshots`).

pub(crate) mod collector;
pub(crate) mod committers;
pub(crate) mod job_sink;
pub(crate) mod publishers;
pub(crate) mod readiness;
pub(crate) mod recovery;
pub(crate) mod snapshot_thread;
pub(crate) mod staged_files;
pub(crate) mod staged_outputs;
