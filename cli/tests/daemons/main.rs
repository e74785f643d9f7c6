//! Clusters of real daemons, and real jobs: what is observed of them, what is logged when a process dies, snapshots in a bucket, strangers, TLS.

mod bucket;
mod cluster;
mod lost_peers;
mod observing;
mod strangers;
mod tls;
