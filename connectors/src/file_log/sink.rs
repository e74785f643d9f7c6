//! A directory that a job writes to, as a sink.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tidegate_connector_api::{DeadLetter, Publisher, SinkPlace, TransactionalSink, Writer};
use tidegate_protocol::Result;

use super::publisher::FilePublisher;
use super::storage;
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

    fn uri(&self) -> Result<String> {
        storage::make_directory(&self.directory)?;
        storage::canonical(&self.directory)
    }

    fn writer<T: Serialize>(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        Ok(Box::new(JsonWriter::new(storage::canonical_made(&self.directory)?, place)))
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(FilePublisher::new(storage::canonical_made(&self.directory)?)?))
    }
}

/// A directory that records are written to as lines of JSON, visible an epoch at a time.
///
/// ```
/// use tidegate_connector_api::{SinkPlace, TransactionalSink, Writer};
/// use tidegate_connectors::FileLog;
/// use tidegate_protocol::{Attempt, Epoch, Slot};
///
/// # fn main() -> tidegate::Result<()> {
/// let directory = tempfile::tempdir()?;
/// let sink = FileLog::sink(&directory).json(); // In a job: .sink("numbers", FileLog::sink(directory).json())
/// let place = SinkPlace { slot: Slot(0), attempt: Attempt(1) };
///
/// let mut writer: Box<dyn Writer<u32>> = sink.writer(place)?;
/// writer.write(&7)?;
/// let staging = writer.stage(Epoch(1))?.expect("the epoch has a record");
/// let staged = staging()?; // From here on it survives a crash; it is not visible yet.
///
/// let mut publisher = TransactionalSink::<u32>::publisher(&sink)?;
/// publisher.publish(&staged)?;
/// assert_eq!(std::fs::read_to_string(directory.path().join("part-0-1.jsonl"))?, "7\n");
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

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
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

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        self.publisher()
    }
}
