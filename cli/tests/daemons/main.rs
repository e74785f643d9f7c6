//! Clusters of real daemons, and real jobs: what is observed of them, snapshots in a bucket, strangers, TLS.

mod bucket;
mod cluster;
mod observing;
mod strangers;
mod tls;
