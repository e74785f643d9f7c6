//! Writes the records of an epoch to a hidden file, and hands that file over as staged output.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;
use tidegate_connector_api::{SinkPlace, StagedWriter, Staging, Writer};
use tidegate_protocol::{Epoch, Error, Result, Slot};

use super::names::{PublishedName, StagedName};

/// The writer of one worker.
pub(super) struct JsonWriter {
    directory: PathBuf,
    slot: Slot,
    staged: StagedWriter,
}

impl JsonWriter {
    pub(super) fn new(directory: PathBuf, place: &SinkPlace) -> Self {
        let (slot, attempt) = (place.slot, place.attempt);
        let name = move |sequence| StagedName { slot, attempt, sequence }.to_string();
        Self { slot, staged: place.staged_files_in(&directory, name), directory }
    }
}

impl<T: Serialize> Writer<T> for JsonWriter {
    #[inline]
    fn write(&mut self, record: &T, _: Option<i64>) -> Result<()> {
        let directory = &self.directory;
        self.staged.record(|line| {
            serde_json::to_writer(&mut *line, record).map_err(|error| {
                Error::job(format!(
                    "a record of the type {} cannot be written as JSON to {}: {error}. Check such records in a try_map in \
                     front of the sink: what it refuses goes where malformed records go",
                    std::any::type_name::<T>(),
                    directory.display()
                ))
            })?;
            line.push(b'\n');
            Ok(())
        })
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>> {
        let Some(file) = self.staged.end_epoch()? else { return Ok(None) };
        let published = PublishedName { slot: self.slot, epoch };
        let place = json!({ "staged": file.name(), "published": published.to_string() });
        Ok(Some(Staging::file(file, place)))
    }
}
