//! Accepts connections, each on a thread of its own.
//!
//! Strangers cost a thread with a small stack and a descriptor each, for a limited time, and there is a limited number of
//! them: see [`Strangers`].

use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::Result;

use crate::strangers::{Limits, Strangers};
use crate::stream::Stream;
use crate::tls::Acceptor;

/// How long to wait where no connection can be accepted, because too many files are open. There is no event for that.
const AGAIN: Duration = Duration::from_millis(20);
/// What a thread that serves a stranger needs at most, TLS included.
const STACK_BYTES: usize = 256 << 10;

/// How connections are accepted.
#[derive(Clone, Debug)]
pub struct Door {
    /// The name of the threads.
    pub name: &'static str,
    /// How many there may be at a time, until the function that serves them returns.
    pub limits: Limits,
    /// How long each may take, from its beginning.
    pub time: Duration,
    /// None for connections without TLS.
    pub tls: Option<Acceptor>,
    /// What is sent to somebody who does not speak TLS.
    pub tls_is_wanted: &'static [u8],
}

/// Serves a connection, which has passed the handshake of TLS, or says why it has not. Everything that it does with the
/// stream fails when the time is over.
pub trait Guest: Fn(Result<Stream>) + Send + Sync + 'static {}

impl<F: Fn(Result<Stream>) + Send + Sync + 'static> Guest for F {}

/// The connections that are served, each with the socket that is closed to end it.
type Guests = Mutex<Strangers<Arc<TcpStream>>>;

impl Door {
    /// Accepts connections until `is_closed` is set and the listener is shut down, or for ever.
    pub fn serve(self, listener: &TcpListener, is_closed: &AtomicBool, guest: impl Guest) {
        let guests = Arc::new(Guests::new(Strangers::new(self.limits)));
        let threads = Arc::new(Threads::default());
        let (this, guest) = (Arc::new(self), Arc::new(guest));
        while !is_closed.load(Ordering::Acquire) {
            match listener.accept() {
                Ok((tcp, address)) => {
                    // Who had to make room may still keep a thread busy.
                    let thread = threads.one_more(2 * this.limits.total);
                    // Without a thread the connection is closed.
                    drop(this.clone().welcome(tcp, address.ip(), &guests, guest.clone(), thread));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) if is_closed.load(Ordering::Acquire) => return,
                Err(_) => {
                    close(lock(&guests).leave_oldest());
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }

    fn welcome(
        self: Arc<Self>,
        tcp: TcpStream,
        address: IpAddr,
        guests: &Arc<Guests>,
        guest: Arc<impl Guest>,
        thread: OneThread,
    ) -> io::Result<()> {
        let until = Instant::now() + self.time;
        let tcp = Arc::new(tcp);
        let (number, closed) = lock(guests).enter(address, tcp.clone());
        close(closed);
        let (leaving, name) = (guests.clone(), self.name);
        let run = move || {
            let stream = self.shake_hands(tcp, until);
            guest(stream);
            lock(&leaving).leave(number);
            drop(thread);
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run);
        if spawned.is_err() {
            lock(guests).leave(number);
        }
        spawned.map(drop)
    }

    fn shake_hands(&self, tcp: Arc<TcpStream>, until: Instant) -> Result<Stream> {
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some(acceptor) => Stream::accept(tcp, acceptor.config(), until, self.tls_is_wanted),
            None => Ok(Stream::plain(tcp, until)),
        }
    }
}

/// The threads that serve connections, or that have just done so.
#[derive(Default)]
struct Threads {
    count: Mutex<usize>,
    one_less: Condvar,
}

/// Counts as a thread until it is dropped.
struct OneThread(Arc<Threads>);

impl Threads {
    /// Waits until there are fewer than so many.
    fn one_more(self: &Arc<Self>, limit: usize) -> OneThread {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.one_less.wait_while(count, |count| *count >= limit);
        *count.unwrap_or_else(PoisonError::into_inner) += 1;
        OneThread(self.clone())
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.one_less.notify_one();
    }
}

/// Whether the error is that of one connection, which was broken before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn close(guest: Option<Arc<TcpStream>>) {
    if let Some(tcp) = guest {
        // It may have ended just now.
        let _ = tcp.shutdown(Shutdown::Both);
    }
}

fn lock(guests: &Guests) -> std::sync::MutexGuard<'_, Strangers<Arc<TcpStream>>> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}
