//! What a followed job costs while nothing comes in.

use crate::Result;
use crate::child::Watched;
use crate::manifest::Manifest;
use crate::setting::Setting;
use crate::table::Table;
use std::time::{Duration, Instant};

const ROWS: u64 = 100_000;
const INPUT: &[&str] = &["--rows", "100000", "--devices", "1000", "--partitions", "4"];
const INTERVAL: &str = "1s";
/// How long it is watched.
const SPAN: Duration = Duration::from_secs(15);
/// So many checkpoints after the one with all rows, the last of what they brought is done with.
const QUIET: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the job read all that there is, with each number of workers, and then watches it do nothing.
pub fn take(setting: &Setting) -> Result<Table> {
    let input = setting.input("idle-input", INPUT)?;
    let head = ["workers", "% of a core", "checkpoints"];
    let title = format!("No input for {} s, a checkpoint every {INTERVAL}", SPAN.as_secs());
    let mut table = Table::new(title, &head);
    for workers in &setting.options.workers {
        setting.clear()?;
        let mut job = Watched::start(setting.job_every(INTERVAL, &input, *workers).arg("--follow"))?;
        job.until(PATIENCE, || snapshot(setting).1 >= ROWS)?;
        let quiet = snapshot(setting).0 + QUIET;
        job.until(PATIENCE, || snapshot(setting).0 >= quiet)?;
        let (epoch, cpu, started) = (snapshot(setting).0, job.cpu()?, Instant::now());
        std::thread::sleep(SPAN);
        let share = (job.cpu()? - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
        let checkpoints = snapshot(setting).0 - epoch;
        table.row([workers.to_string(), format!("{:.2}", 100.0 * share), checkpoints.to_string()]);
    }
    setting.clear()?;
    table.note("Goal: under 2 %.");
    Ok(table)
}

/// The newest snapshot's epoch, and how many rows it has.
fn snapshot(setting: &Setting) -> (u64, u64) {
    let newest = Manifest::newest(&setting.path("checkpoints"));
    newest.map_or((0, 0), |manifest| (manifest.epoch(), manifest.records_in("readings")))
}
