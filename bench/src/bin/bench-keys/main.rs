//! Jobs for measurements of state and flow: synthetic updates of many keys, something kept for every key ([`Kept`]), and
//! a sink that notes how evenly records come.
//!
//! Every partition first touches all of its keys once, then updates them again, key after key in a scattered order, at
//! a given rate until the time is over. Or all partitions draw their keys at random, some more often than others. Nothing is read
//! from disk, so what costs is the engine.

mod backlog;
mod cards;
mod probe;
mod reminders;
mod source;
mod value;
mod zipf;

use backlog::Backlog;
use cards::Cards;
use probe::Probe;
use reminders::Reminders;
use serde::{Deserialize, Serialize};
use source::Updates;
use std::path::PathBuf;
use std::time::Duration;
use tidegate::aggregates::{Count, Max, Sum};
use tidegate::{Error, Job, KeyedStream, Result, Stream, Tumbling, Watermarks, Windowed};
use tidegate_connectors::FileLog;
use value::Value;

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// What is kept for every key.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Kept {
    /// Nothing: every update is passed on
    Nothing,
    /// A running value, which goes on with every update
    Values,
    /// A value in one window, which ends with the input
    Windows,
    /// The same, and the values of the window are counted by key once more
    ExchangedWindows,
    /// Count, sum and greatest of short windows
    Statistics,
    /// The same in two steps
    StatisticsHot,
    /// A timer
    Timers,
    /// What was spent on a card, by time, in a map
    Cards,
    /// A value for every hour of a backlog
    Hours,
}

#[derive(clap::Args, Clone)]
struct Args {
    /// What is kept for every key.
    #[arg(long, value_enum, default_value = "values")]
    kept: Kept,
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
    /// Updates in all, at most.
    #[arg(long)]
    updates: Option<u64>,
    /// How the hours of a backlog lie in the partitions.
    #[arg(long, value_enum, default_value = "even")]
    backlog: Backlog,
    /// By how much event time a partition may be ahead of the others, in ms; 0 for no limit.
    #[arg(long, default_value_t = 3_600_000)]
    max_drift_ms: u64,
    /// Every partition draws its keys from all keys at random, the n-th with a weight of 1 / n^EXPONENT; 0 for all alike.
    #[arg(long, value_name = "EXPONENT", requires = "updates")]
    draw: Option<f64>,
    /// One more partition, with ten updates a second.
    #[arg(long)]
    trickle: bool,
    /// The sink takes no more than so many records a second and worker; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    sink_rate: u64,
    /// Where the sink writes a line an epoch and worker.
    #[arg(long, required_unless_present = "output")]
    probe: Option<PathBuf>,
    /// Every record is written to files in this directory instead.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    tidegate::main("bench-keys", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let updates = job.source("updates", Updates::new(args));
    let churned = match args.kept {
        Kept::Nothing => updates.map(|update| update.churn),
        Kept::Values => by_key(updates).aggregate("values", Value::of(args.bytes)).map(|(_, churn)| churn),
        Kept::Windows => windows(updates, args).map(|value| value.value),
        Kept::ExchangedWindows => {
            windows(updates, args).key_by(|value| &value.key).aggregate("count", Count).map(|(_, n)| n > 1)
        }
        Kept::Statistics => statistics(updates, args, false),
        Kept::StatisticsHot => statistics(updates, args, true),
        Kept::Timers => by_key(in_time(updates, args)).process("timers", Reminders).map(|()| false),
        Kept::Cards => by_key(updates).process("cards", Cards),
        Kept::Hours => {
            let hours = by_key(in_time(updates, args)).window(Tumbling::of(backlog::HOUR));
            hours.aggregate("hours", Value::of(args.bytes)).map(|value| value.value)
        }
    };
    match (&args.output, &args.probe) {
        (Some(directory), _) => drop(churned.sink("output", FileLog::sink(directory).json())),
        (None, Some(probe)) => drop(churned.sink("probe", Probe::new(probe, args.sink_rate))),
        (None, None) => return Err(Error::job("either --probe or --output must be given")),
    }
    Ok(())
}

fn by_key(updates: Stream<Update>) -> KeyedStream<u64, Update> {
    updates.key_by(|update| &update.key)
}

/// Event time is that of the backlog, or else the number of the update: it ends with the input.
fn in_time(updates: Stream<Update>, args: &Args) -> Stream<Update> {
    let drift = Some(args.max_drift_ms).filter(|ms| *ms > 0).map_or(Duration::MAX, Duration::from_millis);
    updates.event_time(|update| update.at as i64, Watermarks::monotonous().max_drift(drift))
}

/// One window over all time.
fn windows(updates: Stream<Update>, args: &Args) -> Stream<Windowed<u64, bool>> {
    let all = Tumbling::of(Duration::from_secs(1 << 31));
    by_key(in_time(updates, args)).window(all).aggregate("windows", Value::of(args.bytes))
}

/// Windows of a million updates of each partition.
fn statistics(updates: Stream<Update>, args: &Args, hot: bool) -> Stream<bool> {
    let windows = by_key(in_time(updates, args)).window(Tumbling::of(Duration::from_millis(1_000_000)));
    let number = |update: &Update| update.at;
    let all = (Count, Sum::of(number), Max::of(number));
    let all =
        if hot { windows.aggregate_hot("statistics", all) } else { windows.aggregate("statistics", all) };
    all.map(|statistics| statistics.value.0 > 1)
}

/// A change of one key's state.
#[derive(Serialize, Deserialize)]
struct Update {
    key: u64,
    /// Its event time.
    at: u64,
    /// True if the key has been touched before.
    churn: bool,
}
