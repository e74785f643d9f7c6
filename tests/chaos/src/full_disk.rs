//! A disk without room: a small tmpfs, filled to the last byte while the job runs.
//!
//! The job may end, non-zero, or stall; either way it says why, publishes nothing wrong, and goes on exactly
//! once there is room again.

use crate::driver::{self, Driver};
use crate::failure::{Context, Failure, Result};
use crate::job::Run;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Room of the small disk, while there is some.
const ROOM_MB: u64 = 128;
/// A job that has not ended by then has stalled.
const STALL: Duration = Duration::from_secs(10);
/// Words of which a job says one that has no room.
const NO_ROOM: [&str; 4] = ["no space", "disk full", "disk is full", "enospc"];

/// How many disks are filled.
pub const DISKS: usize = 2;

/// Fills the disk under the checkpoints, then the one under the output, or notes why that cannot be done here.
pub fn run(driver: &mut Driver) -> Result<()> {
    let bench = &driver.bench;
    let dirs: [_; DISKS] = [("checkpoints", bench.checkpoints.clone()), ("output", bench.output.clone())];
    for (what, dir) in &dirs {
        driver.clear()?;
        match SmallDisk::mount(dir)? {
            Ok(disk) => fill(driver, what, &disk)?,
            Err(reason) => {
                println!("  skipped   full disks: {reason}");
                driver.tally.skipped.push(format!("full disks ({reason})"));
                return Ok(());
            }
        }
    }
    driver.clear()
}

/// How a run without room ended.
enum Ended {
    Finished(Run),
    Failed,
    Waits(Run),
}

fn fill(driver: &mut Driver, what: &str, disk: &SmallDisk) -> Result<()> {
    let parallelism = driver.planner.parallelism();
    let mut run = driver.job.start(&driver.bench, parallelism)?;
    let watch = &mut driver.watch;
    // The first published file says that a checkpoint is complete: the next ones will want room.
    run.until(STALL, || watch.glance().map(|new| new > 0))?;
    run.paused(|| disk.fill())?;
    let ended = without_room(what, run)?;
    driver.tally.full_disks += usize::from(!matches!(ended, Ended::Finished(_)));
    driver.sound()?;
    disk.make_room()?;
    let run = match ended {
        Ended::Finished(run) => run,
        Ended::Failed => driver.run_out(parallelism)?,
        Ended::Waits(run) => recovered(driver, run)?,
    };
    driver.finished(&run, parallelism)
}

/// Sees the job end or stall for want of room.
fn without_room(what: &str, mut run: Run) -> Result<Ended> {
    let age = run.age() + STALL;
    let Some(status) = run.until(age, || Ok(false))? else {
        println!("  full disk {what}: the job waits for room");
        return said(&run, what).map(|()| Ended::Waits(run));
    };
    if status.success() {
        println!("  full disk {what}: the job needed no more room (give it more --rows)");
        return Ok(Ended::Finished(run));
    }
    println!("  full disk {what}: {status}");
    if status.signal().is_some() {
        return Err(Failure::new(format!("a full disk ({what}) crashes the job: {status}")));
    }
    said(&run, what).map(|()| Ended::Failed)
}

fn said(run: &Run, what: &str) -> Result<()> {
    if run.voice().mentions(&NO_ROOM) {
        return Ok(());
    }
    Err(Failure::new(format!("the disk of {what} is full, and the job does not say that there is no space")))
}

fn recovered(driver: &mut Driver, mut run: Run) -> Result<Run> {
    let age = run.age() + driver.options.patience();
    match run.until(age, || Ok(false))? {
        Some(status) if status.success() => Ok(run),
        Some(status) => Err(Failure::new(format!("the job waited for room, then failed: {status}"))),
        None => Err(driver::hangs(&run)),
    }
}

/// A tmpfs over a directory. Dropping it unmounts.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts it, or says why that cannot be done here.
    fn mount(dir: &Path) -> Result<std::result::Result<SmallDisk, String>> {
        fs::create_dir_all(dir).context(format!("cannot create {}", dir.display()))?;
        let size = format!("size={ROOM_MB}m");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tidegate-chaos"]).arg(dir).output();
        Ok(match done {
            Ok(done) if done.status.success() => Ok(SmallDisk { dir: dir.to_path_buf() }),
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                Err(format!("cannot mount a tmpfs: {}", said.lines().next().unwrap_or_default()))
            }
            Err(e) => Err(format!("cannot mount a tmpfs: {e}")),
        })
    }

    fn filler(&self) -> PathBuf {
        self.dir.join(".filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("cannot fill the small disk")?;
        for size in [1 << 20, 4 << 10, 1] {
            while put(&mut file, &vec![0; size])? {}
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot make room on the small disk")
    }
}

/// True if there was room.
fn put(file: &mut File, bytes: &[u8]) -> Result<bool> {
    match file.write_all(bytes) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::StorageFull => Ok(false),
        Err(e) => Err(e).context("cannot fill the small disk"),
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
