//! A sink a hundred times slower than its source: memory stays bounded and checkpoints go on.

use crate::Result;
use crate::keys::{self, Keys};
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::table::Table;

const FLAGS: &str =
    "--keys 10000 --partitions 2 --parallelism 2 --rate 0 --memory 256MB --checkpoint-interval 500ms";

/// A run at full speed, then one whose sink takes a hundredth of that.
pub fn take(setting: &Setting) -> Result<Table> {
    let head = ["sink", "rows/s", "peak MB", "checkpoints", "interval ms p50", "p99", "most"];
    let mut table =
        Table::new("A sink 100 times slower than its source, 20 s, a checkpoint every 500 ms", &head);
    let (rate, row) = run(setting, "as fast as it can", "--seconds 8")?;
    table.row(row);
    let slow = (rate / 100.0 / 2.0).max(1.0);
    table.row(run(setting, "100 times slower", &format!("--seconds 20 --sink-rate {slow:.0}"))?.1);
    table.note("Goal: memory stays bounded, and checkpoints go on.");
    Ok(table)
}

fn run(setting: &Setting, name: &str, more: &str) -> Result<(f64, Vec<String>)> {
    let mut peak = 0;
    let notes =
        Keys::new(setting, &format!("{FLAGS} {more}")).run(|child| peak = child.resident_peak().max(peak))?;
    let mut epochs: Vec<(u64, f64)> = notes.iter().map(|n| (n.epoch, n.age.as_secs_f64() * 1e3)).collect();
    epochs.dedup_by_key(|(epoch, _)| *epoch);
    let apart = Figures::of(epochs.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()));
    let rate = keys::rate(&notes);
    let cells =
        [name.into(), format!("{rate:.0}"), format!("{:.0}", peak as f64 / 1e6), epochs.len().to_string()];
    Ok((rate, cells.into_iter().chain(apart.cells()).collect()))
}
