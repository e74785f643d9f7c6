//! The sockets between the processes of an attempt.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use tidegate_transport as transport;
use timely::communication::allocator::zero_copy::stream::Stream;

/// A connection to another process: over a network, with TLS or without, or within a host.
pub(crate) enum Socket {
    Network(transport::Stream),
    Unix(UnixStream),
}

macro_rules! each {
    ($self:expr, $stream:ident => $does:expr) => {
        match $self {
            Self::Network($stream) => $does,
            Self::Unix($stream) => $does,
        }
    };
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, stream => stream.flush())
    }
}

impl Stream for Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Network(stream) => Self::Network(stream.clone()),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            // Timely asks for a socket that blocks, which this is.
            Self::Network(stream) => stream.tcp().set_nonblocking(nonblocking),
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        each!(self, stream => stream.shutdown(how))
    }
}

/// The connections of a process to the other processes of its attempt, each in the order of the processes and None for
/// the process itself.
pub(crate) struct Sockets {
    /// For records and progress, by timely.
    pub(crate) data: Vec<Option<Socket>>,
    /// For what the processes tell each other beside the dataflow ([`super::peers`]).
    pub(crate) peers: Vec<Option<Socket>>,
}

impl Sockets {
    /// The sockets of so many processes of an attempt that are parts of one process of the operating system.
    pub(crate) fn within(processes: usize) -> io::Result<Vec<Self>> {
        let none = || (0..processes).map(|_| None).collect();
        let mut all: Vec<Self> = (0..processes).map(|_| Self { data: none(), peers: none() }).collect();
        for i in 0..processes {
            for j in 0..i {
                let (here, there) = UnixStream::pair()?;
                (all[i].data[j], all[j].data[i]) = (Some(Socket::Unix(here)), Some(Socket::Unix(there)));
                let (here, there) = UnixStream::pair()?;
                (all[i].peers[j], all[j].peers[i]) = (Some(Socket::Unix(here)), Some(Socket::Unix(there)));
            }
        }
        Ok(all)
    }
}
