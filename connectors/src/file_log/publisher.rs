//! Renames staged files to the names that readers see.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_connector_api::{Publisher, StagedOutput};
use tidegate_failpoint::point;
use tidegate_protocol::manifest::{FileRef, Staged};
use tidegate_protocol::{Epoch, Error, Result};

use super::names::{PublishedName, StagedName};
use super::storage;

/// The publisher of one slot.
pub(super) struct FilePublisher {
    directory: PathBuf,
}

/// A staged file, and where it goes.
struct Piece<'a> {
    staged: &'a Staged,
    file: &'a FileRef,
    from: PathBuf,
    to: PathBuf,
}

impl FilePublisher {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn piece<'a>(&self, staged: &'a Staged) -> Result<Piece<'a>> {
        let name = |key: &str| staged.place.get(key).and_then(|name| name.as_str());
        // Both names come from a file; they must not lead out of the directory, or to another piece.
        let from =
            name("staged").filter(|name| StagedName::parse(name).is_some_and(|n| n.slot == staged.slot));
        let expected = PublishedName { slot: staged.slot, epoch: staged.epoch };
        let to = name("published").filter(|name| PublishedName::parse(name) == Some(expected));
        match (from, to, &staged.file) {
            (Some(from), Some(to), Some(file)) => {
                Ok(Piece { staged, file, from: self.directory.join(from), to: self.directory.join(to) })
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

    /// Publishes a piece that may be published already.
    fn publish_piece(&self, piece: &Piece<'_>, is_restored: bool) -> Result<()> {
        let waits = storage::length(&piece.from)?;
        match (waits, storage::length(&piece.to)?) {
            (Some(bytes), None) => {
                piece.check(&piece.from, bytes, is_restored)?;
                point("sink.before_rename");
                match fs::rename(&piece.from, &piece.to) {
                    // An older attempt that is still alive has just published the same piece.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return self.publish_piece(piece, true);
                    }
                    renamed => renamed.map_err(|e| storage::failed("publish", &piece.to, e))?,
                }
                point("sink.after_rename");
            }
            (waits, Some(bytes)) => {
                // A rename never leaves both names, so the content decides whether the visible file is this piece.
                piece.check(&piece.to, bytes, waits.is_some() || is_restored)?;
                storage::remove(&piece.from)?;
            }
            (None, None) => return Err(piece.lost()),
        }
        Ok(())
    }
}

impl Publisher for FilePublisher {
    fn publish(&mut self, _: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        if outputs.is_empty() {
            return Ok(());
        }
        for output in outputs {
            self.publish_piece(&self.piece(output.staged)?, output.is_restored)?;
        }
        // Also if nothing was renamed now: the caller forgets the pieces next, so their names must survive a loss of power.
        storage::sync_directory(&self.directory)
    }
}

impl Piece<'_> {
    /// Whether the file at `path` is this piece.
    fn check(&self, path: &Path, bytes: u64, by_content: bool) -> Result<()> {
        let expected = self.file;
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
            "{records} records of epoch {epoch} are lost: {} is not there, nor is its staged file {}; put back the one \
             that was moved, or go on from another snapshot",
            self.to.display(),
            self.from.display()
        ))
    }
}
