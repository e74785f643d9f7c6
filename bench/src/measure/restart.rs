//! From kill -9 to new output: the job is killed at several points of a run over many devices, whose windows are
//! all open, and the time from the next start to the first newly published file is taken.

use crate::Result;
use crate::child::Watched;
use crate::setting::Setting;
use crate::table::Table;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A million devices: about 100 MB of open windows.
const INPUT: &[&str] = &["--devices", "1000000", "--rows-per-window", "2", "--rows", "6000000"];
/// Killed at these parts of an undisturbed run's time.
const POINTS: [f64; 3] = [0.4, 0.6, 0.8];
/// A restart that has published nothing by then is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs once undisturbed, then once for each point.
pub fn take(setting: &Setting) -> Result<Table> {
    let input = setting.input("restart-input", INPUT)?;
    let workers = setting.options.workers.last().copied().unwrap_or(1);
    setting.clear()?;
    let whole = setting.run_job(&input, workers)?.wall;
    let head = ["killed at", "ms to new output", "checkpoint MB"];
    let mut table = Table::new(format!("Restart, 1 M devices, {workers} workers"), &head);
    for part in POINTS {
        setting.clear()?;
        let (recovery, bytes) = killed_at(setting, &input, workers, whole.mul_f64(part))?;
        let ms = recovery.map_or("none".into(), |r| format!("{:.0}", r.as_secs_f64() * 1e3));
        table.row([format!("{:.0} %", part * 100.0), ms, format!("{:.0}", bytes as f64 / 1e6)]);
    }
    Ok(table)
}

/// The time from the second start to the first new file, and the bytes that the checkpoints take.
fn killed_at(
    setting: &Setting,
    input: &Path,
    workers: usize,
    age: Duration,
) -> Result<(Option<Duration>, u64)> {
    let mut first = Watched::start(&mut setting.job(input, workers))?;
    std::thread::sleep(age);
    first.kill();
    let (before, bytes) = (published(setting), size(&setting.path("checkpoints")));
    let started = Instant::now();
    let mut second = Watched::start(&mut setting.job(input, workers))?;
    while published(setting) == before {
        if started.elapsed() > PATIENCE || second.ended() {
            return Ok((None, bytes));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((Some(started.elapsed()), bytes))
}

/// Files that were ever published; dead letters tell as well as output does.
fn published(setting: &Setting) -> usize {
    setting.visible("output").len() + setting.visible("dead-letters").len()
}

/// Bytes of all files; one with several hard links counts once.
fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut files = std::collections::HashMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                Ok(meta) => drop(files.insert(meta.ino(), meta.len())),
                Err(_) => {}
            }
        }
    }
    files.values().sum()
}
