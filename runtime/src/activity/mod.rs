//! What other threads can observe of the threads of a process.
//!
//! A worker that waits in user code does not answer messages. So every operator chain writes the position of its code to
//! memory that other threads may read ([`Activity`]), and a worker's store writes whether the worker waits for it. The
//! watchdog reads both. Between processes the thread that reads would have to send them as messages.
//!
//! - [`code`]: where the code of an operator chain, a snapshot thread or a publisher is.
//! - [`keyed`]: how the records of keyed steps are distributed.
//! - [`partition`]: how far the partitions of a source are.
//! - [`registry`]: all that can be seen of the threads of a process.

mod code;
mod keyed;
mod partition;
mod registry;

pub(crate) use code::{Activity, Observation};
pub(crate) use keyed::KeyedActivity;
pub(crate) use partition::{PartitionActivity, PartitionWatermark, SourceActivity};
pub(crate) use registry::{ActivityRegistry, Alignment, StoreActivity, is_awaited};
