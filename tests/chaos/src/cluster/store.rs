//! The checkpoint store's disk: a small tmpfs that can be filled, and hidden for a while.
//!
//! Where nothing can be mounted, the store is a plain directory: it cannot be filled, and is moved aside to hide it.

use crate::cluster::processes::is_left_behind;
use crate::failure::{Context, Failure, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Room of the disk, while there is some: the executable, and snapshots of a few jobs.
const ROOM_MB: u64 = 512;
/// Mounts are called by this and the process number of the storm.
const PREFIX: &str = "tidegate-storm-";

/// The directory of the checkpoint store. Dropping it unmounts what was mounted.
pub struct Store {
    dir: PathBuf,
    is_mounted: bool,
    is_hidden: bool,
}

impl Store {
    /// Makes the store, on a disk of its own if `mounts`.
    pub fn new(dir: &Path, mounts: bool) -> Result<Store> {
        fs::create_dir_all(dir).context(format!("cannot create {}", dir.display()))?;
        if mounts {
            unmount_stale();
            mount(dir, &format!("size={ROOM_MB}m"))?;
        }
        Ok(Store { dir: dir.to_path_buf(), is_mounted: mounts, is_hidden: false })
    }

    /// Says why nothing can be mounted here, by trying.
    pub fn cannot_mount(dir: &Path) -> Option<String> {
        let trial = dir.join("trial-mount");
        let tried = fs::create_dir_all(&trial).context("cannot create a directory");
        let tried = tried.and_then(|()| mount(&trial, "size=1m")).and_then(|()| unmount(&trial));
        let _ = fs::remove_dir(&trial);
        tried.err().map(|failure| failure.to_string())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes all the room that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("cannot fill the store's disk")?;
        for size in [1 << 20, 4 << 10, 1] {
            while put(&mut file, &vec![0; size])? {}
        }
        Ok(())
    }

    /// Takes what room there is again. What the cluster deletes makes room.
    pub fn fill_up(&self) -> Result<()> {
        let opened = File::options().append(true).open(self.filler());
        let mut file = opened.context("cannot fill the store's disk")?;
        while put(&mut file, &[0; 4 << 10])? {}
        Ok(())
    }

    /// Gives the room back.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot make room on the store's disk")
    }

    fn filler(&self) -> PathBuf {
        self.dir.join(".filler")
    }

    fn aside(&self) -> PathBuf {
        self.dir.with_extension("aside")
    }

    /// Hides it: its path is an empty directory that nothing can be written to, or nothing at all.
    pub fn hide(&mut self) -> Result<()> {
        if self.is_mounted {
            mount(&self.dir, "size=1m,ro")?;
        } else {
            fs::rename(&self.dir, self.aside()).context("cannot move the store aside")?;
        }
        self.is_hidden = true;
        Ok(())
    }

    /// Shows it again as it was. What was written to its path meanwhile is lost.
    pub fn show(&mut self) -> Result<()> {
        if !self.is_hidden {
            return Ok(());
        }
        if self.is_mounted {
            unmount(&self.dir)?;
        } else {
            match fs::remove_dir_all(&self.dir) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    Err(e).context(format!("cannot delete {}", self.dir.display()))?
                }
                _ => {}
            }
            fs::rename(self.aside(), &self.dir).context("cannot move the store back")?;
        }
        self.is_hidden = false;
        Ok(())
    }

    /// Copies it to where it stays when the disk is unmounted.
    pub fn preserve(&mut self, to: &Path) -> Result<()> {
        self.show()?;
        if self.is_mounted {
            let _ = fs::remove_file(self.filler());
            let done =
                Command::new("cp").arg("-a").arg(&self.dir).arg(to).output().context("cannot run cp")?;
            if !done.status.success() {
                return Err(Failure::new(format!("cp: {}", String::from_utf8_lossy(&done.stderr).trim())));
            }
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.show();
        if self.is_mounted {
            let _ = unmount(&self.dir);
        }
    }
}

fn mount(dir: &Path, options: &str) -> Result<()> {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, &format!("{PREFIX}{}", std::process::id())]).arg(dir);
    run(command, "mount a tmpfs")
}

/// Lazily: processes may have files open below.
fn unmount(dir: &Path) -> Result<()> {
    let mut command = Command::new("umount");
    command.arg("-l").arg(dir);
    run(command, "unmount a tmpfs")
}

/// Unmounts what storms have left that were killed.
fn unmount_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let words = mounts.lines().filter_map(|line| line.split_once(' '));
    for (_, rest) in words.filter(|(name, _)| is_left_behind(name, PREFIX)) {
        let _ = unmount(Path::new(rest.split(' ').next().unwrap_or_default()));
    }
}

fn run(mut command: Command, what: &str) -> Result<()> {
    let done = command.output().context(format!("cannot {what}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(Failure::new(format!("cannot {what}: {}", said.lines().next().unwrap_or_default())))
}

/// True if there was room.
fn put(file: &mut File, bytes: &[u8]) -> Result<bool> {
    match file.write_all(bytes) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::StorageFull => Ok(false),
        Err(e) => Err(e).context("cannot fill the store's disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_hidden_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store");
        let mut store = Store::new(&path, false).expect("a store");
        fs::write(path.join("manifest"), "m").expect("written");
        store.hide().expect("hidden");
        assert!(!path.exists());
        fs::create_dir_all(path.join("written/meanwhile")).expect("written");
        store.show().expect("shown");
        assert_eq!(fs::read_to_string(path.join("manifest")).expect("back"), "m");
        assert!(!path.join("written").exists());
    }
}
