//! The file `pids.json`: which processes a cluster on this machine consists of.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_protocol::{Error, ErrorContext, Result};

use super::daemon::Daemon;

const NAME: &str = "pids.json";

/// The command that watches a cluster in the foreground.
pub(super) const WATCHER: &str = "tidegate cluster up";

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PidFile {
    /// The address of the jobmanager.
    pub(super) jobmanager: String,
    /// The daemons; before them the command that watches them, if one does.
    pub(super) processes: Vec<Process>,
}

/// A process, recognized by its number and its start, as numbers are used again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) pid: u32,
    /// In the kernel's ticks since the start of the machine.
    started: u64,
    /// Those of its command line, to start it again.
    #[serde(default)]
    pub(super) arguments: Vec<String>,
}

impl PidFile {
    /// The file of a cluster's directory, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(NAME);
        let doing = || format!("the file {} cannot be read", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).context(doing),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from(e).context(doing())),
        }
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let (path, new) = (directory.join(NAME), directory.join("pids.json.new"));
        let written =
            fs::write(&new, serde_json::to_vec_pretty(self)?).and_then(|()| fs::rename(&new, &path));
        written.context(|| format!("the file {} cannot be written", path.display()))
    }

    /// Removes the file; it may be gone already.
    pub(super) fn remove(directory: &Path) {
        let _ = fs::remove_file(directory.join(NAME));
    }

    /// The processes that run.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.is_alive())
    }

    /// The processes that have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| !process.is_alive())
    }

    /// True if a command in the foreground has started the daemons, which end with it.
    pub(super) fn is_watched(&self) -> bool {
        self.processes.iter().any(|process| process.name == WATCHER)
    }

    /// The number of taskmanagers.
    pub(super) fn taskmanagers(&self) -> u32 {
        self.processes.iter().filter(|process| process.name.starts_with("taskmanager")).count() as u32
    }

    /// Notes that a daemon was started again.
    pub(super) fn replace(&mut self, daemon: &Daemon) {
        if let Some(started) = Process::of_daemon(daemon)
            && let Some(ended) = self.processes.iter_mut().find(|process| process.name == daemon.name)
        {
            *ended = started;
        }
    }
}

impl Process {
    /// A process that runs; None if it has ended already.
    pub(super) fn of(name: &str, pid: u32, arguments: &[OsString]) -> Option<Self> {
        let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        Some(Self { name: name.to_owned(), pid, started: start_of(pid)?, arguments })
    }

    /// A daemon that was just started; None if it has ended already.
    pub(super) fn of_daemon(daemon: &Daemon) -> Option<Self> {
        Self::of(&daemon.name, daemon.pid(), &daemon.arguments)
    }

    fn is_alive(&self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// Sends a signal, if the process still runs.
    pub(super) fn signal(&self, signal: i32) {
        if self.is_alive() {
            super::daemon::signal(self.pid, signal);
        }
    }
}

/// When a process was started; None if it does not run.
fn start_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything. The state follows; the start is the 22nd field.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let is_zombie = fields.first() == Some(&"Z");
    if is_zombie { None } else { fields.get(19)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognized_by_its_start() {
        let own = Process::of("test", std::process::id(), &["--data".into()]).unwrap();
        assert!(own.is_alive());
        assert!(!Process { started: own.started + 1, ..own.clone() }.is_alive());
        assert!(Process::of("none", u32::MAX, &[]).is_none());
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(PidFile::read(directory.path()).unwrap(), None);
        let file = PidFile { jobmanager: "a:1".to_owned(), processes: vec![own] };
        file.write(directory.path()).unwrap();
        assert_eq!(PidFile::read(directory.path()).unwrap(), Some(file));
    }
}
