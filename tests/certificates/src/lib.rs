//! Certificates for tests: an authority in a directory, which issues them.
//!
//! Everything panics if something cannot be made: only tests use it.

#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidegate_protocol::process::TlsFiles;

/// An authority, with its certificate as `ca.pem` in a directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one. The directory must exist.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the CA of a test");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    /// The file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Issues a certificate with these alternative names, which may be IP addresses, as `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, names: &[&str]) -> TlsFiles {
        self.issue_until(name, names, 4096)
    }

    /// Issues one that is valid until this year.
    pub fn issue_until(&self, name: &str, names: &[&str], year: i32) -> TlsFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        fs::write(path("pem"), certificate.pem()).unwrap();
        write_key(&path("key"), &key.serialize_pem());
        TlsFiles { certificate: path("pem"), key: path("key"), ca: self.file(), server_name: None }
    }
}

fn write_key(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
