//! TLS below HTTP: connections that are made by the cluster's [`Connector`].
//!
//! Not by ureq itself, whose configuration has neither the names that a cluster expects nor its errors.

use std::fmt;
use std::io::{Read, Write};

use rustls::{ClientConnection, StreamOwned};
use tidegate_transport::{Connector, explain_handshake};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector as HttpConnector, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Puts TLS on every connection.
#[derive(Debug)]
pub(crate) struct TlsConnector(pub(crate) Connector);

/// There is no TLS connection, so nothing was sent.
#[derive(Debug)]
pub(crate) struct NoTls(String);

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoTls {}

/// A connection with TLS.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl<In: Transport> HttpConnector<In> for TlsConnector {
    type Out = TlsTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<TlsTransport>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let address = details.uri.authority().map_or("", |authority| authority.as_str());
        let failed = |why: &dyn fmt::Display| Error::Other(Box::new(NoTls(why.to_string())));
        let name = self.0.name(address).map_err(|e| failed(&e))?;
        let mut connection = ClientConnection::new(self.0.config(), name).map_err(|e| failed(&e))?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket).map_err(|error| match Error::from(error) {
            Error::Io(error) => failed(&explain_handshake(&error)),
            // Time is up, say.
            error => error,
        })?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(TlsTransport { buffers, stream: StreamOwned { conn: connection, sock: socket } }))
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
