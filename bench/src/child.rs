//! A child process that is looked at while it runs.

use crate::Result;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How often it is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How often something is looked for whose time is taken.
const POLL: Duration = Duration::from_millis(1);

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

    /// Waits until `there` is true; the process must not end before.
    pub fn until(&mut self, patience: Duration, mut there: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        while !there() {
            if self.ended() {
                return Err("it ended before what was waited for".into());
            }
            if started.elapsed() > patience {
                return Err(format!("not there after {:.0} s", patience.as_secs_f64()));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
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

    /// The CPU time of all its threads, those that have ended too, by the kernel's account.
    pub fn cpu(&self) -> Result<Duration> {
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local that outlives the call.
        let known = unsafe { libc::clock_getcpuclockid(self.0.id() as libc::pid_t, &mut clock) } == 0;
        // SAFETY: as above.
        if known && unsafe { libc::clock_gettime(clock, &mut time) } == 0 {
            return Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
        }
        Err("cannot tell the CPU time of the process: it has ended".into())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Bytes that are resident now.
    pub fn resident(&self) -> u64 {
        1024 * self.proc("status", "VmRSS:")
    }

    /// Bytes that are resident now, where a page that several processes use is divided among them.
    pub fn resident_share(&self) -> u64 {
        1024 * self.proc("smaps_rollup", "Pss:")
    }

    /// The most bytes that were ever resident.
    pub fn resident_peak(&self) -> u64 {
        1024 * self.proc("status", "VmHWM:")
    }

    /// Bytes that it has had written to disk.
    pub fn written(&self) -> u64 {
        self.proc("io", "write_bytes:")
    }

    /// The CPU time of the children that it has waited for, theirs included.
    pub fn cpu_of_children(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // The name of the program, in brackets, may have blanks. The third field follows it.
        let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok());
        // SAFETY: sysconf has no pointers.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
        Duration::from_secs_f64(ticks.sum::<u64>() as f64 / per_second as f64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_children_is_known_once_they_have_ended() {
        let busy = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; sleep 60";
        let parent = Watched::start(Command::new("sh").args(["-c", busy])).expect("a shell");
        let began = Instant::now();
        while parent.cpu_of_children() < Duration::from_millis(50) {
            assert!(began.elapsed() < Duration::from_secs(60), "a child has ended that was busy");
            std::thread::yield_now();
        }
        assert!(parent.cpu().expect("it runs") < parent.cpu_of_children());
    }

    #[test]
    fn cpu_time_is_that_of_the_child() {
        let mut idle = Watched::start(Command::new("sleep").arg("60")).expect("sleep");
        let busy = Watched::start(Command::new("sh").args(["-c", "while :; do :; done"])).expect("a shell");
        let used = |child: &Watched| child.cpu().expect("it runs");
        let began = Instant::now();
        while used(&busy) < Duration::from_millis(50) {
            assert!(began.elapsed() < Duration::from_secs(60), "a busy child uses CPU");
            std::thread::yield_now();
        }
        assert!(used(&idle) < Duration::from_millis(50));
        idle.kill();
        idle.cpu().expect_err("it has ended");
        idle.until(Duration::from_secs(60), || false).expect_err("it has ended");
    }
}
