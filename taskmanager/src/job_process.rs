//! A job process and the threads around it.
//!
//! - one reads its messages, one writes to it from a queue: a process that is stopped never blocks the taskmanager;
//! - two copy its output to its log;
//! - one waits for its end. It reports that after the last message and the last line, unless a process that has left the group holds them open.
//!
//! Not here: what a message means (`supervisor`), how a process is started (`child.rs`).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_protocol::process::ToJobProcess;
use tidegate_protocol::taskmanager::{HowEnded, ProcessId, Program};
use tidegate_protocol::why::SaidByProcess;
use tidegate_protocol::{ErrorContext, Result};

use crate::child::{self, Child, Start, Started};
use crate::data_directory;
use crate::log_file::{LogFile, copy};
use crate::runner::Incoming;
use crate::supervisor::Event;

/// The longest message of a process. A little less than the jobmanager accepts, which gets it with the process's name.
const MESSAGE_BYTES_MAX: u64 = (256 << 20) - (64 << 10);
/// Messages that wait for a process to read them.
const QUEUE: usize = 10_000;
/// How long a process that has ended may have left its socket and its output to others.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The most characters of the last line that are reported.
const LAST_WORDS_CHARS: usize = 500;

/// A job process that runs.
#[derive(Debug)]
pub(crate) struct JobProcess {
    child: Arc<Child>,
    queue: SyncSender<ToJobProcess>,
}

impl JobProcess {
    /// Starts a process, and the threads that report what it does.
    pub(crate) fn start(
        id: ProcessId,
        (executable, program, variables): (&Path, &Program, &[(&'static str, OsString)]),
        working: &Path,
        log: LogFile,
        events: &SyncSender<Incoming>,
    ) -> Result<Self> {
        let prepared = data_directory::remove(working).and_then(|()| data_directory::create(working));
        prepared.context(|| format!("prepare its working directory {}", working.display()))?;
        let (socket, its_socket) = UnixStream::pair()?;
        let arguments = program.arguments.iter().map(Into::into).collect();
        let directory = program.directory_or(working, Path::is_dir);
        let start = Start {
            executable,
            name: None,
            arguments,
            variables,
            working: directory,
            socket: Some(OwnedFd::from(its_socket)),
        };
        let started = start.start().context(|| format!("execute {}", executable.display()))?;
        let (child, (queue, queued)) = (started.child.clone(), sync_channel(QUEUE));
        let threads = Threads { id, events: events.clone(), working: working.to_owned() };
        if let Err(error) = threads.start(started, socket, queued, log) {
            child.kill();
            // A thread may wait for it already.
            let _ = child.wait();
            return Err(error);
        }
        Ok(Self { child, queue })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn kill(&self) {
        self.child.kill();
    }

    /// Sends a message. False if too many wait already.
    pub(crate) fn send(&self, message: ToJobProcess) -> bool {
        // A process whose socket is closed is about to end.
        !matches!(self.queue.try_send(message), Err(TrySendError::Full(_)))
    }
}

/// What all threads around a process know.
#[derive(Clone)]
struct Threads {
    id: ProcessId,
    events: SyncSender<Incoming>,
    working: PathBuf,
}

impl Threads {
    fn start(
        self,
        started: Started,
        socket: UnixStream,
        queued: Receiver<ToJobProcess>,
        log: LogFile,
    ) -> Result<()> {
        let Started { child, stdout, stderr } = started;
        let log = Arc::new(Mutex::new(log));
        let (last_words, all_said) = channel();
        let (reading, writing) = (socket.try_clone()?, socket.try_clone()?);
        let (this, said) = (self.clone(), last_words.clone());
        spawn("job messages", move || {
            this.read(reading);
            drop(said);
        })?;
        spawn("job commands", move || write(writing, &queued))?;
        let (its_log, said) = (log.clone(), last_words.clone());
        spawn("job stdout", move || {
            copy(stdout, &its_log);
            drop(said);
        })?;
        spawn("job stderr", move || said_last(&last_words, copy(stderr, &log)))?;
        spawn("job exit", move || self.wait(&child, &socket, &all_said))
    }

    /// Reads messages until the socket is closed.
    fn read(&self, socket: UnixStream) {
        let mut socket = BufReader::new(socket);
        loop {
            let mut line = Vec::new();
            match Read::take(&mut socket, MESSAGE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let event = match SaidByProcess::from_json(&line) {
                Ok(SaidByProcess::Message(message)) => Event::FromProcess(self.id, message),
                Ok(SaidByProcess::Answer(answer)) => Event::Answered(self.id, answer),
                // A process that was killed may have sent the beginning of a message.
                Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < MESSAGE_BYTES_MAX => return,
                Err(error) => {
                    let how = format!("has sent something that is no message ({error})");
                    Event::Misbehaved(self.id, how)
                }
            };
            let is_last = matches!(event, Event::Misbehaved(..));
            // Without a receiver the taskmanager is about to end.
            if self.events.send(Incoming::Event(event)).is_err() || is_last {
                return;
            }
        }
    }

    fn wait(self, child: &Child, socket: &UnixStream, all_said: &Receiver<String>) {
        let status = child.wait();
        let until = Instant::now() + LAST_WORDS;
        let mut last_words = String::new();
        while let Ok(said) = all_said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            last_words = said;
        }
        // Ends the threads of the socket, whoever else holds the other end.
        let _ = socket.shutdown(Shutdown::Both);
        let event = Event::Exited { process: self.id, how: how(status, &last_words) };
        let _ = self.events.send(Incoming::Event(event));
        // What cannot be removed is removed at the next start.
        let _ = data_directory::remove(&self.working);
    }
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).context(|| format!("start a thread ({name})"))
}

fn said_last(last_words: &Sender<String>, text: String) {
    // Who waits for it may have given up.
    let _ = last_words.send(text);
}

/// Writes what is queued until the socket is closed.
fn write(mut socket: UnixStream, queued: &Receiver<ToJobProcess>) {
    for message in queued {
        let Ok(mut line) = serde_json::to_vec(&message) else { continue };
        line.push(b'\n');
        if socket.write_all(&line).is_err() {
            return;
        }
    }
}

fn how(status: std::io::Result<ExitStatus>, last_words: &str) -> HowEnded {
    let by_itself = status.as_ref().is_ok_and(|status| child::is_by_itself(*status));
    let mut text = match status {
        Ok(status) => child::how(status),
        Err(error) => format!("has ended, how is not known ({error})"),
    };
    if !last_words.is_empty() {
        let last_words: String = last_words.chars().take(LAST_WORDS_CHARS).collect();
        // Of a process that was ended from outside they need not be about that.
        text = if by_itself {
            format!("{text}: {last_words}")
        } else {
            format!("{text}; its log ends: {last_words}")
        };
    }
    HowEnded { text, by_itself }
}
