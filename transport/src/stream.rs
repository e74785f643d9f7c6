//! A connection for threads that block, with or without TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tidegate_protocol::{Error, Result};

use crate::session::Session;
use crate::wire::Wire;

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;

/// A connection over a network. Clones are of the same connection; one thread may read while another one writes.
#[derive(Clone, Debug)]
pub struct Stream(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Plain(Arc<Wire>),
    Tls(Arc<Session>),
}

impl Stream {
    /// A connection without TLS. Everything that is done with it fails after `until`.
    pub fn plain(tcp: impl Into<Arc<TcpStream>>, until: Instant) -> Self {
        Self(Kind::Plain(Arc::new(Wire::new(tcp.into(), until))))
    }

    pub(crate) fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        until: Instant,
    ) -> Result<Self> {
        let connection = ClientConnection::new(config, name)
            .map_err(|e| Error::internal("a TLS connection cannot be begun").caused_by(e))?;
        let session = Session::new(Wire::new(tcp.into(), until), connection.into())?;
        Ok(Self(Kind::Tls(Arc::new(session))))
    }

    /// Goes through the handshake with who has connected. Who does not speak TLS is told `answer`.
    pub(crate) fn accept(
        tcp: Arc<TcpStream>,
        config: Arc<ServerConfig>,
        until: Instant,
        answer: &[u8],
    ) -> Result<Self> {
        let wire = Wire::new(tcp, until);
        if wire.peek()?.is_some_and(|first| first != HANDSHAKE) {
            (&wire).write_all(answer)?;
            wire.shutdown(Shutdown::Write)?;
            return Err(Error::environment(
                "it does not speak TLS: set tls.certificate, tls.key and tls.ca there, too",
            ));
        }
        let connection = ServerConnection::new(config)
            .map_err(|e| Error::internal("a TLS connection cannot be begun").caused_by(e))?;
        Ok(Self(Kind::Tls(Arc::new(Session::new(wire, connection.into())?))))
    }

    /// From now on reads and writes fail after this time; None if they may take for ever.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_deadline(&self, until: Option<Instant>) -> io::Result<()> {
        self.wire().set_deadline(until)
    }

    /// The TCP connection, for its options.
    pub fn tcp(&self) -> &TcpStream {
        self.wire().tcp()
    }

    /// Ends a direction of the connection. `Write` says so to the other side, after all that was written; anything else ends
    /// it at once, also if another thread is about to write.
    ///
    /// # Errors
    /// If the connection is broken already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.0 {
            Kind::Plain(wire) => wire.shutdown(how),
            Kind::Tls(session) => session.shutdown(how),
        }
    }

    fn wire(&self) -> &Wire {
        match &self.0 {
            Kind::Plain(wire) => wire,
            Kind::Tls(session) => &session.wire,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Plain(wire) => (&**wire).read(buffer),
            Kind::Tls(session) => session.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            _ if bytes.is_empty() => Ok(0),
            Kind::Plain(wire) => (&**wire).write(bytes),
            Kind::Tls(session) => match session.write(bytes)? {
                0 => Err(ErrorKind::WriteZero.into()),
                count => Ok(count),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
