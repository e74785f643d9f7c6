//! The secret, the file that it is kept in, and what is computed from it.
//!
//! The secret of a cluster is text, in a file that is copied to every host. Whoever can read the file controls the cluster,
//! so a file that others than its owner can access is refused. A secret that exists in memory only, such as that of an
//! attempt, may consist of any bytes.
//!
//! Not here: how a secret gets to another process.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tidegate_protocol::{Error, ErrorContext, Result};
use zeroize::Zeroizing;

use crate::{hex, random};

/// The fewest bytes of a secret.
const BYTES_MIN: usize = 16;

/// The most bytes of a secret.
const BYTES_MAX: usize = 1024;

/// The most bytes that are read of a file: a secret and some whitespace.
const FILE_BYTES_MAX: usize = 2 * BYTES_MAX;

/// 16 to 1024 bytes that only the processes of a cluster, or of an attempt, have. Overwritten with zeros when dropped.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A new secret: 32 random bytes, as 64 hexadecimal digits.
    pub fn generate() -> Self {
        let bytes = Zeroizing::new(random::bytes::<32>());
        Self { bytes: Zeroizing::new(hex::encode(&*bytes).into_bytes()) }
    }

    /// A secret made at run time, of any bytes; nothing is trimmed. The secret of an attempt, for example, is made of
    /// `cluster.mac("attempt secret", ..)`. The processes of the attempt receive these bytes, and not the cluster's secret.
    ///
    /// # Errors
    /// If it has fewer than 16 or more than 1024 bytes.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return Err(Error::environment(format!(
                "a secret has {BYTES_MIN} to {BYTES_MAX} bytes, this one has {}",
                bytes.len()
            )));
        }
        Ok(Self { bytes: Zeroizing::new(bytes.to_vec()) })
    }

    /// The secret in a file, without the whitespace at its end.
    ///
    /// A regular file must be accessible to its owner only. Anything else, such as a pipe, is read whatever its permissions
    /// are.
    ///
    /// # Errors
    /// If the file cannot be read, others than its owner can access it, or it does not contain a secret.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).context(|| {
            format!(
                "cannot open the secret file {} (copy it from another host of the cluster; the user that runs this process \
                 must be its owner)",
                path.display()
            )
        })?;
        check_permissions(path, &file)?;
        // With its final capacity: a buffer that grows would leave a copy of the secret in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        let read = Read::take(&file, FILE_BYTES_MAX as u64).read_to_end(&mut bytes);
        read.context(|| format!("cannot read the secret file {}", path.display()))?;
        in_file(&bytes).context(|| {
            format!(
                "the secret file {0} cannot be used (umask 077; openssl rand -hex 32 > '{0}' writes a new secret, which \
                 every process of the cluster then needs)",
                path.display()
            )
        })
    }

    /// Writes a new secret to a new file, which only its owner can access from the moment that it exists.
    ///
    /// ```
    /// use tidegate_access::Secret;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("secret");
    /// let created = Secret::create(&path)?;
    /// assert_eq!(Secret::read(&path)?.mac("example", &[]), created.mac("example", &[]));
    /// # Ok::<(), tidegate_protocol::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the file exists already, or cannot be written and synced. Then no new file is left behind.
    pub fn create(path: &Path) -> Result<Self> {
        let secret = Self::generate();
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.context(|| {
            format!(
                "cannot create the secret file {} (an existing file is not overwritten; its directory must exist and be \
                 writable)",
                path.display()
            )
        })?;
        if let Err(error) = secret.write(file, path) {
            drop(fs::remove_file(path));
            return Err(
                Error::from(error).context(format!("cannot write the secret file {}", path.display()))
            );
        }
        Ok(secret)
    }

    fn write(&self, mut file: File, path: &Path) -> std::io::Result<()> {
        file.write_all(&self.bytes)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// A proof that its author has the secret: HMAC-SHA-256 over the purpose and the parts, each behind its length
    /// (8 bytes, little-endian), so that no two lists of parts have the same input.
    ///
    /// A purpose is used for one kind of message only, so that a proof of one kind is not valid as one of another kind. This
    /// crate uses "challenge", "request", "response", "accept", "connect" and "verdict".
    pub fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.hmac(purpose, parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is that of the purpose and the parts. Takes the same time wherever they differ.
    pub fn check(&self, purpose: &str, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.hmac(purpose, parts).verify_slice(mac).is_ok()
    }

    fn hmac(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hmac = Hmac::new_from_slice(&self.bytes).expect("HMAC takes a key of any length");
        for part in [purpose.as_bytes()].iter().chain(parts) {
            hmac.update(&(part.len() as u64).to_le_bytes());
            hmac.update(part);
        }
        hmac
    }
}

/// Shows nothing of the content.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn in_file(bytes: &[u8]) -> Result<Secret> {
    if bytes.len() == FILE_BYTES_MAX {
        return Err(Error::environment(format!("it is too long, a secret has at most {BYTES_MAX} bytes")));
    }
    match std::str::from_utf8(bytes).map(str::trim_end) {
        Err(_) => Err(Error::environment("it is not UTF-8 text")),
        Ok("") => Err(Error::environment("it is empty")),
        Ok(text) => Secret::of(text.as_bytes()),
    }
}

fn check_permissions(path: &Path, file: &File) -> Result<()> {
    let metadata =
        file.metadata().context(|| format!("cannot look at the secret file {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(Error::environment(format!(
            "the secret file {0} is accessible to others than its owner (its mode is {mode:04o}); run: chmod 600 '{0}'",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The error from reading a secret file of this content and mode.
    fn error_of(content: &[u8], mode: u32) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Secret::read(&path).unwrap_err().to_string()
    }

    #[test]
    fn a_created_secret_is_read_back_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let secret = Secret::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap().len(), 65);
        assert!(Secret::create(&path).unwrap_err().to_string().contains("is not overwritten"));
        assert_eq!(Secret::read(&path).unwrap().bytes, secret.bytes);
        assert_ne!(Secret::generate().bytes, secret.bytes);
        let error = Secret::create(&directory.path().join("no/secret")).unwrap_err().to_string();
        assert!(error.contains("no/secret (an existing file"), "{error}");
    }

    #[test]
    fn a_file_without_a_secret_is_refused_with_the_reason() {
        for (content, expected) in [
            (&b" \n\t\n"[..], "it is empty"),
            (b"123456789012345 \n", "has 15"),
            (&[b'x'; 1025], "has 1025"),
            (&[b'x'; 10_000], "too long"),
            (b"0123456789abcdef\xff", "not UTF-8"),
        ] {
            let error = error_of(content, 0o400);
            assert!(error.contains(expected) && error.contains("openssl rand"), "{error}");
        }
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let error = error_of(b"0123456789abcdef", mode);
            assert!(error.contains("; run: chmod 600 '/"), "{error}");
        }
        let error = Secret::read(Path::new("/no/secret")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the secret file /no/secret (copy"), "{error}");
        let error = Secret::read(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("it is empty"), "a device is read whatever its mode: {error}");
    }

    #[test]
    fn a_secret_has_16_to_1024_bytes_and_is_not_printed() {
        for length in [16, 1024] {
            assert_eq!(
                in_file(format!("{} \r\n\n", "ä".repeat(length / 2)).as_bytes()).unwrap().bytes.len(),
                length
            );
        }
        assert!(Secret::of(&[b'q'; 15]).is_err() && Secret::of(&[b'q'; 1025]).is_err());
        assert_eq!(format!("{:?}", Secret::of(&[b'q'; 16]).unwrap()), "Secret(..)");
    }

    /// So that processes of different releases understand each other.
    #[test]
    fn a_mac_stays_the_same() {
        // printf '\7\0\0\0\0\0\0\0purpose\1\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\0' | openssl dgst -sha256 -hmac 0123456789abcdef
        let mac = Secret::of(b"0123456789abcdef").unwrap().mac("purpose", &[b"a", b""]);
        assert_eq!(hex::encode(&mac), "b470ba67d234215349287a76252501c0b841c88d31ee795ea733a0c862f26a91");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn other_parts_have_another_mac_also_if_they_are_the_same_when_joined(
            text in prop::collection::vec(0u8..2, 0..5), cut in 0usize..5, other_cut in 0usize..5
        ) {
            let secret = Secret::of(b"0123456789abcdef").unwrap();
            let [parts, others] = [cut, other_cut].map(|at| text.split_at(at.min(text.len())));
            let mac = secret.mac("purpose", &[parts.0, parts.1]);
            prop_assert!(secret.check("purpose", &[parts.0, parts.1], &mac));
            prop_assert_eq!(secret.check("purpose", &[others.0, others.1], &mac), parts == others);
            prop_assert!(!secret.check("purpose", &[&text], &mac) && !secret.check("purpose", &[parts.0, parts.1, b""], &mac));
            prop_assert!(!secret.check("purpos", &[parts.0, parts.1], &mac));
            prop_assert!(!secret.check("purpose", &[parts.0, parts.1], &mac[..31]));
        }

        #[test]
        fn any_bytes_are_a_secret_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            drop(in_file(&bytes));
        }
    }
}
