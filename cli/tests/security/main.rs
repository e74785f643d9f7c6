//! Strangers and TLS, with real daemons.

mod cluster;
mod strangers;
mod tls;
