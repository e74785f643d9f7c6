//! What can be seen of a process's threads from outside of them.
//!
//! A worker that waits in user code answers no message. So every operator chain writes where its code is into memory that
//! others may read ([`Activity`]), and so does a worker's store while the worker waits for it. The watchdog reads it. Between
//! processes that has to become messages of the thread that reads.
//!
//! - [`code`]: where the code of an operator chain, a snapshot thread or a publisher is.
//! - [`registry`]: all that can be seen of the threads of a process.

mod code;
mod registry;

pub(crate) use code::{Activity, Observation};
pub(crate) use registry::{ActivityRegistry, Alignment, StoreActivity, is_awaited};
