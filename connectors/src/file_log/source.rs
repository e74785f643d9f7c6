//! A directory of partition files, as a source.

use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tidegate_connector_api::{Position, Source, SourceReader};
use tidegate_protocol::{Error, Result};

use super::lines::Lines;
use super::reader::JsonReader;
use super::{names, storage};

/// A directory of partitions whose lines have no format yet: call [`FileLogSource::json`].
#[derive(Clone, Debug)]
pub struct FileLogSource {
    directory: PathBuf,
    pub(super) followed: bool,
    max_line_bytes: usize,
}

impl FileLogSource {
    /// The default of [`FileLogSource::max_line_bytes`]: 16 MiB.
    pub const MAX_LINE_BYTES: usize = 16 << 20;

    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), followed: false, max_line_bytes: Self::MAX_LINE_BYTES }
    }

    /// Whether to wait for what is appended to the files, and for new files, instead of ending at the end, without the
    /// flag `--follow` too.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.followed = follow;
        self
    }

    /// The most bytes that a line may have, without its newline. A longer one is malformed, however long it is: a
    /// partition holds this much of a line at most, and for a moment, while its buffer grows, twice as much.
    #[must_use]
    pub fn max_line_bytes(mut self, max_line_bytes: usize) -> Self {
        self.max_line_bytes = max_line_bytes;
        self
    }

    /// Reads every line as the JSON of a `T`.
    #[must_use]
    pub fn json<T: DeserializeOwned + 'static>(self) -> JsonLines<T> {
        JsonLines { log: self, item: PhantomData }
    }

    fn list(&self) -> Result<Vec<String>> {
        let directory = self.directory.display();
        let entries = fs::read_dir(&self.directory).map_err(|e| self.no_directory(e))?;
        let mut partitions = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| storage::failed("list", &self.directory, e))?;
            let name = entry.file_name();
            if !names::is_partition(name.as_encoded_bytes()) {
                continue;
            }
            check_is_file(&entry)?;
            partitions.push(name.into_string().map_err(|name| {
                Error::job(format!(
                    "the name of the partition {name:?} in {directory} is not UTF-8; rename it"
                ))
            })?);
        }
        if partitions.is_empty() && !self.followed {
            return Err(Error::job(format!(
                "there is no partition in {directory}: no file is called part-*.jsonl"
            )));
        }
        partitions.sort();
        Ok(partitions)
    }

    fn no_directory(&self, cause: std::io::Error) -> Error {
        let directory = self.directory.display();
        let text =
            format!("cannot list the partitions in {directory}; it must be a directory that can be read");
        Error::job(text).caused_by(cause)
    }

    pub(super) fn open(&self, partition: &str, position: Option<&Position>) -> Result<Lines> {
        let offset = position.map_or(Ok(0), |position| offset(partition, position))?;
        Lines::open(self.path(partition)?, offset, !self.followed, self.max_line_bytes)
    }

    fn path(&self, partition: &str) -> Result<PathBuf> {
        if names::is_partition(partition.as_bytes()) && !partition.contains('/') {
            return Ok(self.directory.join(partition));
        }
        let directory = self.directory.display();
        Err(Error::job(format!(
            "{partition:?} cannot be a partition in {directory}: it is not called part-*.jsonl"
        )))
    }
}

fn check_is_file(entry: &fs::DirEntry) -> Result<()> {
    let path = entry.path();
    let failed = |error| storage::failed("look at", &path, error);
    let mut kind = entry.file_type().map_err(failed)?;
    if kind.is_symlink() {
        kind = fs::metadata(&path).map_err(failed)?.file_type();
    }
    if kind.is_file() {
        return Ok(());
    }
    Err(Error::job(format!(
        "{} is called like a partition but is not a file; rename or remove it",
        path.display()
    )))
}

fn offset(partition: &str, position: &Position) -> Result<u64> {
    let no_offset =
        || Error::job(format!("the position {position} of partition {partition} is not a byte offset"));
    position.as_u64().ok_or_else(no_offset)
}

/// A directory of partitions whose lines are each the JSON of a `T`.
///
/// See [the outcomes](super) of everything that can be wrong with a line, a file or the directory.
pub struct JsonLines<T> {
    log: FileLogSource,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), item: PhantomData }
    }
}

impl<T> std::fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JsonLines").field(&self.log).finish()
    }
}

impl<T: DeserializeOwned + 'static> Source for JsonLines<T> {
    type Item = T;

    fn uri(&self) -> Result<String> {
        let directory = &self.log.directory;
        fs::read_dir(directory).map_err(|e| self.log.no_directory(e))?;
        storage::canonical(directory)
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.log.list()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<T>>> {
        Ok(Box::new(JsonReader::new(self.log.clone())))
    }

    fn bounded(&self) -> bool {
        !self.log.followed
    }

    fn follow(&mut self) {
        self.log.followed = true;
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        let read = offset(partition, position)?;
        Ok(storage::length(&self.log.path(partition)?)?.is_some_and(|length| length > read))
    }
}
