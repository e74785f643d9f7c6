//! State larger than memory: what stays resident, what a checkpoint writes when one key in a hundred has changed, and
//! how long records wait for it.

use crate::Result;
use crate::keys::{self, Keys};
use crate::manifest::{self, Manifest};
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::table::Table;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// Keys of 100 bytes: 1 GB of state.
const KEYS: u64 = 10_000_000;
/// Seconds between checkpoints, in which one key in a hundred is updated.
const INTERVAL: u64 = 3;

/// New bytes and all bytes of every snapshot, by epoch.
type Snapshots = BTreeMap<u64, (u64, u64)>;

/// One run with a budget of a quarter of the state, one in which all fits.
pub fn take(setting: &Setting) -> Result<Table> {
    let head = [
        "memory",
        "peak MB",
        "updates/s",
        "state MB",
        "new in a checkpoint, %: p50",
        "mean",
        "most",
        "written to disk, %",
        "pause p50 ms",
        "p99",
        "most",
    ];
    let mut table = Table::new(
        format!("{} M keys of 100 bytes, 1 % updated between checkpoints", KEYS / 1_000_000),
        &head,
    );
    for memory in ["256MB", "4GB"] {
        table.row(run(setting, memory)?);
    }
    table.note(
        "A pause is the longest time without a record on a worker, between two barriers, with one barrier in it. \
         Written to disk counts all that the process has the kernel write, compaction included.",
    );
    table.note(
        "Goals: peak memory under 600 MB with 256MB; new in a checkpoint under 5 %; a pause (p99) under 50 ms.",
    );
    Ok(table)
}

fn run(setting: &Setting, memory: &str) -> Result<Vec<String>> {
    let flags = format!(
        "--keys {KEYS} --bytes 100 --partitions 2 --parallelism 2 --rate {} --seconds 90 --memory {memory} \
         --checkpoint-interval {INTERVAL}s",
        KEYS / 100 / INTERVAL
    );
    let (seen, peak) = (RefCell::new(Snapshots::new()), RefCell::new(0));
    let written = RefCell::new(BTreeMap::new());
    let run = Keys::new(setting, &flags);
    let notes = run.run(|child| {
        look(&run.checkpoints(), &mut seen.borrow_mut());
        let mut peak = peak.borrow_mut();
        *peak = child.resident_peak().max(*peak);
        if let Some((epoch, _)) = seen.borrow().last_key_value() {
            written.borrow_mut().entry(*epoch).or_insert_with(|| child.written());
        }
    })?;
    let churning = keys::churning(&notes);
    let (Some(first), Some(last)) = (churning.first(), churning.last()) else {
        return Err(format!("no whole epoch of updates with {memory}: give it more seconds"));
    };
    let snapshots: Vec<(u64, u64)> = seen.take().range(first.epoch..=last.epoch).map(|(_, s)| *s).collect();
    let state = snapshots.last().map_or(1, |s| s.1).max(1) as f64;
    let new = Figures::of(snapshots.iter().map(|s| 100.0 * s.0 as f64 / state));
    let all = written.take();
    let at: Vec<u64> = all.range(first.epoch..=last.epoch).map(|(_, w)| *w).collect();
    let disk = at.last().unwrap_or(&0) - at.first().unwrap_or(&0);
    let disk = 100.0 * disk as f64 / (at.len().max(2) - 1) as f64 / state;
    let pauses = Figures::of(churning.iter().map(|n| n.gap.as_secs_f64() * 1e3));
    let cells = [
        memory.into(),
        format!("{:.0}", *peak.borrow() as f64 / 1e6),
        format!("{:.0}", keys::rate(&churning)),
        format!("{:.0}", state / 1e6),
        format!("{:.1}", new.quantile(0.5)),
        format!("{:.1}", new.mean()),
        format!("{:.1}", new.max()),
        format!("{disk:.1}"),
    ];
    Ok(cells.into_iter().chain(pauses.cells()).collect())
}

/// Takes note of manifests that are new.
fn look(checkpoints: &Path, seen: &mut Snapshots) {
    for (epoch, path) in manifest::all(checkpoints) {
        if !seen.contains_key(&epoch)
            && let Some(sizes) = Manifest::read(&path, epoch).and_then(|manifest| manifest.state_bytes())
        {
            seen.insert(epoch, sizes);
        }
    }
}
