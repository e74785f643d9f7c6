//! `aggregate` and `aggregate_hot` on keys of which some are hot.

use crate::Result;
use crate::keys::Keys;
use crate::setting::Setting;
use crate::table::Table;
use std::time::{Duration, Instant};

const KEYS: u64 = 100_000;
const UPDATES: u64 = 20_000_000;
/// The exponents of Zipf's law, and what they mean for the first key.
const EXPONENTS: [(&str, &str); 3] = [("0", "all keys alike"), ("1.2", "Zipf 1.2"), ("2", "Zipf 2")];
const KEPT: [&str; 2] = ["statistics", "statistics-hot"];

/// What a run took.
#[derive(Clone, Copy)]
struct Took {
    cpu: Duration,
    wall: Duration,
    results: u64,
}

/// Both in turn on every stream, and the best of the rounds.
pub fn take(setting: &Setting) -> Result<Table> {
    let head = ["keys", "first key", "step", "CPU s / M rows", "ratio", "M rows/s", "ratio"];
    let title = format!("{} M rows of {KEYS} keys, 2 workers, checkpoints every second", UPDATES / 1_000_000);
    let mut table = Table::new(title, &head);
    for (exponent, name) in EXPONENTS {
        let mut best: [Option<Took>; 2] = [None; 2];
        for _ in 0..setting.options.rounds.max(1) {
            for (best, kept) in best.iter_mut().zip(KEPT) {
                let took = run(setting, kept, exponent)?;
                *best = Some(best.map_or(took, |best| Took {
                    cpu: best.cpu.min(took.cpu),
                    wall: best.wall.min(took.wall),
                    ..took
                }));
            }
        }
        let [Some(one), Some(two)] = best else { continue };
        if one.results != two.results {
            return Err(format!("aggregate has {} results, aggregate_hot {}", one.results, two.results));
        }
        for (step, took) in ["aggregate", "aggregate_hot"].into_iter().zip([one, two]) {
            table.row(row(name, &share_of_first(exponent), step, &took, &one));
        }
    }
    table.note(
        "Windows of a million rows a partition, by key: count, sum and maximum of a number of 64 bits. The source draws the keys in \
         memory. CPU is that of the process by the kernel's account.",
    );
    Ok(table)
}

fn row(name: &str, share: &str, step: &str, took: &Took, one: &Took) -> Vec<String> {
    let millions = UPDATES as f64 / 1e6;
    let (cpu, wall) = (took.cpu.as_secs_f64(), took.wall.as_secs_f64());
    vec![
        name.to_owned(),
        share.to_owned(),
        step.to_owned(),
        format!("{:.3}", cpu / millions),
        format!("{:.2}", cpu / one.cpu.as_secs_f64()),
        format!("{:.2}", millions / wall),
        format!("{:.2}", one.wall.as_secs_f64() / wall),
    ]
}

/// The share of the records that the most frequent key has.
fn share_of_first(exponent: &str) -> String {
    let exponent: f64 = exponent.parse().unwrap_or(0.0);
    let sum: f64 = (1..=KEYS).map(|n| (n as f64).powf(-exponent)).sum();
    format!("{:.3} %", 100.0 / sum)
}

fn run(setting: &Setting, kept: &str, exponent: &str) -> Result<Took> {
    let flags = format!(
        "--kept {kept} --draw {exponent} --keys {KEYS} --updates {UPDATES} --rate 0 --seconds 3600 --partitions 2 \
         --parallelism 2 --memory 256MB --checkpoint-interval 1s"
    );
    let (mut cpu, began) = (Duration::ZERO, Instant::now());
    let notes = Keys::new(setting, &flags).run(|child| cpu = child.cpu().unwrap_or_default().max(cpu))?;
    Ok(Took { cpu, wall: began.elapsed(), results: notes.iter().map(|note| note.records).sum() })
}
