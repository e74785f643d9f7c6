//! Clusters of real daemons, and real jobs: what is observed of them, what is logged when a process dies, what becomes of a daemon
//! that panics, snapshots in a bucket, strangers, TLS.

mod bucket;
mod cluster;
mod lost_peers;
mod observing;
mod panics;
mod strangers;
mod tls;
