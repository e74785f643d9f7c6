//! TLS, from the configuration.
//!
//! A daemon needs a certificate, its key and the authorities that it believes; the command line needs the authorities only,
//! and does not read the others, which it may not be allowed to.

use std::net::IpAddr;
use std::path::{Path, PathBuf, absolute};

use tidegate_client::Connector;
use tidegate_protocol::process::TlsFiles;
use tidegate_protocol::{Error, ErrorContext, Result};

use crate::config::Config;
use crate::config::keys::{self, AnyKey, Key};

/// The files of a daemon; None if no key of TLS is set. The paths are absolute: job processes run in other directories.
pub(crate) fn files(config: &Config) -> Result<Option<TlsFiles>> {
    let all: [&Key<PathBuf>; 3] = [&keys::TLS_CERTIFICATE, &keys::TLS_KEY, &keys::TLS_CA];
    let missing: Vec<&str> =
        all.iter().filter(|key| config.entry(**key).is_none()).map(|key| key.name()).collect();
    if missing.len() == all.len() {
        return Ok(None);
    }
    if !missing.is_empty() {
        return Err(Error::environment(format!(
            "a daemon with TLS needs tls.certificate, tls.key and tls.ca, and {} is not set (docs/cluster.md, 'TLS')",
            missing.join(" and ")
        )));
    }
    let path = |key: &Key<PathBuf>| absolute_path(&config.get(key, None)?);
    Ok(Some(TlsFiles {
        certificate: path(&keys::TLS_CERTIFICATE)?,
        key: path(&keys::TLS_KEY)?,
        ca: path(&keys::TLS_CA)?,
        server_name: config.find(&keys::TLS_SERVER_NAME)?,
    }))
}

fn absolute_path(path: &Path) -> Result<PathBuf> {
    absolute(path).context(|| format!("the path {} cannot be used", path.display()))
}

/// What the command line connects with; None for connections without TLS.
pub(crate) fn connector(config: &Config) -> Result<Option<Connector>> {
    let Some(ca) = config.find(&keys::TLS_CA)? else { return Ok(None) };
    Connector::believing(&ca, config.find(&keys::TLS_SERVER_NAME)?).map(Some)
}

/// Says that others can read what they should not, where a daemon that other hosts reach has no TLS.
pub(crate) fn warn_of_plain_connections(listen: IpAddr, tls: Option<&TlsFiles>) {
    if tls.is_none() && !listen.is_loopback() {
        tracing::warn!(
            target: "tidegate",
            "connections to {listen} are not encrypted: who can read the network traffic can read records, arguments and \
             executables. Set tls.certificate, tls.key and tls.ca (docs/cluster.md, 'TLS'), or use a network that you trust"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    #[test]
    fn a_daemon_needs_all_files_or_none() {
        assert_eq!(files(&Config::of_flags(vec![])).unwrap(), None);
        let ca = || Given::flag(&keys::TLS_CA, "--tls-ca", "ca.pem");
        let error = files(&Config::of_flags(vec![ca()])).unwrap_err().to_string();
        assert!(error.contains("and tls.certificate and tls.key is not set"), "{error}");
        let certificate = Given::flag(&keys::TLS_CERTIFICATE, "--tls-certificate", "/a.pem");
        let key = Given::flag(&keys::TLS_KEY, "--tls-key", "a.key");
        let found = files(&Config::of_flags(vec![ca(), certificate, key])).unwrap().unwrap();
        assert!(found.ca.is_absolute() && found.key.is_absolute());
        assert_eq!(found.certificate, Path::new("/a.pem"));
    }

    #[test]
    fn the_command_line_reads_the_authorities_only() {
        assert!(connector(&Config::of_flags(vec![])).unwrap().is_none());
        let error = connector(&Config::of_flags(vec![Given::flag(&keys::TLS_CA, "--tls-ca", "/no/ca.pem")]))
            .unwrap_err();
        assert!(
            error.to_string().starts_with("the file /no/ca.pem that tls.ca names cannot be read"),
            "{error}"
        );
    }
}
