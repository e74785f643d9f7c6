//! A directory that a job writes to, as a sink.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tidegate_connector_api::{
    DeadLetter, Owner, Publisher, SinkId, SinkPlace, SinkTarget, TransactionalSink, Writer,
};
use tidegate_protocol::{Result, Slot};

use super::publisher::FilePublisher;
use super::storage;
use super::target::OutputDirectory;
use super::writer::JsonWriter;

/// A directory to write dead letters to, or with [`FileLogSink::json`] records of any type.
#[derive(Clone, Debug)]
pub struct FileLogSink {
    directory: PathBuf,
}

impl FileLogSink {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Writes every record as one line of JSON.
    ///
    /// # Errors of a record
    /// A sink has no policy for malformed records: one that cannot be written as JSON (a map whose keys are not strings, a
    /// type whose `Serialize` refuses a value) ends the job, and ends it again after a restart. If records may be like that,
    /// check them in a `try_map` in front of the sink; what it refuses goes where malformed records go.
    #[must_use]
    pub fn json(self) -> JsonSink {
        JsonSink { log: self }
    }

    /// Nothing is made: a job is also described where it will not run.
    fn uri(&self) -> Result<String> {
        storage::canonical_if_made(&self.directory)
    }

    fn writer<T: Serialize>(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(JsonWriter::new(storage::canonical_made(&self.directory)?, &place)))
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        Ok(Box::new(OutputDirectory::open(storage::canonical_made(&self.directory)?, owner)?))
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(FilePublisher::new(storage::canonical_made(&self.directory)?)))
    }
}

/// A directory that records are written to as lines of JSON, visible an epoch at a time.
///
/// ```
/// use tidegate::testing::{TestJob, VecSource};
/// use tidegate_connectors::FileLog;
///
/// # fn main() -> tidegate::Result<()> {
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().to_owned();
/// let job = TestJob::new(move |job| {
///     job.source("numbers", VecSource::of([7, 8])).sink("out", FileLog::sink(&path).json());
///     Ok(())
/// });
/// job.run()?;
/// assert_eq!(std::fs::read_to_string(directory.path().join("part-0-1.jsonl"))?, "7\n8\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct JsonSink {
    log: FileLogSink,
}

impl<T: Serialize + 'static> TransactionalSink<T> for JsonSink {
    fn uri(&self) -> Result<String> {
        self.log.uri()
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        self.log.writer(place)
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        self.log.target(owner)
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        self.log.publisher()
    }
}

impl TransactionalSink<DeadLetter> for FileLogSink {
    fn uri(&self) -> Result<String> {
        self.uri()
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<DeadLetter>>> {
        self.writer(place)
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        self.target(owner)
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        self.publisher()
    }
}
