//! The connections to the other processes of an attempt.
//!
//! Every process listens; one with a higher number connects to those with lower ones, twice: for records and progress, and
//! for what is told beside them. A connection counts once both sides have proved that they have the secret of the attempt,
//! and belong to the processes that they say; with TLS both have shown a certificate before that. Whoever else connects is
//! turned away, and delays nobody. All of it has a deadline, and nobody listens any more once all are connected.

use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tidegate_access::{Secret, handshake};
use tidegate_protocol::{Attempt, Error, ErrorContext, JobId, Result};
use tidegate_transport::{Clients, Door, Limits, Stream, Tls};

use crate::dataflow::sockets::{Socket, Sockets};

/// How long the processes of an attempt may take to be connected.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long one handshake may take, that of TLS included.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After this time without an answer of the other host's system a connection is broken.
const GONE: Duration = Duration::from_secs(6);
/// How long to wait before a process that does not listen yet is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// Handshakes of strangers that may be under way, beside one of every other process, all of which may be on one host. If there
/// are more, the oldest is closed; a process of the attempt tries again.
const STRANGERS: usize = 128;
/// What is sent to a process that does not speak TLS, in the place of the first bytes that it expects.
const TLS_IS_WANTED: &[u8] = b"TLS only";

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
    /// None for connections without TLS.
    pub(super) tls: Option<Tls>,
}

/// A connection that has passed the handshake.
type Accepted = (Hello, Stream);

/// The thread that accepts connections. It ends when this is dropped.
struct Listening {
    /// Every connection, or why it was turned away.
    accepted: Receiver<Result<Accepted>>,
    listener: Arc<TcpListener>,
    is_closed: Arc<AtomicBool>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Release);
        // The thread waits for a connection; on Linux this ends that.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

impl Attendance {
    /// Connects this process to all others, which listen at these addresses.
    pub(super) fn connect(self, listener: TcpListener, addresses: &[String]) -> Result<Sockets> {
        let until = Instant::now() + DEADLINE;
        let me = self.me as usize;
        let this = Arc::new(self);
        let none = || addresses.iter().map(|_| None).collect();
        let mut sockets = Sockets { data: none(), peers: none() };
        let listening = this.clone().listen(listener, addresses.len())?;
        for (to, address) in addresses.iter().enumerate().take(me) {
            for purpose in [Purpose::Data, Purpose::Peers] {
                let doing = || format!("connect to process {to} of the job at {address}");
                let stream = this.connect_to(to as u32, address, purpose, until).context(doing)?;
                put(&mut sockets, to, purpose, stream);
            }
        }
        this.wait_for_others(&listening, addresses, &mut sockets, until)?;
        Ok(sockets)
    }

    /// Waits until all processes with higher numbers have connected.
    fn wait_for_others(
        &self,
        listening: &Listening,
        addresses: &[String],
        sockets: &mut Sockets,
        until: Instant,
    ) -> Result<()> {
        let is_complete = |sockets: &Sockets| {
            let there = |all: &[Option<Socket>]| all.iter().filter(|socket| socket.is_some()).count();
            there(&sockets.data) + 1 == addresses.len() && there(&sockets.peers) + 1 == addresses.len()
        };
        let mut turned_away = None;
        while !is_complete(sockets) {
            match listening.accepted.recv_timeout(until.saturating_duration_since(Instant::now())) {
                // A second connection for one purpose takes the place of the first: its sender has given that one up.
                Ok(Ok((hello, stream))) if (hello.from as usize) < addresses.len() => {
                    put(sockets, hello.from as usize, hello.purpose, stream);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => turned_away = Some(error),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let me = self.me as usize;
                    let missing = (me + 1..addresses.len()).filter(|i| sockets.peers[*i].is_none());
                    let missing: Vec<&str> = missing.map(|i| &*addresses[i]).collect();
                    let error = Error::environment(format!(
                        "after {} s these processes of the job have not connected: {}; is the network between the hosts open \
                         for all ports, and does each taskmanager listen at an address that the others reach?",
                        DEADLINE.as_secs(),
                        missing.join(", ")
                    ));
                    return Err(match turned_away {
                        Some(why) => error.caused_by(format!("a connection was turned away: {why}")),
                        None => error,
                    });
                }
            }
        }
        Ok(())
    }

    /// Connects to a process that may not listen yet.
    fn connect_to(&self, to: u32, address: &str, purpose: Purpose, until: Instant) -> Result<Stream> {
        loop {
            let connected = open(address).map_err(Error::from).and_then(|tcp| {
                tcp.set_nodelay(true)?;
                let time_is_up = Instant::now() + HANDSHAKE;
                let mut stream = match &self.tls {
                    Some(tls) => tls.connector().connect(tcp, address, time_is_up)?,
                    None => Stream::plain(tcp, time_is_up),
                };
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

    /// Starts to accept connections, each on a thread of its own: a stranger who is slow delays nobody.
    fn listen(self: Arc<Self>, listener: TcpListener, processes: usize) -> Result<Listening> {
        let tls = self.tls.as_ref().map(|tls| tls.acceptor(Clients::MustShow)).transpose()?;
        let limits = Limits { total: 2 * STRANGERS + processes, per_address: STRANGERS + processes };
        let door = Door { name: "handshake", limits, time: HANDSHAKE, tls, tls_is_wanted: TLS_IS_WANTED };
        let (listener, is_closed) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let (accepted, receiver) = channel();
        let listening =
            Listening { accepted: receiver, listener: listener.clone(), is_closed: is_closed.clone() };
        let run = move || {
            door.serve(&listener, &is_closed, move |stream| {
                // Without a receiver all processes are connected.
                drop(accepted.send(stream.and_then(|stream| self.welcome(stream))));
            });
        };
        std::thread::Builder::new().name("accept".to_owned()).spawn(run)?;
        Ok(listening)
    }

    fn welcome(&self, mut stream: Stream) -> Result<Accepted> {
        let hello = handshake::accept(&mut stream, &self.secret, |hello| self.judge(hello))?;
        be_ready(&stream)?;
        Ok((Hello::from_bytes(&hello)?, stream))
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

/// The process that [`judge_any`] is, of attempt 2.
fn judging() -> Result<Attendance> {
    let secret = Secret::of(b"the secret of the attempt")?;
    Ok(Attendance { job: JobId([7; 16]), attempt: Attempt(2), secret, tls: None, me: 0 })
}

/// Judges bytes as process 0 of an attempt, and checks who is accepted.
pub(crate) fn judge_any(bytes: &[u8]) {
    let this = judging().expect("the secret is long enough");
    if this.judge(bytes).is_ok() {
        let hello = Hello::from_bytes(bytes).expect("it was accepted");
        assert_eq!(Hello::from_bytes(&hello.to_bytes()).expect("it was written"), hello, "a hello changes");
        assert!((hello.job, hello.attempt, hello.to) == (this.job, this.attempt, 0) && hello.from > 0);
    }
}

/// What process `from` of that attempt says.
pub(crate) fn sample(from: u32) -> Vec<u8> {
    judging().map(|this| Hello { from, ..this.hello(0, Purpose::Data) }.to_bytes()).unwrap_or_default()
}

fn put(sockets: &mut Sockets, process: usize, purpose: Purpose, stream: Stream) {
    let all = match purpose {
        Purpose::Data => &mut sockets.data,
        Purpose::Peers => &mut sockets.peers,
    };
    all[process] = Some(Socket::Network(stream));
}

/// Connects to the first address of a host that accepts it. A host that does not answer at all is not waited for.
fn open(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HANDSHAKE) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes the deadline: a connection may be silent for long once the job runs. That the other host is gone is noticed by the
/// system, which then breaks the connection.
fn be_ready(stream: &Stream) -> Result<()> {
    stream.set_deadline(None)?;
    let options = SockRef::from(stream.tcp());
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
    use std::thread::{self, JoinHandle};

    use tidegate_test_certificates::Authority;

    use super::*;

    fn attendance(me: u32, secret: &str, attempt: u32) -> Attendance {
        let secret = Secret::of(secret.as_bytes()).unwrap();
        Attendance { job: JobId([7; 16]), attempt: Attempt(attempt), secret, me, tls: None }
    }

    const SECRET: &str = "the secret of the attempt";

    fn listeners(count: usize) -> (Vec<TcpListener>, Vec<String>) {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        (listeners, addresses)
    }

    /// All processes of an attempt, as they connect to each other.
    fn connect(
        listeners: Vec<TcpListener>,
        addresses: &[String],
        tls: Option<&Tls>,
    ) -> Vec<JoinHandle<Result<Sockets>>> {
        let start = |(me, listener): (usize, TcpListener)| {
            let addresses = addresses.to_vec();
            let attendance = Attendance { tls: tls.cloned(), ..attendance(me as u32, SECRET, 2) };
            thread::spawn(move || attendance.connect(listener, &addresses))
        };
        listeners.into_iter().enumerate().map(start).collect()
    }

    fn joined(processes: Vec<JoinHandle<Result<Sockets>>>) -> Vec<Sockets> {
        processes.into_iter().map(|process| process.join().unwrap().unwrap()).collect()
    }

    fn check_that_all_are_connected(mut all: Vec<Sockets>) {
        for from in 0..all.len() {
            for to in (0..all.len()).filter(|to| *to != from) {
                let text = [from as u8, to as u8];
                all[from].data[to].as_mut().unwrap().write_all(&text).unwrap();
                let mut received = [9; 2];
                all[to].data[from].as_mut().unwrap().read_exact(&mut received).unwrap();
                assert_eq!(received, text);
                assert!(all[from].peers[to].is_some());
            }
        }
    }

    /// Connects as a process of this attempt, without going through with it.
    fn intrude(address: &str, attendance: &Attendance) -> Result<()> {
        let tcp = TcpStream::connect(address).unwrap();
        let until = Instant::now() + HANDSHAKE;
        let mut stream = match &attendance.tls {
            Some(tls) => tls.connector().connect(tcp, address, until)?,
            None => Stream::plain(tcp, until),
        };
        let hello = attendance.hello(0, Purpose::Data).to_bytes();
        handshake::connect(&mut stream, &attendance.secret, &hello).map(drop)
    }

    #[test]
    fn every_process_is_connected_to_every_other_one_also_beside_strangers() {
        let (mut listeners, addresses) = listeners(3);
        let last = listeners.pop().unwrap();
        // These wait for the last one.
        let mut processes = connect(listeners, &addresses, None);
        let mut strangers = Vec::new();
        for address in &addresses[..2] {
            // More that say nothing than may be there, one that talks nonsense, and one of an older attempt.
            strangers.extend((0..4 * STRANGERS).map(|_| TcpStream::connect(address).unwrap()));
            TcpStream::connect(address).unwrap().write_all(&[7; 100]).unwrap();
            intrude(address, &attendance(2, SECRET, 1)).unwrap_err();
        }
        let others = addresses.clone();
        processes.push(thread::spawn(move || attendance(2, SECRET, 2).connect(last, &others)));
        check_that_all_are_connected(joined(processes));
        drop(strangers);
    }

    #[test]
    fn nobody_listens_once_all_are_connected() {
        let (listeners, addresses) = listeners(2);
        let all = joined(connect(listeners, &addresses, None));
        for address in &addresses {
            let until = Instant::now() + HANDSHAKE;
            while TcpStream::connect(address).is_ok() {
                assert!(Instant::now() < until, "the thread that accepts connections has not ended");
            }
        }
        drop(all);
    }

    #[test]
    fn with_tls_a_stranger_with_a_certificate_of_another_authority_is_turned_away() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (authority, other) = (Authority::new(here.path()), Authority::new(there.path()));
        let tls = Tls::load(&authority.issue("host", &["127.0.0.1"])).unwrap();
        let mut files = other.issue("stranger", &["127.0.0.1"]);
        // It believes this cluster, which does not believe it.
        let own_ca = std::fs::read(other.file()).unwrap();
        let both = [own_ca, std::fs::read(authority.file()).unwrap()].concat();
        files.ca = there.path().join("both.pem");
        std::fs::write(&files.ca, both).unwrap();
        let stranger = Attendance { tls: Some(Tls::load(&files).unwrap()), ..attendance(1, SECRET, 2) };

        let (mut listeners, addresses) = listeners(2);
        let second = listeners.pop().unwrap();
        let mut processes = connect(listeners, &addresses, Some(&tls));
        let error = intrude(&addresses[0], &stranger).unwrap_err().to_string();
        assert!(error.contains("no authority in its tls.ca has issued it"), "{error}");
        let error = intrude(&addresses[0], &attendance(1, SECRET, 2)).unwrap_err().to_string();
        assert!(error.contains("it sent \"TLS only\""), "{error}");
        let attendance = Attendance { tls: Some(tls), ..attendance(1, SECRET, 2) };
        processes.push(thread::spawn(move || attendance.connect(second, &addresses)));
        check_that_all_are_connected(joined(processes));
    }
}
