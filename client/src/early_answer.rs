//! An answer that comes before the whole request was sent.
//!
//! A jobmanager that refuses a request, or cannot go on with it, answers and closes the connection while the body is still
//! being sent. What is sent after that fails, although the answer is there: it is what the user has to see, and not the
//! broken pipe. If it comes before any of the body was sent, instead of the word that the body is wanted, ureq has it in its
//! buffer and waits for more; it is made to look at what it has.

use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector as HttpConnector, NextTimeout, Transport,
};

/// Makes connections on which an early answer is heard.
#[derive(Debug)]
pub(crate) struct HearsEarlyAnswers;

/// A connection on which nothing fails but reading, once the other end does not receive any more.
#[derive(Debug)]
pub(crate) struct Hearing<T> {
    inner: T,
    /// What is sent from now on is not received.
    is_deaf: bool,
    /// Something was received, and it was looked at once at most.
    is_new: bool,
}

impl<In: Transport> HttpConnector<In> for HearsEarlyAnswers {
    type Out = Hearing<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Hearing<In>>, Error> {
        Ok(chained.map(|inner| Hearing { inner, is_deaf: false, is_new: false }))
    }
}

impl<T: Transport> Transport for Hearing<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_deaf {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(e)) if matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
                self.is_deaf = true;
                Ok(())
            }
            sent => sent,
        }
    }

    /// This is called when there is no input, or when what there is was looked at and not consumed.
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if std::mem::take(&mut self.is_new) && !self.buffers().input().is_empty() {
            return Ok(true);
        }
        self.is_new = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.is_deaf && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
