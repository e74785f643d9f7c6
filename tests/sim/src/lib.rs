//! A seeded simulation of a cluster's control: the brain, its ledger, the checkpoint store, the taskmanagers and the job
//! processes, as state machines over a simulated network, disk and clock.
//!
//! [`run`] lets a storm of faults go over a small cluster, chosen by a seed, then heals it and waits until everything has
//! come to rest. After every step all invariants are checked. The same seed gives the same log.
//!
//! The brain and the taskmanagers' supervisors are the real ones. In reading order:
//!
//! - `random`, `queue`, `log`: chance, time, and what is told of them.
//! - `config`: what a seed chooses; `world`: everything there is, and its steps; `faults`: what goes wrong; `settle`: what
//!   must be at the end.
//! - `jobmanager`: the brain and its driver, with the ledger and the threads of the checkpoint store.
//! - `network`, `host`: the connections; a taskmanager. `process`: a job process, by the contract of the runtime.
//! - `store`: the checkpoint store; `outside`: the input and the published output, which is the truth.
//! - `users`: who submits jobs and wants savepoints, another parallelism, or the end.
//! - `invariants`: what must hold, a file each; `happening`: what they look at.
//!
//! Not here: bytes, files, sockets and threads, which the tests of `runtime`, `snapshots`, `taskmanager` and `tests/chaos`
//! use as they are; several jobmanagers.

mod config;
mod faults;
mod happening;
mod host;
mod invariants;
mod jobmanager;
mod log;
mod network;
mod outside;
mod process;
mod queue;
mod random;
mod settle;
mod show;
mod store;
mod users;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Broken, World};

/// Lines of the log that a failure shows.
const LINES: usize = 60;

/// What a seed has come to.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The invariant that does not hold.
    pub invariant: String,
    /// How it does not.
    pub what: String,
    /// The last lines of the log.
    pub log: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, invariant, what, log } = self;
        writeln!(f, "{log}")?;
        writeln!(f, "seed {seed} breaks the invariant '{invariant}': {what}")?;
        write!(
            f,
            "the same again: SIM_SEED={seed} cargo test --release -p tidegate-sim --test seeds -- --nocapture"
        )
    }
}

/// Runs a seed; returns its log, which is also printed line by line if wanted.
///
/// # Errors
/// The invariant that does not hold.
pub fn run(seed: u64, is_printed: bool) -> Result<String, Failure> {
    let mut world = World::new(seed, is_printed);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        world.storm()?;
        world.heal();
        world.must_settle()
    }));
    let Broken { invariant, what } = match ended {
        Ok(Ok(())) => return Ok(world.log.into_text()),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Broken { invariant: "nothing panics", what: text.unwrap_or_default() }
        }
    };
    let log = world.log.last(LINES).to_owned();
    Err(Failure { seed, invariant: invariant.to_owned(), what, log })
}
