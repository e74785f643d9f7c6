//! A daemon: a process that is killed, paused and started again.

use crate::cluster::processes::{self, Pid, signal};
use crate::failure::{Context, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A daemon that was asked to end may take so long.
const END: Duration = Duration::from_secs(20);

/// How a daemon is started, and its process, if it has one.
pub struct Daemon {
    /// What people call it.
    pub name: String,
    /// All that it has said, over all its starts.
    pub log: PathBuf,
    command: Command,
    child: Option<Child>,
}

impl Daemon {
    /// One that was not started yet.
    pub fn new(name: &str, mut command: Command, log: PathBuf) -> Daemon {
        // SAFETY: prctl is a system call without pointers here, and may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A daemon does not outlive the storm, however that ends.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Daemon { name: name.to_owned(), log, command, child: None }
    }

    /// Starts it, unless it runs.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let opened = File::options().create(true).append(true).open(&self.log);
        let log = opened.context(format!("cannot open {}", self.log.display()))?;
        let copy = log.try_clone().context("cannot share a log")?;
        self.command.stdin(Stdio::null()).stdout(copy).stderr(log);
        self.child = Some(self.command.spawn().context(format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// True if its process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process, if it runs.
    pub fn pid(&mut self) -> Option<Pid> {
        if self.is_running() { self.child.as_ref().map(Child::id) } else { None }
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        if let Some(pid) = self.pid() {
            signal(pid, libc::SIGSTOP);
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        if let Some(pid) = self.pid() {
            signal(pid, libc::SIGCONT);
        }
    }

    /// SIGTERM; false if it does not end upon that.
    pub fn end(&mut self) -> bool {
        self.resume();
        let Some(pid) = self.pid() else { return true };
        signal(pid, libc::SIGTERM);
        let ended = processes::wait(END, || !self.is_running());
        self.kill();
        ended
    }

    /// What it has said last.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        last_lines(&self.log, lines)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file.
pub fn last_lines(path: &std::path::Path, lines: usize) -> Vec<String> {
    let mut text = Vec::new();
    let _ = File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(end.saturating_sub(64 << 10)))?;
        file.read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}
