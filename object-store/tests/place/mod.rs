//! Where a test has its stores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_object_store::{Copies, ObjectStore, S3Settings, S3Uri, Stores};
use tidegate_s3_server::{BUCKET, KEY_ID, S3Server, SECRET_KEY};
use tidegate_snapshots::{CheckpointStore, LocalStore};

/// A store of a kind, another one, and where the objects of the first are as files.
pub(crate) type OfKind = (&'static str, Arc<dyn CheckpointStore>, Arc<dyn CheckpointStore>, PathBuf);

/// A directory, and an S3 server.
pub(crate) struct Place {
    pub(crate) server: S3Server,
    directory: TempDir,
    next: AtomicU64,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { server: S3Server::new(), directory: tempfile::tempdir().unwrap(), next: AtomicU64::new(0) }
    }

    /// A path at which nothing is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(crate) fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.path();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The settings of the server, with its keys in a file.
    pub(crate) fn settings(&self, patience: Duration) -> S3Settings {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(
            format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n")
                .as_bytes(),
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        S3Settings {
            endpoint: Some(self.server.endpoint()),
            region: Some("us-east-1".to_owned()),
            virtual_hosted_style: None,
            credentials_file: Some(path),
            patience,
        }
    }

    pub(crate) fn bucket(&self, prefix: &str) -> ObjectStore {
        let uri: S3Uri = format!("s3://{BUCKET}/{prefix}").parse().unwrap();
        Stores::new(self.settings(Duration::from_secs(20))).bucket(&uri).unwrap()
    }

    /// A store of every kind.
    #[allow(dead_code, reason = "not all tests that share the module need all of it")]
    pub(crate) fn stores(&self) -> Vec<OfKind> {
        let directory = |path: &Path| LocalStore::open(path).unwrap();
        let (local, other) = (directory(&self.path()), directory(&self.path()));
        let objects = local.root().to_owned();
        let bucket = |prefix| Arc::new(self.bucket(prefix));
        let copies = Copies::open(&self.path()).unwrap();
        let with_copies = self.bucket("jobs/copies").with_copies(copies);
        let of = |prefix: &str| self.server.bucket().join(prefix);
        vec![
            ("a directory", Arc::new(local), Arc::new(other), objects),
            ("a bucket", bucket("jobs/plain"), bucket("savepoints/plain"), of("jobs/plain")),
            ("a bucket with copies", Arc::new(with_copies), bucket("savepoints/copies"), of("jobs/copies")),
        ]
    }
}
