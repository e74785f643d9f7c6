//! The execution of the dataflow: the only module that depends on timely.
//!
//! A job's streams are chains of functions over batches. Everything between two exchanges runs in one timely operator,
//! called an *operator chain*: a source with the stages behind it, or a keyed operator with its stages and sinks. So a
//! record passes through timely only where it moves to another worker.
//!
//! - [`timestamp`]: the timestamp, an epoch and a tick in one number.
//! - [`batch`]: the batches that travel on an edge, and the pool that their buffers come from and are returned to.
//! - [`flow`]: how many records may be on their way; [`sockets`], [`peers`]: the connections to the other processes of the
//!   attempt, and what they tell each other beside the dataflow; [`lost_peers`]: how a broken one is noticed.
//! - [`wire`]: a batch as bytes; [`passage`]: how a batch has crossed as bytes, if it has;
//!   `abomonated`, with the feature `abomonation`: records as they lie in memory.
//! - [`partitioner`]: the sending half of an edge: routes records, ends batches, puts watermarks behind them.
//! - [`port`]: the typed ends of edges: batches that wait to be processed or for a later epoch, and batches that are sent.
//! - [`pace`]: how many records are given to user code at a time.
//! - [`operator_chain`]: one operator chain: its operators, its barrier; [`running`]: how it runs as a timely operator.
//! - [`operator`]: the members of an operator chain that take part in barriers; [`outlet`]: how its
//!   functions are connected.
//! - [`error_site`]: what an operator chain is doing, for the message if it fails.
//! - [`drift`]: watermark alignment: how far a partition may be ahead of the others of its source.
//! - [`pacing`]: the loop of an operator chain that reads a source: pacing, ticks, triggers.
//! - [`alarm`]: how an operator schedules itself for a later time.
//! - [`graph`]: operator chains and edges of one worker, and how they become timely operators.
//! - [`worker`]: the worker threads; [`process`], [`worker_context`], [`step_context`]: what they, the operators of a
//!   worker and the code of a step share; [`wakers`]: wakes sources from other threads.
//!
//! Invariant: an operator chain forwards everything of an epoch, watermarks included, before its capability leaves the
//! epoch. So at a barrier every receiver has received the same watermarks, whatever the parallelism.

#[cfg(feature = "abomonation")]
pub(crate) mod abomonated;
pub(crate) mod alarm;
pub(crate) mod batch;
pub(crate) mod drift;
pub(crate) mod error_site;
mod flow;
pub(crate) mod graph;
pub(crate) mod lost_peers;
pub(crate) mod operator;
pub(crate) mod operator_chain;
pub(crate) mod outlet;
pub(crate) mod pace;
pub(crate) mod pacing;
pub(crate) mod partitioner;
pub(crate) mod passage;
pub(crate) mod peers;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod running;
pub(crate) mod sockets;
pub(crate) mod step_context;
pub(crate) mod timestamp;
pub(crate) mod wakers;
pub(crate) mod wire;
pub(crate) mod worker;
pub(crate) mod worker_context;
