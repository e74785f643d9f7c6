//! Signals, and which processes run.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The number of a process.
pub type Pid = u32;

/// Sends a signal; to a process that has ended, in vain.
pub fn signal(pid: Pid, signal: libc::c_int) {
    // SAFETY: a system call without pointers.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// True if the process runs or is stopped, and is not merely waited for.
pub fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The processes whose executable lies under `dir`: executables of jobs lie in the data directories of taskmanagers.
pub fn executed_under(dir: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    let mut found: Vec<Pid> = pids
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(dir)))
        .filter(|pid| is_alive(*pid))
        .collect();
    found.sort_unstable();
    found
}

/// True if `name` is `prefix` and the number of a process that has ended, perhaps with more behind a dash: a thing that a
/// storm has left that was killed.
pub fn is_left_behind(name: &str, prefix: &str) -> bool {
    let pid = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse::<Pid>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Waits until `done`, at most for `patience`; true if so.
pub fn wait(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_living_storm_has_made_is_not_left_behind() {
        let mine = format!("storm-{}-host", std::process::id());
        assert!(!is_left_behind(&mine, "storm-"));
        assert!(is_left_behind("storm-4294967295-host", "storm-"));
        assert!(is_left_behind("storm-4294967295", "storm-"));
        assert!(!is_left_behind("bridge-4294967295", "storm-"));
    }
}
