//! A child process and what it used, as the kernel accounts for it.

use crate::Result;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// What a process used from start to end.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
    /// The most memory that was resident, in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// The better of two runs of the same thing, figure by figure; of memory the worse.
    pub fn best(self, other: Usage) -> Usage {
        Usage {
            cpu: self.cpu.min(other.cpu),
            wall: self.wall.min(other.wall),
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

/// Runs a program to its end; anything but exit code 0 is an error.
pub fn run(command: &mut Command) -> Result<Usage> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let child = command.spawn().map_err(|e| format!("cannot start {program}: {e}"))?;
    let (status, mut usage) = wait(&child).map_err(|e| format!("cannot wait for {program}: {e}"))?;
    usage.wall = started.elapsed();
    if status.success() { Ok(usage) } else { Err(format!("{program} failed: {status}")) }
}

/// Waits for a child and takes its account; `wall` is left at zero.
fn wait(child: &Child) -> io::Result<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which all bits zero are a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call; the pid is of a child that nobody has waited for.
    let pid = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut used) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let cpu = span(used.ru_utime) + span(used.ru_stime);
    let peak_bytes = used.ru_maxrss as u64 * 1024;
    Ok((ExitStatus::from_raw(status), Usage { cpu, wall: Duration::ZERO, peak_bytes }))
}

/// The CPU time that this thread has used.
///
/// # Errors
/// If the kernel has no such clock.
pub fn cpu_of_this_thread() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return Err(format!("no clock of the thread's CPU time: {}", io::Error::last_os_error()));
    }
    Ok(Duration::from_secs(time.tv_sec as u64) + Duration::from_nanos(time.tv_nsec as u64))
}

fn span(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_child_is_accounted_for() {
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let usage = run(Command::new("sh").args(["-c", busy])).expect("a shell");
        assert!(usage.cpu > Duration::from_millis(10) && usage.peak_bytes > 100_000);
    }

    #[test]
    fn a_child_that_fails_is_an_error() {
        assert!(
            run(Command::new("sh").args(["-c", "exit 3"])).expect_err("a failure").contains("exit status: 3")
        );
    }
}
