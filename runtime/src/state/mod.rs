//! Keyed state: tables in memory over RocksDB, and how they become part of a snapshot.
//!
//! - [`table`]: keys and values in memory, with a list of what changed since the last barrier.
//! - [`slab`], [`index`]: what a table is made of: entries at fixed places, and places by hash.
//! - [`store`]: one RocksDB a worker, which holds what was changed at earlier barriers and what does not fit in memory.
//! - [`engine`]: RocksDB as it is set up for this.
//! - [`timers`]: timers, by time and key.
//! - [`barriers`]: how far a worker's operator chains are with the running barrier, in one place.
//! - [`budget`]: how much memory the tables of a worker may take.
//! - [`weight`]: what a value takes on the heap.

pub(crate) mod barriers;
pub(crate) mod budget;
pub(crate) mod engine;
pub(crate) mod index;
pub(crate) mod slab;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod timers;
pub(crate) mod weight;
