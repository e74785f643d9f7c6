//! A daemon that runs as a child process, with its log in a file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGKILL, SIGTERM};
use tidegate_protocol::{ErrorContext, Result};

/// How long a daemon may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The time between two looks at a process that is to end.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);

/// How much is shown of the log of a daemon that has ended.
const TAIL_LINES: usize = 5;
const TAIL_BYTES: u64 = 4096;

/// A daemon.
pub(super) struct Daemon {
    /// For people: `taskmanager 2`.
    pub(super) name: String,
    /// Those of its command line.
    pub(super) arguments: Vec<OsString>,
    child: Child,
    log: PathBuf,
    /// The length of the log before the start.
    log_start: u64,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts a daemon in a session of its own, so that Ctrl-C in the terminal does not reach it. If it is not detached, the
    /// kernel ends it together with this process.
    pub(super) fn start(
        name: &str,
        log: PathBuf,
        arguments: Vec<OsString>,
        is_detached: bool,
    ) -> Result<Self> {
        let starting = || format!("the {name} cannot be started");
        let writing = || format!("the log {} cannot be written", log.display());
        let file = File::options().create(true).append(true).open(&log).context(writing)?;
        let log_start = file.metadata().context(writing)?.len();
        let program = std::env::current_exe().context(starting)?;
        let mut command = Command::new(program);
        command.args(&arguments).stdin(Stdio::null());
        command.stdout(file.try_clone().context(writing)?).stderr(file);
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                if !is_detached && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().context(starting)?;
        Ok(Self { name: name.to_owned(), arguments, child, log, log_start, ended: None })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Says how it has ended, with the end of its log.
    pub(super) fn obituary(&self) -> String {
        let status = self.ended.map_or_else(String::new, |status| format!(" with {status}"));
        let tail = tail(&self.log, self.log_start);
        let what = format!("the {} has ended{status}; its log is {}", self.name, self.log.display());
        if tail.is_empty() { what } else { format!("{what} and ends:\n{tail}") }
    }
}

/// Stops daemons: asks them to end, and kills those that do not.
pub(super) fn stop(daemons: &mut [Daemon]) {
    let mut alive = |each: &mut dyn FnMut(&Daemon)| {
        let running = daemons.iter_mut().filter_map(|daemon| daemon.ended().is_none().then_some(&*daemon));
        running.map(each).count() > 0
    };
    // Not yet waited for: the number of the process is not used again.
    alive(&mut |daemon| signal(daemon.pid(), SIGTERM));
    let asked = Instant::now();
    while alive(&mut |_| ()) && asked.elapsed() < PATIENCE {
        thread::sleep(INTERVAL);
    }
    alive(&mut |daemon| signal(daemon.pid(), SIGKILL));
    while alive(&mut |_| ()) {
        thread::sleep(INTERVAL);
    }
}

/// Sends a signal to a process.
pub(super) fn signal(pid: u32, signal: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: kill has no effect on the memory of this process.
    unsafe { libc::kill(pid, signal) };
}

/// The last lines of a log, of those that were written since the daemon's start.
fn tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = fs::metadata(log)?.len();
        let from = start.max(length.saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
