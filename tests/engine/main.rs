//! Whole jobs in one process, with real checkpoints, crashes, restarts and other parallelisms, against naive oracles.

mod checkpoints;
mod event_time;
mod events;
mod failures;
mod golden;
mod hostile_reader;
mod identity;
mod links;
mod memory;
mod processes;
mod same_dataflow;
mod slow_steps;
mod streams;
mod totals;
mod watermarks;
mod windows;
mod wire;
