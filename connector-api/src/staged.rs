//! Staged output: what a sink has written for an epoch and readers do not see yet.
//!
//! A sink that has no place of its own for staged output writes bytes with a [`StagedWriter`], and the engine does the
//! rest: it syncs the file, notes length and checksum in the snapshot, keeps the file as long as a snapshot names it, and
//! gives the publisher a reader ([`StagedOutput::open`]). A sink that stages in its target's own storage says so
//! ([`Staging::elsewhere`]), and keeps what it has staged itself.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tidegate_failpoint::point;
use tidegate_protocol::manifest::{FileRef, Staged};
use tidegate_protocol::{Epoch, Error, Result, Slot};

use crate::files::{failed, sync_directory};

/// How much is gathered before it is written to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Where the engine keeps the staged files of sinks that have no place of their own for them.
pub trait StagedFileStore {
    /// Stores a file of the local disk, which is not changed any more, durably. Returns the path that a snapshot names it
    /// by.
    ///
    /// # Errors
    /// If the file cannot be read, or the store cannot be written to.
    fn put(&self, file: &Path, name: &str) -> Result<String>;

    /// Opens a stored file by the path that [`StagedFileStore::put`] returned.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>>;
}

/// A directory, for tests of a connector.
impl StagedFileStore for PathBuf {
    fn put(&self, file: &Path, name: &str) -> Result<String> {
        fs::copy(file, self.join(name)).map_err(|e| failed("copy the staged file", file, e))?;
        Ok(name.to_owned())
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        open_file(&self.join(path))
    }
}

/// Where the staged files of a writer are.
enum Location {
    /// Written in a directory that does not outlive the attempt, and stored at the end of the epoch.
    Stored { working: PathBuf, prefix: String, number: Rc<Cell<u64>> },
    /// In a directory of the sink's own, under names of the sink's own.
    Own { directory: PathBuf, name: Box<dyn Fn(u64) -> String> },
}

impl Location {
    fn directory(&self) -> &Path {
        match self {
            Self::Stored { working: directory, .. } | Self::Own { directory, .. } => directory,
        }
    }

    /// The directory and the name of the writer's file with this number.
    fn next(&self, sequence: u64) -> Result<(PathBuf, String)> {
        match self {
            Self::Stored { working, prefix, number } => {
                fs::create_dir_all(working).map_err(|e| failed("make the directory", working, e))?;
                number.set(number.get() + 1);
                Ok((working.clone(), format!("{prefix}-{}", number.get())))
            }
            Self::Own { directory, name } => {
                // By an absolute path a snapshot knows it from a file in the store.
                let directory =
                    std::path::absolute(directory).map_err(|e| failed("find the directory", directory, e))?;
                Ok((directory, name(sequence)))
            }
        }
    }
}

/// Writes a worker's output into staged files, one for every epoch that has a record.
pub struct StagedWriter {
    location: Location,
    /// The number of files begun so far.
    sequence: u64,
    buffer: Vec<u8>,
    /// Records in the file and in the buffer.
    records: u64,
    file: Option<OpenFile>,
    /// Set by the first failure: the file may hold half a record, so nothing may be staged any more.
    broken: bool,
}

/// The file of the running epoch.
struct OpenFile {
    path: PathBuf,
    name: String,
    file: File,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

impl StagedWriter {
    /// A writer whose files the engine keeps. They are written in `working`, under names with this prefix, and `number`
    /// counts them.
    pub(crate) fn stored(working: PathBuf, prefix: String, number: Rc<Cell<u64>>) -> Self {
        Self::new(Location::Stored { working, prefix, number })
    }

    /// A writer whose files lie in a directory of the sink's own.
    pub(crate) fn own(directory: PathBuf, name: impl Fn(u64) -> String + 'static) -> Self {
        Self::new(Location::Own { directory, name: Box::new(name) })
    }

    fn new(location: Location) -> Self {
        Self { location, sequence: 0, buffer: Vec::new(), records: 0, file: None, broken: false }
    }

    /// Appends a record, whose bytes `write` appends to the buffer. If it fails, nothing of the record remains.
    ///
    /// # Errors
    /// That of `write`, or that the file cannot be written to.
    #[inline]
    pub fn record(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let before = self.buffer.len();
        if let Err(error) = write(&mut self.buffer) {
            self.buffer.truncate(before);
            return Err(error);
        }
        debug_assert!(self.buffer.len() >= before, "a record has removed what was written before it");
        self.records += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the file of the running epoch; None if it has no record. What is written next goes to another file.
    ///
    /// # Errors
    /// If the file cannot be written to, or could not be before.
    pub fn end_epoch(&mut self) -> Result<Option<StagedFile>> {
        if self.records == 0 {
            return Ok(None);
        }
        self.flush()?;
        let records = std::mem::take(&mut self.records);
        let is_stored = matches!(self.location, Location::Stored { .. });
        Ok(self.file.take().map(|file| StagedFile { file, records, is_stored }))
    }

    fn flush(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::internal(format!(
                "a writer of staged files in {} is used after it failed",
                self.location.directory().display()
            )));
        }
        self.broken = true;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (directory, name) = self.location.next(self.sequence)?;
                self.sequence += 1;
                none.insert(OpenFile::create(&directory, name)?)
            }
        };
        file.append(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        self.broken = false;
        Ok(())
    }
}

impl OpenFile {
    fn create(directory: &Path, name: String) -> Result<Self> {
        let path = directory.join(&name);
        // A file that exists is still written by another writer: files of older attempts were removed at the start.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| failed("make the staged file", &path, e))?;
        Ok(Self { path, name, file, bytes: 0, crc32: crc32fast::Hasher::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("write to", &self.path, e))?;
        self.bytes += bytes.len() as u64;
        self.crc32.update(bytes);
        Ok(())
    }
}

/// The staged file of an epoch, written and not synced yet.
pub struct StagedFile {
    file: OpenFile,
    records: u64,
    is_stored: bool,
}

impl StagedFile {
    /// The file's name, without a directory.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// Makes the file durable, where it is or in the store.
    fn finish(self, store: &dyn StagedFileStore) -> Result<FileRef> {
        let OpenFile { path, name, file, bytes, crc32 } = self.file;
        point("sink.before_sync");
        let stored = if self.is_stored {
            // The store syncs what it keeps.
            let stored = store.put(&path, &name)?;
            // If this fails, the file is removed at the next start.
            drop(fs::remove_file(&path));
            stored
        } else {
            file.sync_data().map_err(|e| failed("sync", &path, e))?;
            path.parent().map_or(Ok(()), sync_directory)?;
            let no_text = |path: PathBuf| Error::job(format!("the path {} is not UTF-8", path.display()));
            path.into_os_string().into_string().map_err(|path| no_text(path.into()))?
        };
        point("sink.after_sync");
        Ok(FileRef { path: stored, bytes, crc32: crc32.finalize() })
    }
}

/// A piece of output that an epoch has ended, and what is left to do until it is durably staged. That is done on another
/// thread, while the dataflow goes on.
pub struct Staging {
    records: u64,
    place: serde_json::Value,
    first: Option<Finish>,
    how: How,
}

type Finish = Box<dyn FnOnce() -> Result<()> + Send>;

enum How {
    File(StagedFile),
    Elsewhere(Finish),
}

impl Staging {
    /// A staged file. `place` is what the publisher has to know besides, in the connector's own form.
    pub fn file(file: StagedFile, place: serde_json::Value) -> Self {
        Self { records: file.records, place, first: None, how: How::File(file) }
    }

    /// Output of so many records that the connector stages itself, by `finish`: when that returns, the output survives the end
    /// of the process. `place` is where the publisher finds it, in the connector's own form.
    pub fn elsewhere(
        records: u64,
        place: serde_json::Value,
        finish: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self { records, place, first: None, how: How::Elsewhere(Box::new(finish)) }
    }

    /// The same, with something to be done first, for a sink that is built around another one.
    #[must_use]
    pub fn after(self, first: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        let then = self.first;
        let first: Finish = Box::new(move || {
            first()?;
            then.map_or(Ok(()), |then| then())
        });
        Self { first: Some(first), ..self }
    }

    /// Makes the output durable. It is called by the engine, and by tests of a connector.
    ///
    /// # Errors
    /// If the file cannot be synced or stored, or the connector cannot stage it.
    pub fn finish(self, slot: Slot, epoch: Epoch, store: &dyn StagedFileStore) -> Result<Staged> {
        let Self { records, place, first, how } = self;
        first.map_or(Ok(()), |first| first())?;
        let file = match how {
            How::File(file) => Some(file.finish(store)?),
            How::Elsewhere(finish) => {
                finish()?;
                None
            }
        };
        Ok(Staged { slot, epoch, records, place, file })
    }
}

/// A piece of staged output whose snapshot is complete, for its publisher.
#[derive(Clone, Copy)]
pub struct StagedOutput<'a> {
    /// What the snapshot says of it.
    pub staged: &'a Staged,
    /// True if an earlier attempt has staged it. It may have been published already, and moved or changed since then.
    pub is_restored: bool,
    store: &'a dyn StagedFileStore,
}

impl<'a> StagedOutput<'a> {
    /// Makes a piece of output. It is called by the engine, and by tests of a connector.
    pub fn new(staged: &'a Staged, is_restored: bool, store: &'a dyn StagedFileStore) -> Self {
        Self { staged, is_restored, store }
    }

    /// Opens the staged file. Where it ends, its length and its checksum are compared with those in the snapshot, and reading
    /// fails if they differ.
    ///
    /// # Errors
    /// If it is not there, or cannot be read, or the output is not in a file.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        let Some(file) = &self.staged.file else {
            return Err(Error::internal(format!(
                "the output of epoch {} of slot {} is not staged in a file",
                self.staged.epoch, self.staged.slot
            )));
        };
        let path = Path::new(&file.path);
        let content = if path.is_absolute() { open_file(path)? } else { self.store.open(&file.path)? };
        Ok(Box::new(CheckedReader::new(content, file.clone())))
    }
}

/// Compares a file with what the snapshot says of it, as it is read.
struct CheckedReader {
    content: Box<dyn Read + Send>,
    expected: FileRef,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

impl CheckedReader {
    fn new(content: Box<dyn Read + Send>, expected: FileRef) -> Self {
        Self { content, expected, bytes: 0, crc32: crc32fast::Hasher::new() }
    }

    fn check(&self, is_at_end: bool) -> io::Result<()> {
        let FileRef { path, bytes, crc32 } = &self.expected;
        let differs = match is_at_end {
            true => self.bytes != *bytes || self.crc32.clone().finalize() != *crc32,
            false => self.bytes > *bytes,
        };
        if !differs {
            return Ok(());
        }
        let what = format!(
            "the staged file {path} is damaged: it is not the {bytes} bytes with CRC-32 {crc32:08x} that the snapshot names"
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl Read for CheckedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.crc32.update(&buffer[..read]);
        self.bytes += read as u64;
        self.check(read == 0 && !buffer.is_empty())?;
        Ok(read)
    }
}

fn open_file(path: &Path) -> Result<Box<dyn Read + Send>> {
    Ok(Box::new(File::open(path).map_err(|e| failed("open", path, e))?))
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{Attempt, JobId};

    use super::*;
    use crate::{SinkId, SinkPlace};

    fn staged(mut writer: StagedWriter, records: &[&str], store: &PathBuf) -> Staged {
        for record in records {
            let write = |file: &mut Vec<u8>| {
                file.extend_from_slice(record.as_bytes());
                Ok(())
            };
            writer.record(write).unwrap();
        }
        let file = writer.end_epoch().unwrap().unwrap();
        Staging::file(file, serde_json::Value::Null).finish(Slot(0), Epoch(1), store).unwrap()
    }

    fn place(working: &Path) -> SinkPlace {
        let sink = SinkId { job: JobId([0; 16]), uid: "out".into() };
        SinkPlace::new(sink, (Slot(0), Attempt(3)), working, Rc::default())
    }

    fn content(staged: &Staged, store: &PathBuf) -> io::Result<String> {
        let mut text = String::new();
        StagedOutput::new(staged, false, store).open().unwrap().read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_stored_file_is_named_by_attempt_slot_and_number() {
        let (working, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (place, store) = (place(&working.path().join("made")), store.path().to_owned());
        let paths = [place.staged_files(), place.staged_files()]
            .map(|writer| staged(writer, &["a", "b"], &store).file.unwrap().path);
        assert_eq!(paths, ["3-0-1", "3-0-2"], "two sinks of a worker");
        assert_eq!(fs::read_dir(working.path().join("made")).unwrap().count(), 0, "it is left behind");
    }

    #[test]
    fn a_file_of_the_sinks_own_is_named_absolutely() {
        let directory = tempfile::tempdir_in(".").unwrap();
        let relative = Path::new(".").join(directory.path().file_name().unwrap());
        let store = PathBuf::from("/nonexistent");
        let writer = place(&store).staged_files_in(&relative, |n| format!("{n}"));
        let staged = staged(writer, &["a"], &store);
        assert!(Path::new(&staged.file.as_ref().unwrap().path).is_absolute());
        assert_eq!(content(&staged, &store).unwrap(), "a");
    }

    #[test]
    fn a_file_that_differs_is_not_read_to_its_end() {
        let (working, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = store.path().to_owned();
        let staged = staged(place(working.path()).staged_files(), &["1\n", "2\n"], &store);
        assert_eq!(content(&staged, &store).unwrap(), "1\n2\n");
        for other in ["1\n3\n", "1\n", "1\n2\n3\n", ""] {
            fs::write(store.join("3-0-1"), other).unwrap();
            let error = content(&staged, &store).unwrap_err().to_string();
            assert!(error.contains("the staged file 3-0-1 is damaged"), "{error}");
        }
    }

    #[test]
    fn a_record_that_fails_leaves_nothing_and_an_epoch_without_records_makes_no_file() {
        let (working, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut writer = place(working.path()).staged_files();
        let fails = |file: &mut Vec<u8>| {
            file.extend_from_slice(b"half");
            Err(Error::job("on purpose"))
        };
        assert!(writer.record(fails).is_err());
        assert!(writer.end_epoch().unwrap().is_none());
        let store = store.path().to_owned();
        let staged = staged(writer, &["whole"], &store);
        assert_eq!((content(&staged, &store).unwrap().as_str(), staged.records), ("whole", 1));
    }
}
