//! Renames staged files to the names that readers see, and puts a directory in order before an attempt starts.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_connector_api::Publisher;
use tidegate_protocol::Epoch;
use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Error, Result};

use super::names::{PublishedName, StagedName};
use super::storage;
use tidegate_failpoint::point;

/// The publisher of one process.
pub(super) struct FilePublisher {
    directory: PathBuf,
    /// True once everything that an earlier process staged is published; what comes then was written by this one.
    recovered: bool,
    /// Held as long as this publisher lives: another run would clear away what this one has staged.
    _lock: fs::File,
}

/// Where a piece is and where it goes.
struct Piece<'a> {
    staged: &'a Staged,
    from: PathBuf,
    to: PathBuf,
}

impl FilePublisher {
    pub(super) fn new(directory: PathBuf) -> Result<Self> {
        let path = directory.join(".lock");
        let file = fs::File::options().create(true).truncate(false).write(true).open(&path);
        let lock = file.map_err(|e| storage::failed("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, recovered: false, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::environment(format!(
                "the output directory {} is being written by another run; stop that one first, or give this one a \
                 directory of its own",
                directory.display()
            ))),
            Err(fs::TryLockError::Error(e)) => Err(storage::failed("lock", &path, e)),
        }
    }

    fn piece<'a>(&self, staged: &'a Staged) -> Result<Piece<'a>> {
        let name = |key: &str| staged.place.get(key).and_then(|name| name.as_str());
        // Both names come from a file; they must not lead out of the directory, or to another piece.
        let from =
            name("staged").filter(|name| StagedName::parse(name).is_some_and(|n| n.slot == staged.slot));
        let expected = PublishedName { slot: staged.slot, epoch: staged.epoch };
        let to = name("published").filter(|name| PublishedName::parse(name) == Some(expected));
        match (from, to) {
            (Some(from), Some(to)) => {
                Ok(Piece { staged, from: self.directory.join(from), to: self.directory.join(to) })
            }
            _ => Err(Error::internal(format!(
                "the snapshot names {} as a piece of output of slot {}, epoch {} in {}",
                staged.place,
                staged.slot,
                staged.epoch,
                self.directory.display()
            ))),
        }
    }

    fn refuse_output_of_another_run(&self, names: &[String]) -> Result<()> {
        let Some(found) = names.iter().find(|name| PublishedName::parse(name).is_some()) else {
            return Ok(());
        };
        Err(Error::job(format!(
            "the output directory {} already holds output ({found}) of another run, and there is no snapshot to go on \
             from; use an empty directory, or the checkpoint directory that goes with the output",
            self.directory.display()
        )))
    }
}

impl Publisher for FilePublisher {
    fn publish(&mut self, staged: &Staged) -> Result<()> {
        let piece = self.piece(staged)?;
        let waits = storage::length(&piece.from)?;
        match (waits, storage::length(&piece.to)?) {
            (Some(bytes), None) => {
                piece.check(&piece.from, bytes, !self.recovered)?;
                point("sink.before_rename");
                fs::rename(&piece.from, &piece.to).map_err(|e| storage::failed("publish", &piece.to, e))?;
                point("sink.after_rename");
            }
            (waits, Some(bytes)) => {
                // Both names at once is what no rename leaves behind, so the content decides whose file it is.
                piece.check(&piece.to, bytes, waits.is_some() || !self.recovered)?;
                storage::remove(&piece.from)?;
            }
            (None, None) => return Err(piece.lost()),
        }
        // Done earlier or not: the caller is about to forget the piece, so its name has to survive a loss of power.
        storage::sync_directory(&self.directory)
    }

    fn recover(&mut self, restored: Option<Epoch>) -> Result<Vec<String>> {
        let names = storage::names(&self.directory)?;
        if restored.is_none() {
            self.refuse_output_of_another_run(&names)?;
        }
        let mut taken_back = Vec::new();
        for name in names {
            let published = PublishedName::parse(&name);
            if published.is_some_and(|published| Some(published.epoch) > restored) {
                storage::remove(&self.directory.join(&name))?;
                taken_back.push(name);
            } else if StagedName::parse(&name).is_some() {
                storage::remove(&self.directory.join(&name))?;
            }
        }
        storage::sync_directory(&self.directory)?;
        self.recovered = true;
        Ok(taken_back)
    }
}

impl Piece<'_> {
    /// Whether the file at `path` is this piece.
    fn check(&self, path: &Path, bytes: u64, by_content: bool) -> Result<()> {
        let expected = &self.staged.file;
        if bytes != expected.bytes {
            return Err(
                self.differs(path, format_args!("it has {bytes} bytes and should have {}", expected.bytes))
            );
        }
        if by_content && storage::crc32(path)? != expected.crc32 {
            return Err(self.differs(path, format_args!("its CRC-32 is not {:08x}", expected.crc32)));
        }
        Ok(())
    }

    fn differs(&self, path: &Path, how: std::fmt::Arguments<'_>) -> Error {
        let Staged { epoch, records, .. } = self.staged;
        Error::environment(format!(
            "{} is not the output of epoch {epoch} ({records} records) that the snapshot names: {how}; it was changed \
             after it was written, or it belongs to another run. Nothing was published; restore the file, or go on from \
             another snapshot",
            path.display()
        ))
    }

    fn lost(&self) -> Error {
        let Staged { epoch, records, .. } = self.staged;
        Error::environment(format!(
            "{records} records of epoch {epoch} are lost: {} is not there, nor is its staged file {}; whoever moved one \
             of them must put it back, or go on from another snapshot",
            self.to.display(),
            self.from.display()
        ))
    }
}
