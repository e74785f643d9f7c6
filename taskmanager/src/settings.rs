//! What a taskmanager is told at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tidegate_access::Secret;
use tidegate_object_store::S3Settings;
use tidegate_protocol::process::TlsFiles;
use tidegate_protocol::{Error, Result};

/// What a taskmanager is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The jobmanagers of the cluster, each as `host:port`.
    pub jobmanagers: Vec<String>,
    /// The number of workers that there is room for.
    pub slots: u32,
    /// The data directory. It is created if it is missing.
    pub data: PathBuf,
    /// The secret of the cluster.
    pub secret: Secret,
    /// The address at which job processes listen for each other.
    pub listen: IpAddr,
    /// The name or address at which other hosts reach the job processes of this one; None for `listen`.
    pub address: Option<String>,
    /// After so long without a message a connection is taken for lost, and a job process ends itself. A process that has
    /// not answered for twice that time is killed.
    pub lease: Duration,
    /// After so long without a jobmanager all job processes are killed.
    pub away: Duration,
    /// The most bytes of a log file; a process has several, of which the oldest is removed.
    pub log_bytes: u64,
    /// The most log files of a process.
    pub log_files: u32,
    /// How this host reaches a checkpoint store in a bucket; job processes are told the same.
    pub s3: S3Settings,
    /// The address at which metrics are served, to everybody who can connect: Prometheus does not sign its requests. None
    /// to serve none.
    pub metrics: Option<SocketAddr>,
    /// The files for TLS on all connections, with absolute paths: job processes use them, too. None for connections without.
    pub tls: Option<TlsFiles>,
}

impl Settings {
    /// With everything else as it is by default: on one host, with a lease of 3 s.
    pub fn new(jobmanagers: Vec<String>, slots: u32, data: PathBuf, secret: Secret) -> Self {
        Self {
            jobmanagers,
            slots,
            data,
            secret,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            address: None,
            lease: Duration::from_secs(3),
            away: Duration::from_secs(300),
            log_bytes: 10_000_000,
            log_files: 3,
            s3: S3Settings::of_environment(),
            metrics: None,
            tls: None,
        }
    }

    /// The address that the jobmanager is told.
    pub(crate) fn public_address(&self) -> Result<String> {
        match &self.address {
            Some(address) => Ok(address.clone()),
            None if self.listen.is_unspecified() => Err(Error::environment(format!(
                "job processes listen at {}, which is no address that other hosts can connect to: say at which address they \
                 reach this host",
                self.listen
            ))),
            None => Ok(self.listen.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_needed_where_processes_listen_at_all_of_them() {
        let secret = Secret::generate();
        let mut settings = Settings::new(vec![], 1, PathBuf::new(), secret);
        assert_eq!(settings.public_address().unwrap(), "127.0.0.1");
        settings.listen = Ipv4Addr::UNSPECIFIED.into();
        assert!(settings.public_address().unwrap_err().to_string().contains("0.0.0.0, which is no address"));
        settings.address = Some("host-3".to_owned());
        assert_eq!(settings.public_address().unwrap(), "host-3");
    }
}
