//! The connections to the other processes of an attempt.
//!
//! Every process listens; one with a higher number connects to those with lower ones, twice: for records and progress, and
//! for what is told beside them. A connection counts once both sides have proved that they have the secret of the attempt,
//! and belong to the processes that they say. Whoever else connects is turned away, and delays nobody. All of it has a
//! deadline.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tidegate_access::{Secret, handshake};
use tidegate_protocol::{Attempt, Error, ErrorContext, JobId, Result};

use crate::dataflow::sockets::{Socket, Sockets};

/// How long the processes of an attempt may take to be connected.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long one handshake may wait for the other side.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After this time without an answer of the other host's system a connection is broken.
const GONE: Duration = Duration::from_secs(6);
/// How long to wait before a process that does not listen yet is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// Connections whose handshake is under way; more are turned away.
const AT_ONCE: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Purpose {
    Data,
    Peers,
}

/// What a process says when it connects to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    job: JobId,
    attempt: Attempt,
    from: u32,
    to: u32,
    purpose: Purpose,
}

/// The processes of an attempt, as one of them sees them.
pub(super) struct Attendance {
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    pub(super) secret: Secret,
    /// The number of this process.
    pub(super) me: u32,
}

/// A connection that has passed the handshake.
type Accepted = (Hello, TcpStream);

impl Attendance {
    /// Connects this process to all others, which listen at these addresses.
    pub(super) fn connect(self, listener: TcpListener, addresses: &[String]) -> Result<Sockets> {
        let until = Instant::now() + DEADLINE;
        let me = self.me as usize;
        let this = Arc::new(self);
        let none = || addresses.iter().map(|_| None).collect();
        let mut sockets = Sockets { data: none(), peers: none() };
        let accepted = this.clone().listen(listener)?;
        for (to, address) in addresses.iter().enumerate().take(me) {
            for purpose in [Purpose::Data, Purpose::Peers] {
                let doing = || format!("connect to process {to} of the job at {address}");
                let stream = this.connect_to(to as u32, address, purpose, until).context(doing)?;
                put(&mut sockets, to, purpose, stream);
            }
        }
        let is_complete = |sockets: &Sockets| {
            let there = |all: &[Option<Socket>]| all.iter().filter(|socket| socket.is_some()).count();
            there(&sockets.data) + 1 == addresses.len() && there(&sockets.peers) + 1 == addresses.len()
        };
        while !is_complete(&sockets) {
            match accepted.recv_timeout(until.saturating_duration_since(Instant::now())) {
                // A second connection for one purpose takes the place of the first: its sender has given that one up.
                Ok((hello, stream)) if (hello.from as usize) < addresses.len() => {
                    put(&mut sockets, hello.from as usize, hello.purpose, stream);
                }
                Ok(_) => {}
                Err(_) => {
                    let missing = (me + 1..addresses.len()).filter(|i| sockets.peers[*i].is_none());
                    let missing: Vec<&str> = missing.map(|i| &*addresses[i]).collect();
                    return Err(Error::environment(format!(
                        "after {} s these processes of the job have not connected: {}; is the network between the hosts open \
                         for all ports, and does each taskmanager listen at an address that the others reach?",
                        DEADLINE.as_secs(),
                        missing.join(", ")
                    )));
                }
            }
        }
        Ok(sockets)
    }

    /// Connects to a process that may not listen yet.
    fn connect_to(&self, to: u32, address: &str, purpose: Purpose, until: Instant) -> Result<TcpStream> {
        loop {
            let connected = TcpStream::connect(address).map_err(Error::from).and_then(|mut stream| {
                prepare(&stream)?;
                handshake::connect(&mut stream, &self.secret, &self.hello(to, purpose).to_bytes())?;
                be_ready(&stream)?;
                Ok(stream)
            });
            match connected {
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => std::thread::sleep(AGAIN),
                connected => return connected,
            }
        }
    }

    fn hello(&self, to: u32, purpose: Purpose) -> Hello {
        Hello { job: self.job, attempt: self.attempt, from: self.me, to, purpose }
    }

    /// Accepts connections until the receiving end is dropped, and at least one more has come.
    fn listen(self: Arc<Self>, listener: TcpListener) -> Result<Receiver<Accepted>> {
        let (accepted, receiver) = channel();
        let waiting = Arc::new(());
        let run = move || {
            for stream in listener.incoming() {
                // A connection that was broken before it was accepted is none.
                let Ok(stream) = stream else { continue };
                if Arc::strong_count(&waiting) <= AT_ONCE {
                    self.clone().welcome(stream, accepted.clone(), waiting.clone());
                }
            }
        };
        std::thread::Builder::new().name("accept".to_owned()).spawn(run)?;
        Ok(receiver)
    }

    /// Goes through the handshake on a thread of its own: a stranger who is slow delays nobody.
    fn welcome(self: Arc<Self>, mut stream: TcpStream, accepted: Sender<Accepted>, waiting: Arc<()>) {
        let run = move || {
            let shaken = prepare(&stream)
                .and_then(|()| handshake::accept(&mut stream, &self.secret, |hello| self.judge(hello)))
                .and_then(|hello| Hello::from_bytes(&hello))
                .and_then(|hello| be_ready(&stream).map(|()| hello));
            // Who has not passed is told so by the handshake; the process that is missing is named at the deadline.
            if let Ok(hello) = shaken {
                drop(accepted.send((hello, stream)));
            }
            drop(waiting);
        };
        // Without a thread the connection is closed, and tried again.
        drop(std::thread::Builder::new().name("handshake".to_owned()).spawn(run));
    }

    fn judge(&self, hello: &[u8]) -> Result<Vec<u8>, String> {
        let hello = Hello::from_bytes(hello).map_err(|e| e.to_string())?;
        let expected = Hello { job: self.job, attempt: self.attempt, to: self.me, ..hello };
        if hello != expected || hello.from <= self.me {
            return Err(format!(
                "this is process {} of attempt {} of job {}",
                self.me, self.attempt, self.job
            ));
        }
        Ok(Vec::new())
    }
}

impl Hello {
    fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

fn put(sockets: &mut Sockets, process: usize, purpose: Purpose, stream: TcpStream) {
    let all = match purpose {
        Purpose::Data => &mut sockets.data,
        Purpose::Peers => &mut sockets.peers,
    };
    all[process] = Some(Socket::Tcp(stream));
}

/// Sets the options of a connection for the handshake.
fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE))?;
    stream.set_write_timeout(Some(HANDSHAKE))?;
    Ok(())
}

/// Removes the timeouts: a connection may be silent for long once the job runs. That the other host is gone is noticed by the
/// system, which then breaks the connection.
fn be_ready(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let options = SockRef::from(stream);
    let second = Duration::from_secs(1);
    options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(2 * second).with_interval(second).with_retries(4),
    )?;
    options.set_tcp_user_timeout(Some(GONE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn attendance(me: u32, secret: &str, attempt: u32) -> Attendance {
        let secret = Secret::of(secret.as_bytes()).unwrap();
        Attendance { job: JobId([7; 16]), attempt: Attempt(attempt), secret, me }
    }

    const SECRET: &str = "the secret of the attempt";

    fn listeners(count: usize) -> (Vec<TcpListener>, Vec<String>) {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        (listeners, addresses)
    }

    #[test]
    fn every_process_is_connected_to_every_other_one_also_beside_strangers() {
        let (listeners, addresses) = listeners(3);
        for address in &addresses {
            // One that says nothing, one that talks nonsense, and one of an older attempt.
            std::mem::forget(TcpStream::connect(address).unwrap());
            TcpStream::connect(address).unwrap().write_all(&[7; 100]).unwrap();
            let mut old = TcpStream::connect(address).unwrap();
            let hello = attendance(2, SECRET, 1).hello(0, Purpose::Data).to_bytes();
            std::thread::spawn(move || {
                let secret = Secret::of(SECRET.as_bytes()).unwrap();
                assert!(handshake::connect(&mut old, &secret, &hello).is_err());
            });
        }
        let connect = |(me, listener): (usize, TcpListener)| {
            let addresses = addresses.clone();
            std::thread::spawn(move || attendance(me as u32, SECRET, 2).connect(listener, &addresses))
        };
        let threads: Vec<_> = listeners.into_iter().enumerate().map(connect).collect();
        let mut all: Vec<Sockets> = threads.into_iter().map(|t| t.join().unwrap().unwrap()).collect();
        for from in 0..3 {
            for to in (0..3).filter(|to| *to != from) {
                let text = [from as u8, to as u8];
                all[from].data[to].as_mut().unwrap().write_all(&text).unwrap();
                let mut received = [9; 2];
                all[to].data[from].as_mut().unwrap().read_exact(&mut received).unwrap();
                assert_eq!(received, text);
                assert!(all[from].peers[to].is_some());
            }
        }
    }
}
