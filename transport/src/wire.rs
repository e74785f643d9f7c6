//! A TCP connection on which everything can have a deadline.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A TCP connection, of which one thread may read while another one writes.
///
/// A timeout of the system is for one read: who sends a byte a second never exceeds it. Here the end of all reads and writes
/// is set, and every one of them gets the time that is left.
#[derive(Debug)]
pub(crate) struct Wire {
    tcp: Arc<TcpStream>,
    until: Mutex<Option<Instant>>,
}

impl Wire {
    pub(crate) fn new(tcp: Arc<TcpStream>, until: Instant) -> Self {
        Self { tcp, until: Mutex::new(Some(until)) }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// From now on reads and writes fail after this time; None if they may take for ever.
    pub(crate) fn set_deadline(&self, until: Option<Instant>) -> io::Result<()> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        if until.is_none() {
            self.tcp.set_read_timeout(None)?;
            self.tcp.set_write_timeout(None)?;
        }
        Ok(())
    }

    /// The time that is left, if there is a deadline.
    fn left(&self) -> io::Result<Option<Duration>> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    /// The first byte that comes, which is left to be read; None if the connection is closed.
    pub(crate) fn peek(&self) -> io::Result<Option<u8>> {
        if let Some(left) = self.left()? {
            self.tcp.set_read_timeout(Some(left))?;
        }
        let mut first = [0];
        Ok((self.tcp.peek(&mut first)? > 0).then_some(first[0]))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.tcp.shutdown(how)
    }
}

impl Read for &Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.tcp.set_read_timeout(Some(left))?;
        }
        (&*self.tcp).read(buffer)
    }
}

impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.tcp.set_write_timeout(Some(left))?;
        }
        (&*self.tcp).write(bytes)
    }

    /// All parts at once: rustls sends the reason of an error as the last of several, by one write.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.tcp.set_write_timeout(Some(left))?;
        }
        (&*self.tcp).write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
