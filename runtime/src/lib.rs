//! Tidegate: a distributed dataflow runtime with exactly-once checkpointing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod alone;
mod chain;
mod cli;
pub mod clock;
pub mod connector;
mod dataflow;
mod element;
mod error;
pub mod fault;
mod key;
mod metrics;
mod metrics_server;
mod operators;
mod process;
mod process_fn;
mod record;
mod state;
mod stream;
mod terminal;
pub mod testing;
mod window;
mod worker;

pub use alone::summary::Summary;
pub use cli::main;
pub use error::{Context, Error, Fault, Result};
pub use key::Key;
pub use process_fn::{
    BroadcastContext, BroadcastProcess, KeyContext, KeyedProcess, ProcessContext, Time, Timer,
};
pub use record::Data;
pub use stream::keyed::Either;
pub use stream::{
    BroadcastConnected, Connected, Job, KeyedStream, OnError, Stream, Watermarks, WindowedStream,
};
pub use tidegate_protocol as protocol;
pub use window::{Aggregate, Sliding, Tumbling, Window, Windowed, Windows};
