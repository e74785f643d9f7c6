//! A clock for each host, which can be set back without touching the clock of the machine.
//!
//! A small library (`clock.c`) is compiled by the C compiler that RocksDB needs anyway, and loaded into a host's processes
//! before libc. It adds to the time of day what stands in a file of the host; monotonic clocks stay as they are. The
//! timestamps of files are the kernel's, and stay right, as on a file server.

use crate::failure::{Context, Failure, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const SOURCE: &str = include_str!("clock.c");

/// The library, ready to be loaded.
#[derive(Debug, Clone)]
pub struct ClockLibrary {
    path: PathBuf,
}

impl ClockLibrary {
    /// Compiles it into `dir`, and sees that it works.
    pub fn compile(dir: &Path) -> Result<ClockLibrary> {
        let (source, path) = (dir.join("clock.c"), dir.join("clock.so"));
        fs::write(&source, SOURCE).context(format!("cannot write {}", source.display()))?;
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&path).arg(&source).args(["-ldl", "-lpthread"]);
        let done = command.output().context(format!("cannot run {compiler}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(Failure::new(format!(
                "{compiler} fails: {}",
                said.lines().next().unwrap_or_default()
            )));
        }
        let library = ClockLibrary { path };
        library.try_out(dir)?;
        Ok(library)
    }

    /// A program that is told another time must believe it.
    fn try_out(&self, dir: &Path) -> Result<()> {
        let clock = Clock::new(dir, "trial", self)?;
        clock.set(-1_000_000)?;
        let mut command = Command::new("date");
        clock.apply(&mut command);
        let done = command.arg("+%s").output().context("cannot run date")?;
        let told = String::from_utf8_lossy(&done.stdout).trim().parse::<u64>().unwrap_or(u64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match now.checked_sub(told) {
            Some(900_000..1_100_000) => Ok(()),
            _ => Err(Failure::new("programs here do not take their time from libc")),
        }
    }
}

/// The clock of one host.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right.
    pub fn new(dir: &Path, host: &str, library: &ClockLibrary) -> Result<Clock> {
        let clock = Clock { library: library.path.clone(), file: dir.join(format!("{host}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Has a process, and all that it starts, live by this clock.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("TIDEGATE_STORM_CLOCK", &self.file);
    }

    /// Moves it by so many seconds from the right time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        use std::os::unix::fs::FileExt;
        // The file is written in place, because processes have it mapped.
        let mut open = fs::OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(&self.file);
        let file = file.context(format!("cannot open {}", self.file.display()))?;
        file.write_all_at(&seconds.to_ne_bytes(), 0).context("cannot set a clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The compiler is there: this program's own dependencies need it.
    #[test]
    fn a_clock_is_set_back_for_its_own_processes_only() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        ClockLibrary::compile(dir.path()).expect("compiles and works");
    }
}
