//! What the worker and its snapshot thread share of a store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, IngestExternalFileOptions};
use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Epoch, Error, Result};

use super::rows::Rows;

/// What the worker and its snapshot thread share of a store.
pub(crate) struct SharedStore {
    pub(super) db: DB,
    pub(crate) path: PathBuf,
    /// The files of the restored snapshot that the store started with, by RocksDB's name.
    pub(crate) restored_files: BTreeMap<String, FileRef>,
    /// The last epoch whose changes are in the store.
    pub(super) written: AtomicU64,
    /// Batches written so far.
    writes: AtomicU64,
    unwritten: Mutex<Unwritten>,
    snapshot_made: Condvar,
}

/// What the snapshot thread has still to write: meanwhile nothing else may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unwritten {
    /// The number of barriers that the snapshot thread still has to write; it does so without any action of the worker.
    /// More than one if an epoch was aborted because of another worker while the thread was still writing it.
    barriers: u32,
    /// The snapshot thread has ended: the job is about to end, and no thread may wait for it.
    abandoned: bool,
}

impl SharedStore {
    /// A store that has been opened, of which the changes up to `written` need not stay in memory.
    pub(super) fn new(
        db: DB,
        path: PathBuf,
        restored_files: BTreeMap<String, FileRef>,
        written: Epoch,
    ) -> Self {
        Self {
            db,
            path,
            restored_files,
            written: AtomicU64::new(written.0),
            writes: AtomicU64::new(0),
            unwritten: Mutex::default(),
            snapshot_made: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All operator chains have reached the barrier and copied their rows: the snapshot thread is to write them.
    pub(crate) fn begin_writing(&self) {
        let mut unwritten = self.lock();
        unwritten.barriers += u32::from(!unwritten.abandoned);
    }

    /// True if the snapshot thread has nothing to write, and has not ended.
    pub(super) fn is_all_written(&self) -> bool {
        *self.lock() == Unwritten::default()
    }

    /// Waits until the snapshot thread has nothing to write, or has ended.
    pub(super) fn wait_until_all_is_written(&self) {
        let mut unwritten = self.lock();
        while unwritten.barriers > 0 {
            unwritten = self.snapshot_made.wait(unwritten).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The snapshot thread has written a barrier, or needs no RocksDB checkpoint for it.
    pub(crate) fn end_snapshot(&self) {
        let mut unwritten = self.lock();
        unwritten.barriers = unwritten.barriers.saturating_sub(1);
        self.snapshot_made.notify_all();
    }

    /// The snapshot thread has ended: it will make no further checkpoint.
    pub(crate) fn abandon(&self) {
        let mut unwritten = self.lock();
        (unwritten.barriers, unwritten.abandoned) = (0, true);
        self.snapshot_made.notify_all();
    }

    pub(crate) fn write(&self, rows: Rows) -> Result<()> {
        let mut options = rocksdb::WriteOptions::default();
        options.disable_wal(true);
        for batch in rows.full.into_iter().chain([rows.batch]).filter(|batch| !batch.is_empty()) {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.db.write_opt(batch, &options).map_err(|e| {
                Error::environment(format!("write to the state store {}", self.path.display())).caused_by(e)
            })?;
        }
        Ok(())
    }

    /// Makes the rows of a file those of the store, by a hard link. No row of the store may lie among them.
    pub(super) fn ingest(&self, file: &Path) -> Result<(), rocksdb::Error> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_opts(&options, vec![file])
    }

    /// Makes a checkpoint of the current store by hard links, in a directory that does not exist yet.
    pub(crate) fn checkpoint(&self, to: &Path) -> Result<()> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(to));
        made.map_err(|e| {
            let directory = to.display();
            Error::environment(format!(
                "cannot write a checkpoint of the state store to {directory}; the checkpoint directory must not be changed \
                 while the job runs"
            ))
            .caused_by(e)
        })
    }

    /// Batches written so far: while that does not change, neither does the store.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_written(&self, epoch: Epoch) {
        self.written.store(epoch.0, Ordering::Release);
    }
}
