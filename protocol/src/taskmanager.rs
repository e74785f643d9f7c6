//! What a taskmanager exchanges with the jobmanager.
//!
//! A taskmanager connects to the jobmanager, says who it is and which processes it runs ([`FromTaskManager::Register`]), and
//! is told which of them belong to an attempt that is over ([`ToTaskManager::Kill`]). From then on it starts and ends
//! processes as it is told, and passes messages between them and the jobmanager on.
//!
//! Messages on one connection arrive once and in order. If the connection breaks, those on their way are lost, in both
//! directions: after the next registration both sides begin with what they know, and every message states a complete fact.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ids::{Attempt, Epoch, JobId, Slot, TaskManagerId};
use crate::plan::Plan;
use crate::process::{FromJobProcess, Preparation, ToJobProcess};

/// A process of a job: the first of its slots tells it from the others of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The slot of the first worker.
    pub first: Slot,
}

/// An executable, as a taskmanager starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// What its user calls it, for messages.
    pub name: String,
    /// The SHA-256 of the executable, in hexadecimal digits.
    pub sha256: String,
    /// Where the checkpoint store keeps it.
    pub path: String,
    /// The command line arguments.
    pub arguments: Vec<String>,
    /// The directory to which relative paths in the arguments refer: that of the user who has submitted the job. On a host
    /// without it the program runs in a directory of the taskmanager.
    #[serde(default)]
    pub directory: Option<String>,
}

impl Program {
    /// The directory in which the program runs; `own` if the user's is not on this host.
    pub fn directory_or<'a>(&'a self, own: &'a Path, is_there: impl Fn(&Path) -> bool) -> &'a Path {
        let users = self.directory.as_deref().map(Path::new);
        users.filter(|directory| is_there(directory)).unwrap_or(own)
    }
}

/// A message of the jobmanager to a taskmanager.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToTaskManager {
    /// The registration was accepted.
    Registered {
        /// Milliseconds without a message after which the other side is taken for lost.
        lease_ms: u64,
    },
    /// Have an executable describe its job.
    Describe {
        /// The number of the request, for the answer.
        request: u64,
        /// The executable.
        program: Program,
    },
    /// Start a process. Processes of older attempts of the job are killed before.
    Launch {
        /// The executable.
        program: Program,
        /// Its first message. The taskmanager fills in `working`, `listen` and `silence_ms`.
        preparation: Box<Preparation>,
    },
    /// A message for a process.
    ToProcess {
        /// The process.
        process: ProcessId,
        /// The message.
        message: Box<ToJobProcess>,
    },
    /// End all processes of a job that belong to this attempt or an older one.
    Kill {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: Attempt,
    },
    /// The last lines of the logs of a job's processes are wanted.
    Logs {
        /// The number of the request, for the answer.
        request: u64,
        /// The job.
        job: JobId,
        /// The attempt; None for the last one that the taskmanager has a log of.
        attempt: Option<Attempt>,
        /// Where to go on, for a log that is followed: the position that the last answer gave.
        from: Option<u64>,
        /// The greatest number of bytes wanted.
        bytes: u64,
    },
    /// The jobmanager lives.
    Ping,
}

/// A message of a taskmanager to the jobmanager.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromTaskManager {
    /// The first message on a connection.
    Register(Box<Registration>),
    /// The answer to [`ToTaskManager::Describe`].
    Described {
        /// The number of the request.
        request: u64,
        /// The plan, or why there is none.
        result: Result<Box<Plan>, Error>,
    },
    /// A process was started.
    Started {
        /// The process.
        process: ProcessId,
        /// Its number in the operating system.
        pid: u32,
    },
    /// A message of a process.
    FromProcess {
        /// The process.
        process: ProcessId,
        /// The message.
        message: Box<FromJobProcess>,
    },
    /// A process has ended, or could not be started.
    Exited {
        /// The process.
        process: ProcessId,
        /// How.
        how: HowEnded,
    },
    /// The answer to [`ToTaskManager::Logs`].
    Logs {
        /// The number of the request.
        request: u64,
        /// The lines; empty if there is no such log.
        text: String,
        /// The position behind the text.
        position: u64,
    },
    /// The taskmanager lives.
    Pong,
}

/// A taskmanager, and what runs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// Who it is; the same after a restart.
    pub id: TaskManagerId,
    /// The process number of the taskmanager.
    pub pid: u32,
    /// The number of workers that there is room for.
    pub slots: u32,
    /// The address at which other hosts reach the job processes of this one.
    pub address: String,
    /// The job processes that run.
    pub processes: Vec<RunningProcess>,
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HowEnded {
    /// The end of a sentence, with its last words: `ended with exit code 3: no such model`.
    pub text: String,
    /// Whether its own code has ended it, by an exit or a crash, and not a kill or a lost host. It would do so again.
    pub by_itself: bool,
}

impl HowEnded {
    /// It was ended from outside, or could not be started.
    pub fn from_outside(text: impl Into<String>) -> Self {
        Self { text: text.into(), by_itself: false }
    }

    /// Its own code has ended it.
    pub fn by_itself(text: impl Into<String>) -> Self {
        Self { text: text.into(), by_itself: true }
    }
}

/// A job process that runs on a taskmanager, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningProcess {
    /// The process.
    pub process: ProcessId,
    /// Its number in the operating system.
    pub pid: u32,
    /// The number of its workers.
    pub workers: u32,
    /// Its workers whose dataflow runs.
    pub ready: Vec<Slot>,
    /// Its workers whose sources have ended.
    pub ended: Vec<Slot>,
    /// The last epoch that it was told to end.
    pub triggered: Epoch,
}
