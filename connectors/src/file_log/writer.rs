//! Writes the records of an epoch to a hidden file, and hands that file over as a staged piece of output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;
use tidegate_connector_api::{SinkPlace, Staging, Writer};
use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Epoch, FileRef, Slot};
use tidegate_protocol::{Error, Result};

use super::names::{PublishedName, StagedName};
use super::storage;
use tidegate_failpoint::point;

/// How much is gathered before it is written to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// The writer of one worker.
pub(super) struct JsonWriter {
    directory: PathBuf,
    place: SinkPlace,
    /// The number of files begun so far.
    sequence: u64,
    buffer: Vec<u8>,
    /// Records in the file and in the buffer.
    records: u64,
    piece: Option<Piece>,
    /// Set by the first failure: the file may hold half a record, so nothing may be staged any more.
    broken: bool,
}

/// The file of an epoch that is being written.
struct Piece {
    name: StagedName,
    path: PathBuf,
    file: File,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

impl JsonWriter {
    pub(super) fn new(directory: PathBuf, place: SinkPlace) -> Self {
        Self { directory, place, sequence: 0, buffer: Vec::new(), records: 0, piece: None, broken: false }
    }

    fn check(&self) -> Result<()> {
        if self.broken {
            return Err(Error::internal(format!(
                "a writer into {} is used after it failed",
                self.directory.display()
            )));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.broken = true;
        let piece = match &mut self.piece {
            Some(piece) => piece,
            none => none.insert(Piece::create(&self.directory, self.place, self.sequence)?),
        };
        piece.append(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        self.broken = false;
        Ok(())
    }
}

impl<T: Serialize> Writer<T> for JsonWriter {
    #[inline]
    fn write(&mut self, record: &T) -> Result<()> {
        let before = self.buffer.len();
        if let Err(error) = serde_json::to_writer(&mut self.buffer, record) {
            self.buffer.truncate(before);
            return Err(Error::job(format!(
                "a record of the type {} cannot be written as JSON to {}: {error}. Have a try_map in front of the sink check \
                 such records: what it refuses goes where malformed records go",
                std::any::type_name::<T>(),
                self.directory.display()
            )));
        }
        self.buffer.push(b'\n');
        self.records += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.check()?;
            self.flush()?;
        }
        Ok(())
    }

    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>> {
        self.check()?;
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        let Some(piece) = self.piece.take() else { return Ok(None) };
        self.sequence += 1;
        let (directory, slot, records) =
            (self.directory.clone(), self.place.slot, std::mem::take(&mut self.records));
        Ok(Some(Box::new(move || {
            point("sink.before_sync");
            piece.file.sync_data().map_err(|e| storage::failed("sync", &piece.path, e))?;
            storage::sync_directory(&directory)?;
            point("sink.after_sync");
            piece.staged(slot, epoch, records)
        })))
    }
}

impl Piece {
    fn create(directory: &std::path::Path, place: SinkPlace, sequence: u64) -> Result<Self> {
        let name = StagedName { slot: place.slot, attempt: place.attempt, sequence };
        let path = directory.join(name.to_string());
        // A file that exists belongs to somebody who still writes it: what older attempts left was removed at the start.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| storage::failed("make the staged file", &path, e))?;
        Ok(Self { name, path, file, bytes: 0, crc32: crc32fast::Hasher::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| storage::failed("write to", &self.path, e))?;
        self.bytes += bytes.len() as u64;
        self.crc32.update(bytes);
        Ok(())
    }

    fn staged(self, slot: Slot, epoch: Epoch, records: u64) -> Result<Staged> {
        let no_text = |path: PathBuf| Error::job(format!("the path {} is not UTF-8", path.display()));
        let path = self.path.into_os_string().into_string().map_err(|path| no_text(path.into()))?;
        let published = PublishedName { slot, epoch };
        let place = json!({ "staged": self.name.to_string(), "published": published.to_string() });
        let file = FileRef { path, bytes: self.bytes, crc32: self.crc32.finalize() };
        Ok(Staged { slot, epoch, records, place, file })
    }
}
