//! The staged files of sinks that have no place of their own for them: objects of the checkpoint store.

use std::io::Read;
use std::path::Path;

use tidegate_connector_api::StagedFileStore;
use tidegate_protocol::Result;
use tidegate_snapshots::Snapshots;

/// The staged files among a job's snapshots.
#[derive(Clone, Debug)]
pub(crate) struct StagedFiles(Snapshots);

impl StagedFiles {
    pub(crate) fn new(snapshots: &Snapshots) -> Self {
        Self(snapshots.clone())
    }
}

impl StagedFileStore for StagedFiles {
    fn put(&self, file: &Path, name: &str) -> Result<String> {
        self.0.put_staged_file(file, name)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        self.0.open_staged_file(path)
    }
}
