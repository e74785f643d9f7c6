//! One trickling partition beside two full ones: it must not hold them up.

use crate::Result;
use crate::keys::{self, Keys};
use crate::setting::Setting;
use crate::table::Table;

const FLAGS: &str = "--keys 10000 --partitions 2 --parallelism 2 --rate 0 --seconds 8 --memory 256MB --checkpoint-interval 1s";

/// Runs in turn with and without it, and takes the best of each.
pub fn take(setting: &Setting) -> Result<Table> {
    let mut best = [0.0f64; 2];
    for _ in 0..setting.options.rounds.max(1) {
        for (best, more) in best.iter_mut().zip(["", " --trickle"]) {
            let notes = Keys::new(setting, &format!("{FLAGS}{more}")).run(|_| {})?;
            *best = best.max(keys::rate(&notes));
        }
    }
    let mut table =
        Table::new("A trickling partition beside two full ones", &["partitions", "M rows/s", "ratio"]);
    for (name, rate) in ["2 full", "2 full, 1 with 10 rows/s"].iter().zip(best) {
        table.row([(*name).into(), format!("{:.2}", rate / 1e6), format!("{:.2}", rate / best[0].max(1.0))]);
    }
    table.note("Goal: a ratio above 0.80.");
    Ok(table)
}
