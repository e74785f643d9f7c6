//! A backlog whose partitions are read at different speeds of event time: how much is kept, and what that costs.

use crate::Result;
use crate::keys::Keys;
use crate::metrics;
use crate::setting::Setting;
use crate::table::Table;
use std::time::{Duration, Instant};

/// Keys, each in every one of 16 hours: so many are kept for an hour of event time.
const KEYS: u64 = 125_000;
/// Updates in all, whatever the backlog.
const UPDATES: f64 = 10e6;
/// What is run: memory for keyed state, how the hours lie in the partitions, and whether partitions wait for each other.
const RUNS: &[(&str, &str, bool)] = &[
    ("4GB", "even", false),
    ("4GB", "even", true),
    ("4GB", "skewed", false),
    ("4GB", "skewed", true),
    ("4GB", "consecutive", false),
    ("4GB", "consecutive", true),
    ("256MB", "skewed", false),
    ("256MB", "skewed", true),
];

/// The least time, CPU and memory of a few rounds.
struct Best {
    time: Duration,
    cpu: Duration,
    peak: u64,
    /// The most keys that were seen in memory in any round.
    keys: f64,
}

/// Runs all in turn.
pub fn take(setting: &Setting) -> Result<Table> {
    let none = || Best { time: Duration::MAX, cpu: Duration::MAX, peak: u64::MAX, keys: 0.0 };
    let mut best: Vec<Best> = RUNS.iter().map(|_| none()).collect();
    for _ in 0..setting.options.rounds.max(1) {
        for (best, run) in best.iter_mut().zip(RUNS) {
            take_one(setting, *run, best)?;
        }
    }
    let title = "A backlog of 16 hours with 125,000 keys an hour, 4 partitions, 2 workers";
    let head =
        ["memory", "partitions", "max drift", "keys kept", "CPU s / M updates", "M updates/s", "peak MB"];
    let mut table = Table::new(title, &head);
    for ((memory, backlog, is_aligned), best) in RUNS.iter().zip(best) {
        table.row([
            (*memory).to_owned(),
            (*backlog).to_owned(),
            if *is_aligned { "1 h" } else { "none" }.to_owned(),
            format!("{:.0}", best.keys),
            format!("{:.3}", best.cpu.as_secs_f64() / UPDATES * 1e6),
            format!("{:.2}", UPDATES / 1e6 / best.time.as_secs_f64()),
            format!("{:.0}", best.peak as f64 / 1e6),
        ]);
    }
    table.note(
        "Skewed: two partitions have nine times as many updates of an hour as the two others. Consecutive: every partition has \
         four hours of its own. Keys kept: the most that were seen in memory at a time, asked every 20 ms.",
    );
    table.note(
        "Goal: with a greatest drift of an hour, no backlog keeps more than 3 times the keys of an hour.",
    );
    Ok(table)
}

fn take_one(
    setting: &Setting,
    (memory, backlog, is_aligned): (&str, &str, bool),
    best: &mut Best,
) -> Result<()> {
    let (address, drift) = (metrics::free_address()?, if is_aligned { 3_600_000 } else { 0 });
    let flags = format!(
        "--kept hours --backlog {backlog} --max-drift-ms {drift} --keys {KEYS} --bytes 100 --partitions 4 --parallelism 2 \
         --rate 0 --seconds 1800 --memory {memory} --checkpoint-interval 1s --metrics {address}"
    );
    let (began, mut cpu, mut peak) = (Instant::now(), Duration::ZERO, 0);
    Keys::new(setting, &flags).run(|child| {
        cpu = child.cpu().unwrap_or_default().max(cpu);
        peak = child.resident_peak().max(peak);
        let keys = metrics::sum(&metrics::of(address).unwrap_or_default(), "tidegate_state_entries");
        best.keys = best.keys.max(keys);
    })?;
    best.time = best.time.min(began.elapsed());
    best.cpu = best.cpu.min(cpu);
    best.peak = best.peak.min(peak);
    Ok(())
}
