//! Rows in the order of their keys on their way into a store, as a file that RocksDB takes as it is: they need not be
//! gathered in memory, sorted and written by it.

use std::path::PathBuf;

use rocksdb::{Options, SstFileWriter};
use tidegate_protocol::{Error, Result};

use super::shared::SharedStore;

/// The file, which is made for the first row.
pub(super) struct SortedRows<'a> {
    options: &'a Options,
    path: PathBuf,
    writer: Option<SstFileWriter<'a>>,
}

impl<'a> SortedRows<'a> {
    /// No rows yet. `path` is on the disk of the store that they go to.
    pub(super) fn new(options: &'a Options, path: PathBuf) -> Self {
        Self { options, path, writer: None }
    }

    fn failed(&self, error: rocksdb::Error) -> Error {
        Error::environment(format!("write rows to {}", self.path.display())).caused_by(error)
    }

    /// Adds a row, whose key follows those of all rows before.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let put = match &mut self.writer {
            Some(writer) => writer.put(key, value),
            None => {
                let writer = SstFileWriter::create(self.options);
                writer.open(&self.path).map_err(|e| self.failed(e))?;
                self.writer.insert(writer).put(key, value)
            }
        };
        put.map_err(|e| self.failed(e))
    }

    /// Makes the rows those of a store.
    pub(super) fn move_into(mut self, store: &SharedStore) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.finish().map_err(|e| self.failed(e))?;
        store.ingest(&self.path).map_err(|e| self.failed(e))
    }
}
