//! Whole jobs in one process, with real checkpoints, crashes, restarts and other parallelisms, against naive oracles.

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

mod checkpoints;
mod closures;
mod cut_firing;
mod drift;
mod event_time;
mod events;
mod failures;
mod golden;
mod hot_keys;
mod identity;
mod links;
mod memory;
mod pending;
mod process_functions;
mod same_dataflow;
mod slow_steps;
mod staged_output;
mod stops;
mod streams;
mod totals;
mod two_stages;
mod watermarks;
mod windows;
mod wire;
