//! Memory beside an idle job of the same kind: windows and timers that are all due at once, and maps as state.

use crate::Result;
use crate::keys::Keys;
use crate::setting::Setting;
use crate::table::Table;
use std::time::Instant;

/// What is kept, how many keys, `--memory` in MB, and workers.
type Case = (&'static str, u64, u32, u32);

const CASES: &[Case] = &[
    ("windows", 1_000_000, 16, 1),
    ("windows", 1_000_000, 16, 2),
    ("exchanged-windows", 1_000_000, 16, 1),
    ("exchanged-windows", 1_000_000, 16, 2),
    ("timers", 1_000_000, 16, 1),
    ("timers", 1_000_000, 16, 2),
    ("timers", 10_000_000, 64, 1),
    ("timers", 10_000_000, 64, 2),
    ("cards", 1_000_000, 64, 2),
    ("cards", 1_000_000, 256, 2),
];

/// Updates of `cards`.
const PAYMENTS: u64 = 4_000_000;

/// Every case, and the same without much to do.
pub fn take(setting: &Setting) -> Result<Table> {
    let head = ["kept", "M keys", "memory MB", "workers", "peak MB", "above idle MB", "seconds"];
    let mut table = Table::new("Windows and timers that are due at once, and maps as state", &head);
    for case in CASES {
        table.row(row(setting, case)?);
    }
    table.note(
        "A window or a timer a key, all due at the end of the input; cards: 4 M payments with a million cards, kept in a \
         BTreeMap a card. Above idle: the peak less that of the same job with two keys and ten updates a second.",
    );
    table.note(
        "Goals: windows and timers at most 64 MB above idle; cards at most 1.3 times the memory and 100 MB.",
    );
    Ok(table)
}

fn row(setting: &Setting, case: &Case) -> Result<Vec<String>> {
    let &(kept, keys, memory, workers) = case;
    let updates = if kept == "cards" { PAYMENTS } else { keys };
    let (idle, _) = run(setting, case, "--keys 2 --rate 10 --seconds 2")?;
    let busy = format!("--keys {keys} --updates {updates} --rate 0 --seconds 3600");
    let (peak, seconds) = run(setting, case, &busy)?;
    Ok(vec![
        kept.into(),
        format!("{}", keys / 1_000_000),
        memory.to_string(),
        workers.to_string(),
        format!("{:.0}", peak as f64 / 1e6),
        format!("{:.0}", peak.saturating_sub(idle) as f64 / 1e6),
        format!("{seconds:.1}"),
    ])
}

/// The peak of a run, in bytes, and its time in seconds.
fn run(setting: &Setting, &(kept, _, memory, workers): &Case, input: &str) -> Result<(u64, f64)> {
    let flags = format!(
        "--kept {kept} {input} --bytes 16 --memory {memory}MB --parallelism {workers} --checkpoint-interval 1s"
    );
    let (mut peak, began) = (0, Instant::now());
    Keys::new(setting, &flags).run(|child| peak = child.resident_peak().max(peak))?;
    Ok((peak, began.elapsed().as_secs_f64()))
}
