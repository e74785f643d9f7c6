//! Credentials in a file, as the tools of AWS write it.
//!
//! The file is read again when it has changed, so that keys can be replaced while processes run.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::future::{BoxFuture, FutureExt};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tidegate_protocol::{Error, ErrorContext, Result};

/// The most bytes of a credentials file.
const BYTES_MAX: u64 = 1 << 20;

/// Reads credentials from a file.
#[derive(Debug)]
pub(crate) struct FileCredentials {
    path: PathBuf,
    /// The section of the file.
    profile: String,
    /// What was read last, and when the file had been changed then.
    read: Mutex<Option<(SystemTime, Arc<AwsCredential>)>>,
}

impl FileCredentials {
    /// The credentials in a file, those of the profile that AWS_PROFILE names.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let profile = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        let profile = profile.unwrap_or_else(|| "default".to_owned());
        let this = Self { path: path.to_owned(), profile, read: Mutex::new(None) };
        this.current().map(|_| this)
    }

    fn current(&self) -> Result<Arc<AwsCredential>> {
        let doing = || format!("the credentials file {}", self.path.display());
        let changed = fs::metadata(&self.path).and_then(|file| file.modified()).context(doing)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = read.as_ref().filter(|(then, _)| *then == changed) {
            return Ok(known.clone());
        }
        let found = Arc::new(self.parse().context(doing)?);
        *read = Some((changed, found.clone()));
        Ok(found)
    }

    fn parse(&self) -> Result<AwsCredential> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_file() && mode & 0o077 != 0 {
            return Err(Error::environment(format!(
                "it is accessible to others than its owner (its mode is {mode:04o}); run: chmod 600 '{}'",
                self.path.display()
            )));
        }
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        credential(&text, &self.profile)
    }
}

/// The credentials of a profile. No error shows a value.
fn credential(text: &str, profile: &str) -> Result<AwsCredential> {
    let mut is_in_section = false;
    let [mut key_id, mut secret_key, mut token] = [None, None, None];
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_in_section = section.trim() == profile;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_in_section) else { continue };
        let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => key_id = value,
            "aws_secret_access_key" => secret_key = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    match (key_id, secret_key) {
        (Some(key_id), Some(secret_key)) => Ok(AwsCredential { key_id, secret_key, token }),
        _ => Err(Error::environment(format!(
            "it has no section [{profile}] with aws_access_key_id = ... and aws_secret_access_key = ..."
        ))),
    }
}

impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    /// The body of an async method as the trait's macro would write it.
    fn get_credential<'a, 'b>(&'a self) -> BoxFuture<'b, object_store::Result<Arc<AwsCredential>>>
    where
        'a: 'b,
        Self: 'b,
    {
        let failed =
            |error: Error| object_store::Error::Generic { store: "S3", source: error.to_string().into() };
        std::future::ready(self.current().map_err(failed)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\n[other]\naws_access_key_id = no\naws_secret_access_key = no\n\n[default]\n\
                        aws_access_key_id=id\n aws_secret_access_key = se=cret \nregion = x\n";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn the_keys_of_a_profile_are_read_again_when_the_file_has_changed() {
        let (_directory, path) = file(FILE, 0o600);
        let credentials = FileCredentials::open(&path).unwrap();
        let current = credentials.current().unwrap();
        assert_eq!((&*current.key_id, &*current.secret_key, &current.token), ("id", "se=cret", &None));
        fs::write(&path, FILE.replace("=id", "=new").replace("region", "aws_session_token")).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(2);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let current = credentials.current().unwrap();
        assert_eq!((&*current.key_id, current.token.as_deref()), ("new", Some("x")));
        assert!(!format!("{credentials:?}").contains("se=cret"));
    }

    #[test]
    fn a_file_without_keys_or_that_others_can_read_is_refused_and_not_shown() {
        for (text, mode, why) in [
            (FILE, 0o644, "accessible to others than its owner (its mode is 0644); run: chmod 600"),
            ("[default]\naws_access_key_id = hidden\n", 0o600, "it has no section [default] with"),
        ] {
            let (_directory, path) = file(text, mode);
            let error = FileCredentials::open(&path).unwrap_err().to_string();
            assert!(error.starts_with("the credentials file /") && error.contains(why), "{error}");
            assert!(!error.contains("hidden") && !error.contains("se=cret"));
        }
    }
}
