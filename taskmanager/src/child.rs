//! A process of the operating system: how it is started, killed and waited for.
//!
//! It is the leader of a process group, which is killed as a whole. The kernel kills the process when the thread that has
//! started it ends (`PR_SET_PDEATHSIG`): the thread must live as long as the process may.
//!
//! The program is executed by `execve` and not in the usual way, because `execvp` gives a file that the kernel cannot
//! execute to `/bin/sh`: an executable for another processor would be read as a script.

use std::ffi::{CString, OsStr, OsString};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_protocol::process::{SOCKET_VARIABLE, TEMPORARY};

/// The lowest number of a job process's socket, above those that a program may expect to be something else.
const SOCKET_NUMBER_MIN: i32 = 100;
/// How often a file is executed that another process has open for writing.
const BUSY_TRIES: u32 = 20;

/// A process that was started and is waited for by [`Child::wait`].
#[derive(Debug)]
pub(crate) struct Child {
    pid: i32,
    /// None after the process was waited for: from then on its number may be that of another process.
    process: Mutex<Option<std::process::Child>>,
}

/// What a process is started with.
pub(crate) struct Start<'a> {
    pub(crate) executable: &'a Path,
    /// What it is told to be called; None for the path.
    pub(crate) name: Option<&'a str>,
    pub(crate) arguments: Vec<OsString>,
    /// Environment variables beside those of this process, which they outweigh.
    pub(crate) variables: &'a [(&'static str, OsString)],
    /// The directory that it runs in.
    pub(crate) working: &'a Path,
    /// Its end of the socket to the taskmanager.
    pub(crate) socket: Option<OwnedFd>,
}

/// A process that was just started.
pub(crate) struct Started {
    pub(crate) child: Arc<Child>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Start<'_> {
    /// Starts the process.
    pub(crate) fn start(self) -> Result<Started> {
        let mut tries = 0;
        let mut process = loop {
            match self.command()?.spawn() {
                // A child that was forked while the executable was being written has it open until it executes its own.
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) && tries < BUSY_TRIES => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                spawned => break spawned?,
            }
        };
        let missing = || Error::other("a pipe is missing");
        let stdout = process.stdout.take().ok_or_else(missing)?;
        let stderr = process.stderr.take().ok_or_else(missing)?;
        let pid = i32::try_from(process.id()).map_err(Error::other)?;
        Ok(Started { child: Arc::new(Child { pid, process: Mutex::new(Some(process)) }), stdout, stderr })
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.executable);
        command.current_dir(self.working).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let socket = self.socket.as_ref().map(above_others).transpose()?;
        let execute = self.execute(socket.as_ref().map(AsRawFd::as_raw_fd))?;
        let parent = std::process::id();
        let in_child = move || {
            // The command keeps it open until the child has its copy.
            let number = socket.as_ref().map(AsRawFd::as_raw_fd);
            // SAFETY: system calls without pointers.
            unsafe {
                if number.is_some_and(|number| libc::fcntl(number, libc::F_SETFD, 0) != 0)
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) != 0
                {
                    return Err(Error::last_os_error());
                }
                // Had the taskmanager ended before the line above, no signal would come.
                if u32::try_from(libc::getppid()) != Ok(parent) {
                    return Err(Error::from_raw_os_error(libc::ESRCH));
                }
            }
            Err(execute.run())
        };
        // SAFETY: between fork and exec the closure makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(in_child) };
        Ok(command)
    }

    fn execute(&self, socket: Option<i32>) -> Result<Execute> {
        let text = |text: &OsStr| CString::new(text.as_bytes());
        let path = text(self.executable.as_os_str())?;
        let mut arguments = vec![self.name.map_or_else(|| Ok(path.clone()), CString::new)?];
        for argument in &self.arguments {
            arguments.push(text(argument)?);
        }
        let is_set = |name: &OsString| self.variables.iter().any(|(other, _)| name == other);
        let is_other = |(name, _): &(OsString, OsString)| name != SOCKET_VARIABLE && !is_set(name);
        let set = self.variables.iter().map(|(name, value)| (OsString::from(name), value.clone()));
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os().filter(is_other).chain(set) {
            environment.push(CString::new([name.into_vec(), value.into_vec()].join(&b'='))?);
        }
        if let Some(socket) = socket {
            environment.push(CString::new(format!("{SOCKET_VARIABLE}={socket}"))?);
        }
        Ok(Execute::new(path, arguments, environment))
    }
}

/// The arguments of `execve`, made before the fork.
struct Execute {
    path: CString,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// What the pointers point to.
    _texts: Vec<CString>,
}

// SAFETY: the pointers are to texts that it owns and nobody changes.
unsafe impl Send for Execute {}
// SAFETY: as above.
unsafe impl Sync for Execute {}

impl Execute {
    fn new(path: CString, arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        let pointers = |texts: &[CString]| {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let lists = (pointers(&arguments), pointers(&environment));
        let texts = arguments.into_iter().chain(environment).collect();
        Self { path, arguments: lists.0, environment: lists.1, _texts: texts }
    }

    /// Returns only if the file cannot be executed.
    fn run(&self) -> Error {
        // SAFETY: a text that ends with 0, and lists of such texts that end with null.
        unsafe { libc::execve(self.path.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
        Error::last_os_error()
    }
}

/// A copy of a descriptor with a high number, closed by exec.
fn above_others(socket: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: a system call without pointers, on a descriptor that is open.
    let number = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, SOCKET_NUMBER_MIN) };
    if number < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Child {
    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Kills the process and its group, if it was not waited for.
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if process.is_some() {
            self.kill_group();
        }
    }

    fn kill_group(&self) {
        // SAFETY: a system call without pointers. The group is that of a process that was not waited for.
        unsafe { libc::kill(-self.pid, libc::SIGKILL) };
    }

    /// Waits for the end of the process, and kills what it has left in its group.
    pub(crate) fn wait(&self) -> Result<ExitStatus> {
        self.wait_for_end()?;
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        self.kill_group();
        let Some(mut process) = process.take() else {
            return Err(Error::other("the process was waited for before"));
        };
        process.wait()
    }

    /// Waits for the end, and leaves the process waitable.
    fn wait_for_end(&self) -> Result<()> {
        loop {
            let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
            let flags = libc::WEXITED | libc::WNOWAIT;
            // SAFETY: the pointer is to memory of the right size, which is not read afterwards.
            if unsafe { libc::waitid(libc::P_PID, self.pid(), info.as_mut_ptr(), flags) } == 0 {
                return Ok(());
            }
            let error = Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Signals that a process gets for what its own code does.
const OWN_SIGNALS: [i32; 6] =
    [libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

/// Exit codes of a program that could not be executed, or whose libraries are not on this host.
const NOT_EXECUTED: [i32; 2] = [126, 127];

/// Whether the code of a process has ended it.
pub(crate) fn is_by_itself(status: ExitStatus) -> bool {
    match (status.code(), status.signal()) {
        (Some(code), _) => code != TEMPORARY && !NOT_EXECUTED.contains(&code),
        (None, signal) => signal.is_some_and(|signal| OWN_SIGNALS.contains(&signal)),
    }
}

/// How a process has ended, as the end of a sentence.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match signal_hook::low_level::signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
