//! A job for measurements of state and flow: synthetic updates of many keys, a running value a key, and a sink that
//! notes how evenly records come.
//!
//! Every partition first touches all of its keys once, then updates them again, key after key in a scattered order, at
//! a given rate until the time is over. Nothing is read from disk, so what costs is the engine.

mod probe;
mod source;

use probe::Probe;
use serde::{Deserialize, Serialize};
use source::Updates;
use std::cell::Cell;
use std::path::PathBuf;
use tidegate::{Aggregate, Job, Result};

#[derive(clap::Args, Clone)]
struct Args {
    /// Keys in all.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a key's state, the key included.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Partitions that share the keys.
    #[arg(long, default_value_t = 2)]
    partitions: u64,
    /// Updates a second after all keys have been touched, all partitions together; 0 for as many as possible.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Seconds of updates.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// One more partition, with ten updates a second.
    #[arg(long)]
    trickle: bool,
    /// The sink takes no more than so many records a second and worker; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    sink_rate: u64,
    /// Where the sink writes a line an epoch and worker.
    #[arg(long)]
    probe: PathBuf,
}

fn main() -> Result<()> {
    tidegate::main("bench-keys", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    job.source("updates", Updates::new(args))
        .key_by(|update| &update.key)
        .aggregate("values", Value::of(args.bytes))
        .map(|(_, churn)| churn)
        .sink("probe", Probe::new(&args.probe, args.sink_rate));
    Ok(())
}

/// Bytes that a count takes in the state store, at most.
const COUNT_BYTES: usize = 3;

/// A change of one key's state.
#[derive(Serialize, Deserialize)]
struct Update {
    key: u64,
    /// True if the key has been touched before.
    churn: bool,
}

/// Counts the updates of a key, and carries bytes along that do not compress.
struct Value {
    filler: usize,
    seed: Cell<u64>,
}

impl Value {
    fn of(bytes: usize) -> Value {
        Value {
            filler: bytes.saturating_sub(size_of::<u64>() + COUNT_BYTES),
            seed: Cell::new(0x2545_f491_4f6c_dd1d),
        }
    }

    /// The next number of a xorshift generator (Marsaglia 2003).
    fn noise(&self) -> u64 {
        let mut x = self.seed.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed.set(x);
        x
    }
}

#[derive(Serialize, Deserialize)]
struct Counted {
    updates: u32,
    filler: Box<[u8]>,
}

impl Aggregate<Update> for Value {
    type Acc = (Counted, bool);
    type Out = bool;

    fn create(&self) -> Self::Acc {
        let words = (0..self.filler.div_ceil(8)).flat_map(|_| self.noise().to_le_bytes());
        (Counted { updates: 0, filler: words.take(self.filler).collect() }, false)
    }

    fn add(&self, (counted, churn): &mut Self::Acc, update: &Update) {
        counted.updates += 1;
        *churn = update.churn;
    }

    fn finish(&self, (_, churn): &Self::Acc) -> bool {
        *churn
    }
}
