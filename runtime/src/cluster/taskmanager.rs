//! The socket to the taskmanager that has started this process.
//!
//! A process lives no longer than its connection: when the socket is closed, or nothing has come for some time, it ends
//! itself at once, whatever its threads are doing. The jobmanager may have started another attempt by then.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidegate_protocol::process::{FromJobProcess, SOCKET_VARIABLE, TEMPORARY, ToJobProcess};
use tidegate_protocol::why::ProcessAnswer;
use tidegate_protocol::{Error, Result};

use crate::exit;

/// A message of the taskmanager is at most so long: a list of partitions may be.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;

/// The sending end of the socket to the taskmanager.
#[derive(Clone)]
pub(crate) struct TaskManager(Arc<Mutex<UnixStream>>);

impl TaskManager {
    /// The taskmanager that has started this process; None if it was started in another way. Must be called before the
    /// program opens files.
    pub(crate) fn of_this_process() -> Result<Option<Self>> {
        let Some(number) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(None) };
        let number = number.to_str().and_then(|text| text.parse().ok());
        let invalid = || {
            Error::environment(format!(
                "{SOCKET_VARIABLE} does not name an open socket; it is set by a taskmanager, and must not be set by hand"
            ))
        };
        let number: i32 = number.filter(|number| *number > 2).ok_or_else(invalid)?;
        // SAFETY: system calls without pointers.
        let is_open = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        if !is_open {
            return Err(invalid());
        }
        // SAFETY: the descriptor is open, and nothing else in this program knows its number.
        let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(Some(Self(Arc::new(Mutex::new(socket)))))
    }

    /// Sends a message. If it cannot be sent, the taskmanager is gone, and the process is about to end.
    pub(super) fn send(&self, message: &FromJobProcess) {
        self.write(message);
    }

    /// Sends the answer to a question of a user.
    pub(super) fn answer(&self, answer: &ProcessAnswer) {
        self.write(answer);
    }

    fn write(&self, message: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(message) else {
            // Every type of a message has an encoding; a connector's own JSON has been encoded before.
            return;
        };
        line.push(b'\n');
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = socket.write_all(&line);
    }

    /// Starts to receive.
    pub(super) fn receive(&self) -> Result<Receiver<ToJobProcess>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).try_clone()?;
        let (messages, receiver) = channel();
        let reader = Reader { socket: BufReader::new(socket), messages, taskmanager: self.clone() };
        std::thread::Builder::new().name("taskmanager".to_owned()).spawn(move || reader.run())?;
        Ok(receiver)
    }
}

struct Reader {
    socket: BufReader<UnixStream>,
    messages: Sender<ToJobProcess>,
    taskmanager: TaskManager,
}

impl Reader {
    /// Never returns while the process lives.
    fn run(mut self) {
        loop {
            let message = self.next();
            let Some(message) = message else { exit::at_once(TEMPORARY) };
            match message {
                ToJobProcess::Ping => self.taskmanager.send(&FromJobProcess::Pong),
                other => {
                    if let ToJobProcess::Prepare(preparation) = &other {
                        let silence = Duration::from_millis(preparation.silence_ms.max(1));
                        // A socket that cannot have a timeout is closed.
                        let _ = self.socket.get_ref().set_read_timeout(Some(silence));
                    }
                    // The main thread is about to end the process if it does not listen.
                    let _ = self.messages.send(other);
                }
            }
        }
    }

    /// The next message; None if there will be none.
    fn next(&mut self) -> Option<ToJobProcess> {
        let mut line = Vec::new();
        let mut limited = std::io::Read::take(&mut self.socket, MESSAGE_BYTES_MAX);
        limited.read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }
}
