//! A connection with TLS, of which one thread may read while another one writes.
//!
//! The state of TLS is one object for both directions. It is locked while bytes are encrypted or decrypted, and never while
//! a thread waits for the network: a reader that waits holds up no writer, and a writer whose peer does not read holds up no
//! reader. Each direction has a lock of its own, which is taken first and keeps the order of what is sent and received.
//!
//! A reader never sends. What TLS itself has to send is sent before the next data.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::Connection;

use crate::explain::{explain, explain_handshake};
use crate::wire::Wire;

/// What is read from the socket at once: a few records of at most 16 KB.
const RECEIVED: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) wire: Wire,
    tls: Mutex<Connection>,
    received: Mutex<Received>,
    /// Encrypted data on its way to the socket.
    sending: Mutex<Vec<u8>>,
}

/// Encrypted data that was not decrypted yet.
#[derive(Debug)]
struct Received {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Session {
    /// Goes through the handshake.
    pub(crate) fn new(wire: Wire, mut tls: Connection) -> io::Result<Self> {
        // rustls reads no more than it needs, and sends what it has to say of an error.
        let shaken = tls.complete_io(&mut &wire);
        shaken.map_err(|error| io::Error::new(error.kind(), explain_handshake(&error)))?;
        let received = Received { buffer: vec![0; RECEIVED].into(), start: 0, end: 0 };
        Ok(Self {
            wire,
            tls: Mutex::new(tls),
            received: Mutex::new(received),
            sending: Mutex::new(Vec::new()),
        })
    }

    /// Returns what has been decrypted, as much as fits; waits only if there is nothing.
    pub(crate) fn read(&self, plain: &mut [u8]) -> io::Result<usize> {
        if plain.is_empty() {
            return Ok(0);
        }
        let mut received = lock(&self.received);
        loop {
            let count = self.decrypt(&mut received, plain)?;
            if let Some(count) = count {
                return Ok(count);
            }
            let Received { buffer, start, end } = &mut *received;
            (*start, *end) = (0, (&self.wire).read(buffer)?);
            if *end == 0 {
                // TLS knows whether the other side has said that this is the end.
                lock(&self.tls).read_tls(&mut io::empty())?;
            }
        }
    }

    /// Decrypts what was received. None if that is no data yet.
    fn decrypt(&self, received: &mut Received, plain: &mut [u8]) -> io::Result<Option<usize>> {
        let mut tls = lock(&self.tls);
        let mut count = 0;
        loop {
            match tls.reader().read(&mut plain[count..]) {
                Ok(0) => return Ok(Some(count)),
                Ok(more) => count += more,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) if count > 0 => return Ok(Some(count)),
                Err(e) => return Err(e),
            }
            let mut rest = &received.buffer[received.start..received.end];
            if count == plain.len() || rest.is_empty() {
                return Ok((count > 0).then_some(count));
            }
            let taken = tls.read_tls(&mut rest)?;
            received.start += taken;
            tls.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, explain(&e)))?;
        }
    }

    pub(crate) fn write(&self, plain: &[u8]) -> io::Result<usize> {
        let mut sending = lock(&self.sending);
        let count = {
            let mut tls = lock(&self.tls);
            let count = tls.writer().write(plain)?;
            take_encrypted(&mut tls, &mut sending)?;
            count
        };
        self.send(&mut sending)?;
        Ok(count)
    }

    /// Ends the connection. `Write` says so to the other side, after all that was written; anything else ends it at once.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Write {
            let mut sending = lock(&self.sending);
            {
                let mut tls = lock(&self.tls);
                tls.send_close_notify();
                take_encrypted(&mut tls, &mut sending)?;
            }
            self.send(&mut sending)?;
        }
        self.wire.shutdown(how)
    }

    fn send(&self, sending: &mut Vec<u8>) -> io::Result<()> {
        let sent = (&self.wire).write_all(sending);
        sending.clear();
        sent
    }
}

fn take_encrypted(tls: &mut Connection, sending: &mut Vec<u8>) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(sending)?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
