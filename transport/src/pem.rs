//! The files: certificates and a key, as PEM.

use std::fs::{self, File};
use std::io::{Read, Take};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_protocol::{Error, ErrorContext, Result};

/// The most bytes of a file.
const BYTES_MAX: u64 = 4 << 20;

/// The certificates of a file, which the configuration names by `key`; at least one.
pub(crate) fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| wrong(key, path, &format!("it is not PEM: {e}")))?;
    if all.is_empty() {
        return Err(wrong(
            key,
            path,
            "there is no certificate in it: it must have lines '-----BEGIN CERTIFICATE-----'",
        ));
    }
    Ok(all)
}

/// The authorities of a file.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("tls.ca", path)? {
        let added = store.add(certificate);
        added.map_err(|e| wrong("tls.ca", path, &format!("a certificate in it cannot be read: {e}")))?;
    }
    Ok(store)
}

/// The private key of a file, which nobody but its owner and its group may read.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read("tls.key", path)?;
    let mode = fs::metadata(path).context(|| format!("the file {}", path.display()))?.permissions().mode();
    if mode & 0o007 != 0 {
        let (path_text, mode) = (path.display(), mode & 0o777);
        return Err(wrong(
            "tls.key",
            path,
            &format!(
                "everybody on this host can read it (its mode is {mode:04o}); run: chmod 600 '{path_text}'"
            ),
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let missing = "there is no private key in it: it must have a line such as '-----BEGIN PRIVATE KEY-----'; a key \
                       with a passphrase cannot be used";
        wrong("tls.key", path, missing)
    })
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(path).map(|file: File| -> Take<File> { file.take(BYTES_MAX) });
    let read = file.and_then(|mut file| file.read_to_end(&mut text));
    read.map_err(|e| {
        Error::environment(format!(
            "the file {} that {key} names cannot be read (the user that runs this process must be able to)",
            path.display()
        ))
        .caused_by(e)
    })?;
    Ok(text)
}

/// An error about the content of a file.
pub(crate) fn wrong(key: &str, path: &Path, why: &str) -> Error {
    Error::environment(format!("the file {} that {key} names cannot be used: {why}", path.display()))
}
