//! Whole jobs in one process, with real checkpoints, crashes, restarts and other parallelisms, against naive oracles.

mod events;
mod processes;
mod watermarks;
mod windows;
