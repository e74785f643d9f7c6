//! The engine room: the only module that knows timely.
//!
//! A job's streams are chains of functions over batches. Everything between two exchanges lives in one timely operator,
//! called a *host* here: a source with the stages behind it, or a keyed operator with its stages and sinks. So a record
//! meets a timely operator only where it changes the worker.
//!
//! - [`time`]: the timestamp, an epoch and a tick in one number.
//! - [`batch`]: what travels on an edge, and the pool that its buffers come from and go home to.
//! - [`wire`]: a batch as bytes.
//! - [`outbox`]: the sending half of an edge: routes records, ends batches, puts watermarks behind them.
//! - [`port`]: the typed ends of edges: what waits for its turn or for a later epoch, what goes out.
//! - [`pace`]: how many records are given to user code at a time.
//! - [`host`]: one operator host: its elements, its barrier.
//! - [`place`]: where the code of a host is, for whoever looks from another thread.
//! - [`whereabouts`]: what a host is doing, for the message if it fails.
//! - [`source`]: the loop of a host that reads a source: pacing, ticks, triggers.
//! - [`alarm`]: how an operator has itself scheduled later.
//! - [`graph`]: hosts and edges of one worker, and how they become timely operators.
//! - [`worker`]: the threads.
//!
//! Invariant: a host forwards everything of an epoch, watermarks included, before its capability leaves the epoch. So at
//! a barrier every receiver has heard the same watermarks, whatever the parallelism.

pub(crate) mod alarm;
pub(crate) mod batch;
pub(crate) mod graph;
pub(crate) mod host;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod place;
pub(crate) mod port;
pub(crate) mod source;
pub(crate) mod time;
pub(crate) mod whereabouts;
pub(crate) mod wire;
pub(crate) mod worker;
