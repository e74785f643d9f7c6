//! Checkpoint stores by their names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::Result;
use tidegate_snapshots::{CheckpointStore, LocalStore};

use crate::bucket::Bucket;
use crate::{Copies, ObjectStore, S3Settings, S3Uri};

/// Opens checkpoint stores, and has the connections to those in buckets. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    settings: Arc<S3Settings>,
    buckets: Arc<Mutex<HashMap<String, Arc<Bucket>>>>,
}

impl Stores {
    /// With these settings for buckets.
    pub fn new(settings: S3Settings) -> Self {
        Self { settings: Arc::new(settings), buckets: Arc::default() }
    }

    /// The store at a place in a bucket. Nothing is sent: a bucket that is not there is noticed by the first request.
    ///
    /// # Errors
    /// If settings or credentials cannot be used.
    pub fn bucket(&self, uri: &S3Uri) -> Result<ObjectStore> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get(uri.bucket()) {
            Some(bucket) => bucket.clone(),
            None => {
                let bucket = Arc::new(Bucket::open(&self.settings, uri.bucket())?);
                buckets.insert(uri.bucket().to_owned(), bucket.clone());
                bucket
            }
        };
        Ok(ObjectStore::new(bucket, uri.clone()))
    }

    /// The checkpoint store of a job, which was made before. In a bucket, files are kept in the directory for copies, if one
    /// is given; the files of a directory are linked anyway.
    ///
    /// # Errors
    /// If the name is invalid, or a directory is not there.
    pub fn of_job(&self, name: &str, copies: Option<&Path>) -> Result<Arc<dyn CheckpointStore>> {
        if !S3Uri::is_meant_by(name) {
            return Ok(Arc::new(LocalStore::existing(Path::new(name))?));
        }
        let store = self.bucket(&name.parse()?)?;
        let Some(directory) = copies else { return Ok(Arc::new(store)) };
        Ok(Arc::new(store.with_copies(Copies::open(directory)?)))
    }

    /// The savepoint, or the checkpoint store of a job, that a user names, to read from it.
    ///
    /// # Errors
    /// If the name is invalid, or a directory is neither.
    pub fn named(&self, name: &str) -> Result<Arc<dyn CheckpointStore>> {
        if S3Uri::is_meant_by(name) {
            return Ok(Arc::new(self.bucket(&name.parse()?)?));
        }
        Ok(Arc::new(LocalStore::named(Path::new(name))?))
    }
}
