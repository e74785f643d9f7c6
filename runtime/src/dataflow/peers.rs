//! What the processes of an attempt tell each other beside the dataflow: the logical clock of their sources, how far their
//! partitions are, and what their workers have taken of what was sent to them.
//!
//! Within a process these are numbers in memory. Between processes they are messages, on a connection of their own: they are
//! needed when the dataflow waits. What was told last counts, so messages that wait for the connection are merged.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use timely::communication::allocator::zero_copy::stream::Stream;

use super::process::Process;
use super::sockets::Socket;
use super::timestamp::Timestamp;
use crate::thread_group::ThreadGroup;
use tidegate_protocol::{Error, Result};

/// A message to another process is at most so long.
const MESSAGE_BYTES: usize = 64;
/// If a process is gone, its other connection is broken, too, and ends the attempt within this time.
const CAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// A message to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerMessage {
    /// A source has reached this timestamp and cannot go on: sources without records are to follow it.
    Tick(Timestamp),
    /// A receiver of an edge has taken so many records of a sender, and so many may wait there.
    Taken { edge: u32, sender: u32, receiver: u32, taken: u64, backlog: u32 },
    /// The least watermark of those partitions of a worker that hold others back, of the source that a chain reads.
    LeastWatermark { chain: u32, worker: u32, least: i64 },
}

/// The messages that wait for a connection.
#[derive(Default)]
struct Waiting {
    tick: Option<Timestamp>,
    taken: HashMap<(u32, u32, u32), (u64, u32)>,
    least: HashMap<(u32, u32), i64>,
}

impl Waiting {
    fn add(&mut self, message: PeerMessage) {
        match message {
            PeerMessage::Tick(tick) => self.tick = self.tick.max(Some(tick)),
            PeerMessage::Taken { edge, sender, receiver, taken, backlog } => {
                self.taken.insert((edge, sender, receiver), (taken, backlog));
            }
            PeerMessage::LeastWatermark { chain, worker, least } => {
                self.least.insert((chain, worker), least);
            }
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = PeerMessage> {
        let tick = self.tick.take().map(PeerMessage::Tick);
        let taken = self.taken.drain().map(|((edge, sender, receiver), (taken, backlog))| {
            PeerMessage::Taken { edge, sender, receiver, taken, backlog }
        });
        let least = self.least.drain();
        let least =
            least.map(|((chain, worker), least)| PeerMessage::LeastWatermark { chain, worker, least });
        tick.into_iter().chain(taken).chain(least)
    }
}

/// The sending ends of the connections to the other processes; empty for a process that is alone.
#[derive(Default)]
pub(crate) struct Peers(Mutex<Vec<Option<Sender<PeerMessage>>>>);

impl Peers {
    /// Tells all other processes.
    pub(crate) fn tell_all(&self, message: PeerMessage) {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that is gone ends the attempt; others learn of that by the dataflow.
        to.iter().flatten().for_each(|to| to.send(message).unwrap_or_default());
    }

    /// Tells one process.
    pub(crate) fn tell(&self, process: usize, message: PeerMessage) {
        let to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(to)) = to.get(process) {
            to.send(message).unwrap_or_default();
        }
    }

    fn set(&self, to: Vec<Option<Sender<PeerMessage>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

/// The threads that send and receive, and the sockets that end them.
pub(super) struct PeerThreads {
    process: Arc<Process>,
    sockets: Vec<Socket>,
    /// Dropped when the connections are about to be closed.
    open: Vec<Sender<()>>,
    threads: ThreadGroup,
}

impl PeerThreads {
    pub(super) fn start(process: &Arc<Process>, sockets: Vec<Option<Socket>>) -> Result<Self> {
        let failed =
            |e: io::Error| Error::environment("cannot use a connection to another process").caused_by(e);
        let mut this = Self {
            process: process.clone(),
            sockets: Vec::new(),
            open: Vec::new(),
            threads: ThreadGroup::default(),
        };
        let mut to = Vec::new();
        for (number, socket) in sockets.into_iter().enumerate() {
            let Some(socket) = socket else {
                to.push(None);
                continue;
            };
            let (send, messages) = channel();
            to.push(Some(send));
            let writer = socket.try_clone().map_err(failed)?;
            let reader = socket.try_clone().map_err(failed)?;
            this.sockets.push(socket);
            this.threads.spawn(format!("peer-send-{number}"), move || write_messages(writer, &messages))?;
            let process = process.clone();
            let (open, closing) = channel();
            this.open.push(open);
            let receive = move || read_messages(reader, &process, &closing);
            this.threads.spawn(format!("peer-recv-{number}"), receive)?;
        }
        process.shared.peers.set(to);
        Ok(this)
    }
}

impl Drop for PeerThreads {
    fn drop(&mut self) {
        self.process.shared.peers.set(Vec::new());
        self.open.clear();
        for socket in &self.sockets {
            // The other process may have closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut self.threads);
        threads.wait(std::time::Instant::now() + std::time::Duration::from_secs(1));
    }
}

/// Sends the messages of the workers until the connection is closed or broken; who receives notices that.
fn write_messages(mut socket: Socket, messages: &Receiver<PeerMessage>) {
    let mut waiting = Waiting::default();
    let mut bytes = Vec::new();
    while let Ok(message) = messages.recv() {
        waiting.add(message);
        messages.try_iter().for_each(|message| waiting.add(message));
        waiting.drain().for_each(|message| encode(&message, &mut bytes));
        if socket.write_all(&bytes).is_err() {
            return;
        }
        bytes.clear();
    }
}

fn encode(message: &PeerMessage, bytes: &mut Vec<u8>) {
    // Numbers of a fixed set of fields always have an encoding that is short enough.
    let mut buffer = [0; MESSAGE_BYTES];
    if let Ok(encoded) = postcard::to_slice(message, &mut buffer) {
        bytes.push(encoded.len() as u8);
        bytes.extend_from_slice(encoded);
    }
}

/// Takes messages until the connections are closed. If this one breaks before, and the attempt does not end because of what
/// has broken it, the attempt has failed: without messages its sources would wait for ever.
fn read_messages(socket: Socket, process: &Process, closing: &Receiver<()>) {
    let mut reader = BufReader::new(socket);
    loop {
        match read_message(&mut reader) {
            Ok(message) => take(message, process),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let text = "another process of the job has sent what cannot be read";
                return process.driver.fail(Error::internal(text).caused_by(error));
            }
            Err(error) => {
                if closing.recv_timeout(CAUSE) == Err(RecvTimeoutError::Timeout) {
                    let text =
                        "the connection for the progress of sources between processes of the job is broken";
                    process.driver.fail(Error::environment(text).caused_by(error));
                }
                return;
            }
        }
    }
}

fn read_message(reader: &mut impl Read) -> io::Result<PeerMessage> {
    let (mut length, mut buffer) = ([0], [0; MESSAGE_BYTES]);
    reader.read_exact(&mut length)?;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let length = usize::from(length[0]);
    let message = buffer.get_mut(..length).ok_or_else(|| invalid(format!("a message of {length} bytes")))?;
    reader.read_exact(message)?;
    postcard::from_bytes(message).map_err(|e| invalid(e.to_string()))
}

/// Reads messages until one is refused, and checks each of them.
pub(crate) fn read_all(mut bytes: &[u8]) {
    while let Ok(message) = read_message(&mut bytes) {
        let mut written = Vec::new();
        encode(&message, &mut written);
        let again = read_message(&mut &written[..]);
        assert_eq!(again.expect("what was written can be read"), message, "a message changes");
    }
}

/// A few messages, one behind the other.
pub(crate) fn samples() -> Vec<u8> {
    let taken = |n| PeerMessage::Taken { edge: n, sender: 1, receiver: n, taken: u64::MAX, backlog: n };
    let least = |n| PeerMessage::LeastWatermark { chain: 3, worker: u32::MAX, least: n };
    let mut bytes = Vec::new();
    [
        PeerMessage::Tick(7),
        taken(300),
        least(i64::MIN),
        PeerMessage::Tick(u64::MAX),
        taken(u32::MAX),
        least(5),
    ]
    .iter()
    .for_each(|message| encode(message, &mut bytes));
    bytes
}

fn take(message: PeerMessage, process: &Process) {
    match message {
        PeerMessage::Tick(tick) => process.shared.follow(tick),
        PeerMessage::Taken { edge, sender, receiver, taken, backlog } => {
            let flow = process.shared.flows.of(edge as usize, process.setup.settings.parallelism);
            flow.told(sender as usize, receiver as usize, taken as usize, backlog as usize);
        }
        PeerMessage::LeastWatermark { chain, worker, least } => {
            let known = process.shared.drifts.of(chain as usize, process.setup.settings.parallelism);
            process.shared.note_least(&known, worker as usize, least);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = PeerMessage> {
        prop_oneof![
            any::<u64>().prop_map(PeerMessage::Tick),
            any::<(u32, u32, u32, u64, u32)>().prop_map(|(edge, sender, receiver, taken, backlog)| {
                PeerMessage::Taken { edge, sender, receiver, taken, backlog }
            }),
            any::<(u32, u32, i64)>().prop_map(|(chain, worker, least)| PeerMessage::LeastWatermark {
                chain,
                worker,
                least
            }),
        ]
    }

    proptest! {
        #[test]
        fn messages_arrive_as_they_were_sent(messages in proptest::collection::vec(message(), 0..20)) {
            let mut bytes = Vec::new();
            messages.iter().for_each(|message| encode(message, &mut bytes));
            let mut reader = &bytes[..];
            for message in messages {
                prop_assert_eq!(read_message(&mut reader).unwrap(), message);
            }
            prop_assert_eq!(read_message(&mut reader).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = &bytes[..];
            while read_message(&mut reader).is_ok() {}
        }
    }

    #[test]
    fn messages_that_wait_are_merged() {
        let taken = |taken| PeerMessage::Taken { edge: 1, sender: 2, receiver: 3, taken, backlog: 4 };
        let least = |least| PeerMessage::LeastWatermark { chain: 1, worker: 2, least };
        let tick = PeerMessage::Tick;
        let mut waiting = Waiting::default();
        // The least watermark may fall: what was told last counts.
        for message in [tick(5), taken(1), tick(7), least(8), taken(9), tick(6), least(3)] {
            waiting.add(message);
        }
        assert_eq!(waiting.drain().collect::<Vec<_>>(), [tick(7), taken(9), least(3)]);
        assert_eq!(waiting.drain().count(), 0);
    }
}
