//! Connections over a network: how they are encrypted, how long they may take, and how many there may be of strangers.
//!
//! - [`Tls`]: a certificate, its key and the certificates of those who are believed; a [`Connector`] and [`Acceptor`]s are
//!   made of it. The command line has a [`Connector`] alone.
//! - [`Stream`]: a connection with or without TLS, for threads that block. Two threads may use it at the same time, one to
//!   read and one to write.
//! - [`Door`]: accepts connections, each on a thread of its own, within limits.
//! - [`Strangers`]: which connection is closed if there are too many that have not proved yet that they belong to the cluster.
//! - [`explain`](fn@explain) and its like: what an error of TLS means for whoever has configured it.
//!
//! TLS is version 1.3 by rustls, with the cryptography of ring. A certificate is valid if an authority in `tls.ca` has issued
//! it, and if it has the name that the connection was made to. There is no resumption: every connection is checked.
//!
//! Not here: the cluster secret, which everybody has to prove, with TLS or without (crate `tidegate-access`); HTTP; tasks of
//! tokio, for which a [`Connector`] and an [`Acceptor`] hand out their configurations.

#![forbid(unsafe_code)]

mod door;
mod explain;
mod pem;
mod session;
mod strangers;
mod stream;
mod tls;
mod wire;

pub use door::{Door, Guest};
pub use explain::{explain, explain_handshake, explain_io};
pub use strangers::{Limits, Strangers};
pub use stream::Stream;
pub use tidegate_protocol::process::TlsFiles;
pub use tls::{Acceptor, Clients, Connector, Tls};
