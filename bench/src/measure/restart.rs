//! From kill -9 to new output: the job is killed with a window of many devices open, and the time from the next start to
//! the first newly published file of output is taken.
//!
//! The windows of all devices end at the same time, and then all state goes out at once. So one partition with few
//! devices lags behind the others, a window earlier: the large window stays open, and what comes out after the restart is
//! the small one that is nearly over. The other partitions have rows to catch up with, too, whose state is on disk: how
//! long that takes is told beside it.

use crate::Result;
use crate::child::Watched;
use crate::manifest::Manifest;
use crate::setting::Setting;
use crate::table::Table;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Devices with state.
const DEVICES: [u64; 3] = [400_000, 800_000, 1_600_000];
/// Rows to catch up with.
const BACKLOG: u64 = 600_000;
/// The partitions of the large window, which begins two seconds before: rows are so much out of order.
const LARGE: [&str; 4] = ["--partitions", "3", "--rows-per-window", "2"];
const LARGE_START: [&str; 2] = ["--start-time", "1700000102000"];
/// The partition that lags behind; 30,000 rows are a window.
const SMALL: [&str; 6] = ["--partitions", "1", "--devices", "1000", "--rows-per-window", "30"];
const SMALL_START: [&str; 2] = ["--start-time", "1699999800000"];
const SMALL_ROWS: u64 = 29_700;
const SMALL_REST: u64 = 3_000;
/// What has not come by then is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills and restarts the job once for each number of devices.
pub fn take(setting: &Setting) -> Result<Table> {
    let workers = setting.options.workers.last().copied().unwrap_or(1);
    let caught_up = format!("ms to {BACKLOG} rows more");
    let head = ["devices", "state MB", "ms to new output", &caught_up];
    let mut table = Table::new(format!("Restart from kill -9, {workers} workers"), &head);
    for devices in DEVICES {
        setting.clear()?;
        let Restart { state, output, caught_up } = restarted(setting, devices, workers)?;
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        table.row([devices.to_string(), format!("{:.0}", state as f64 / 1e6), ms(output), ms(caught_up)]);
    }
    setting.clear()?;
    table.note("Goal: under 1 s to new output with 100 MB of state.");
    Ok(table)
}

/// Bytes of state in the last snapshot before the kill, and times from the second start.
struct Restart {
    state: u64,
    output: Duration,
    caught_up: Duration,
}

fn restarted(setting: &Setting, devices: u64, workers: usize) -> Result<Restart> {
    let input = Input { setting, devices: devices.to_string() };
    let (dir, rows) = input.generate(devices * 9 / 5)?;
    let start = || Watched::start(setting.job(&dir, workers).arg("--follow"));
    let newest = || Manifest::newest(&setting.path("checkpoints"));
    let has = |rows| newest().is_some_and(|manifest| manifest.records_in("readings") >= rows);
    let mut first = start()?;
    first.until(PATIENCE, || has(rows))?;
    // With one snapshot more its output is published: nothing is left that the restart would find ready.
    let epoch = newest().map(|manifest| manifest.epoch());
    first.until(PATIENCE, || newest().map(|manifest| manifest.epoch()) > epoch)?;
    first.kill();
    let state = newest().and_then(|manifest| manifest.state_bytes()).ok_or("the last snapshot is gone")?.1;
    let rows = rows + input.append()?;
    let published = || setting.visible("output").len();
    let (files, started) = (published(), Instant::now());
    let mut second = start()?;
    second.until(PATIENCE, || published() > files)?;
    let output = started.elapsed();
    second.until(PATIENCE, || has(rows))?;
    Ok(Restart { state, output, caught_up: started.elapsed() })
}

struct Input<'a> {
    setting: &'a Setting,
    devices: String,
}

impl Input<'_> {
    /// Its directory, and how many rows it has.
    fn generate(&self, rows: u64) -> Result<(PathBuf, u64)> {
        let (rows_of_large, rows_of_small) = (rows.to_string(), SMALL_ROWS.to_string());
        let large = [&self.large()[..], &LARGE_START, &["--rows", &rows_of_large]].concat();
        let dir = self.setting.input("restart-input", &large)?;
        let small = [&SMALL[..], &SMALL_START, &["--rows", &rows_of_small]].concat();
        let small = self.setting.input("restart-small", &small)?;
        // One file under two names, so that rows can be added to either of the two inputs.
        fs::hard_link(small.join("part-0.jsonl"), dir.join("part-3.jsonl"))
            .map_err(|e| format!("cannot link the partition that lags behind: {e}"))?;
        Ok((dir, rows + SMALL_ROWS))
    }

    /// What comes while the job is dead: the rest of the small window, and rows of the large one. Returns how many.
    fn append(&self) -> Result<u64> {
        let (rows_of_large, rows_of_small) = (BACKLOG.to_string(), SMALL_REST.to_string());
        let small = [&SMALL[..], &["--rows", &rows_of_small]].concat();
        self.setting.append(&self.setting.path("restart-small"), &small)?;
        let large = [&self.large()[..], &["--rows", &rows_of_large]].concat();
        self.setting.append(&self.setting.path("restart-input"), &large)?;
        Ok(SMALL_REST + BACKLOG)
    }

    fn large(&self) -> Vec<&str> {
        [&LARGE[..], &["--devices", &self.devices]].concat()
    }
}
