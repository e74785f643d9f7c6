//! The executables of jobs, copied from the checkpoint store to this host, each under its SHA-256.
//!
//! The store is a directory that this host sees, or a bucket.
//!
//! An executable is checked while it is copied, and once more by every run of the taskmanager that uses it: a torn or
//! changed file is fetched again. What was not used for a week is removed at the start.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tidegate_object_store::{S3Uri, Stores};
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Error, ErrorContext, Result};
use tidegate_snapshots::CheckpointStore;

/// How long an executable is kept that is not used.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The executables that are here.
#[derive(Debug)]
pub(crate) struct Executables {
    directory: PathBuf,
    stores: Stores,
    /// Those that this run of the taskmanager has checked.
    checked: Mutex<HashSet<String>>,
    /// The number of the next temporary file.
    next: AtomicU64,
}

impl Executables {
    pub(crate) fn new(directory: PathBuf, stores: Stores) -> Self {
        Self { directory, stores, checked: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Where an executable is, or will be.
    pub(crate) fn path(&self, program: &Program) -> PathBuf {
        self.directory.join(&program.sha256)
    }

    /// Makes sure that an executable is here, complete and unchanged.
    pub(crate) fn fetch(&self, program: &Program) -> Result<PathBuf> {
        let Program { sha256, path: source, .. } = program;
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::internal(format!("'{sha256}' is not a SHA-256 in hexadecimal digits")));
        }
        let path = self.path(program);
        let is_checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(sha256);
        if is_checked && path.exists() || self.is_intact(&path, sha256) {
            if let Ok(file) = File::open(&path) {
                // It only tells when the executable was used.
                let _ = file.set_modified(SystemTime::now());
            }
        } else {
            self.copy(source, &path, sha256).context(|| format!("fetch the executable {source}"))?;
        }
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.clone());
        Ok(path)
    }

    fn is_intact(&self, path: &Path, sha256: &str) -> bool {
        let hashed = File::open(path).and_then(|mut file| hash(&mut file, &mut std::io::sink()));
        hashed.is_ok_and(|found| found == sha256)
    }

    fn copy(&self, source: &str, target: &Path, sha256: &str) -> Result<()> {
        let from = self.open(source)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{sha256}.{number}.new"));
        let copied = self.write(from, &temporary, sha256).and_then(|()| {
            fs::rename(&temporary, target)?;
            Ok(())
        });
        if copied.is_err() {
            // It is removed at the next start, too.
            let _ = fs::remove_file(&temporary);
        }
        copied
    }

    fn open(&self, source: &str) -> Result<Box<dyn Read + Send>> {
        if S3Uri::is_meant_by(source) {
            let uri: S3Uri = source.parse()?;
            let place = uri.parent_and_name();
            let (parent, name) = place.ok_or_else(|| Error::environment("it is a bucket and not a file"))?;
            return self.stores.bucket(&parent)?.open_file(name);
        }
        let from = File::open(source)?;
        if !from.metadata()?.is_file() {
            return Err(Error::environment("it is not a file"));
        }
        Ok(Box::new(from))
    }

    fn write(&self, mut from: impl Read, temporary: &Path, sha256: &str) -> Result<()> {
        let mut options = File::options();
        let mut to = options.write(true).create(true).truncate(true).mode(0o700).open(temporary)?;
        let found = hash(&mut from, &mut to)?;
        to.sync_all()?;
        if found != sha256 {
            return Err(Error::environment(format!("its SHA-256 is {found}, and should be {sha256}")));
        }
        Ok(())
    }

    /// Removes what was not used for a week, and copies that were not completed. No fetch may be under way.
    pub(crate) fn remove_old(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_partial = entry.file_name().as_encoded_bytes().ends_with(b".new");
            let used = entry.metadata()?.modified()?;
            if is_partial || used.elapsed().is_ok_and(|age| age > KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Copies everything; returns its SHA-256 in hexadecimal digits.
fn hash(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<String> {
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(count) => {
                sha256.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn program(directory: &Path, content: &str) -> Program {
        let path = directory.join("source");
        fs::write(&path, content).unwrap();
        let (sha256, path) = (SHA256_OF_ABC.to_owned(), path.to_str().unwrap().to_owned());
        Program { name: "abc".to_owned(), sha256, path, arguments: vec![], directory: None }
    }

    #[test]
    fn an_executable_is_copied_once_and_again_if_it_was_changed() {
        let directory = tempfile::tempdir().unwrap();
        let executables = Executables::new(directory.path().join("executables"), Stores::default());
        fs::create_dir(&executables.directory).unwrap();
        let program = program(directory.path(), "abc");
        let path = executables.fetch(&program).unwrap();
        assert_eq!(path, executables.path(&program));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(&path, "ab").unwrap();
        let executables = Executables::new(executables.directory, Stores::default());
        executables.fetch(&program).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        fs::remove_file(&program.path).unwrap();
        assert!(executables.fetch(&program).is_ok(), "it is here");

        fs::write(executables.directory.join("x.new"), "").unwrap();
        executables.remove_old().unwrap();
        assert_eq!(fs::read_dir(&executables.directory).unwrap().count(), 1);
        File::open(&path).unwrap().set_modified(SystemTime::now() - 2 * KEPT).unwrap();
        executables.remove_old().unwrap();
        assert_eq!(fs::read_dir(&executables.directory).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_the_executable_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let executables = Executables::new(directory.path().join("executables"), Stores::default());
        fs::create_dir(&executables.directory).unwrap();
        let program = program(directory.path(), "abd");
        let error = executables.fetch(&program).unwrap_err().to_string();
        assert!(error.contains("/source: its SHA-256 is ") && error.ends_with(SHA256_OF_ABC), "{error}");
        let missing = Program { path: "/no/such".to_owned(), ..program.clone() };
        let error = executables.fetch(&missing).unwrap_err().to_string();
        assert!(error.starts_with("fetch the executable /no/such: No such file"), "{error}");
        let outside = Program { sha256: "../x".to_owned(), ..program.clone() };
        assert!(executables.fetch(&outside).is_err());
        let no_file = Program { path: "/dev".to_owned(), ..program };
        assert!(executables.fetch(&no_file).unwrap_err().to_string().ends_with("it is not a file"));
        assert_eq!(fs::read_dir(&executables.directory).unwrap().count(), 0);
    }
}
