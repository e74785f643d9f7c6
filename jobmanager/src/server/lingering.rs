//! How a connection ends whose client may still be sending.
//!
//! A request is often answered before all of it has come: its signature is wrong, or it is too long. If the socket is then
//! closed while something that was sent is unread, the system resets the connection: the client cannot go on sending, and
//! shows a broken pipe instead of the answer. So only the sending half is closed at first; what still comes is thrown away,
//! until the client closes its half, or for a short time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long what still comes is read.
const TIME: Duration = Duration::from_secs(2);
/// The most bytes that are read.
const BYTES_MAX: usize = 16 << 20;
/// The bytes that are read at once.
const PIECE: usize = 8 << 10;

/// A connection that is not closed while the client sends, but for long.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    /// Set when the sending half is closed.
    rest: Option<Rest>,
}

/// What may still be read.
#[derive(Debug)]
struct Rest {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, rest: None }
    }
}

impl Rest {
    fn new() -> Self {
        Self { until: Box::pin(tokio::time::sleep(TIME)), bytes: BYTES_MAX }
    }

    /// Ready when nothing more is to be read.
    fn poll_through(&mut self, stream: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<()> {
        if self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; PIECE];
        loop {
            let mut buffer = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 || count >= self.bytes {
                return Poll::Ready(());
            }
            self.bytes -= count;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, rest } = self.get_mut();
        if rest.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        rest.get_or_insert_with(Rest::new).poll_through(stream, context).map(Ok)
    }
}
