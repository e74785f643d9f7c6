//! A child process that is looked at while it runs.

use crate::Result;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How often it is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// A child that does not outlive the measurement.
pub struct Watched(Child);

impl Watched {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Watched> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map(Watched).map_err(|e| format!("cannot start {program}: {e}"))
    }

    /// True once the process has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Has `look` look every few milliseconds until the process ends, which must be with exit code 0.
    pub fn until_end(&mut self, patience: Duration, mut look: impl FnMut(&Watched)) -> Result<()> {
        let started = Instant::now();
        while !self.ended() {
            if started.elapsed() > patience {
                return Err(format!("still running after {:.0} s", patience.as_secs_f64()));
            }
            look(self);
            std::thread::sleep(GLANCE);
        }
        let status = self.0.wait().map_err(|e| format!("cannot wait for it: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("it failed: {status}")) }
    }

    /// Bytes that are resident now.
    pub fn resident(&self) -> u64 {
        1024 * self.proc("status", "VmRSS:")
    }

    /// The most bytes that were ever resident.
    pub fn resident_peak(&self) -> u64 {
        1024 * self.proc("status", "VmHWM:")
    }

    /// Bytes that it has had written to disk.
    pub fn written(&self) -> u64 {
        self.proc("io", "write_bytes:")
    }

    fn proc(&self, file: &str, field: &str) -> u64 {
        let path = format!("/proc/{}/{file}", self.0.id());
        let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
        value.and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
    }
}
