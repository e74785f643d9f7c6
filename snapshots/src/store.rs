//! What snapshots need of the place where they are kept.

use std::fmt::Debug;
use std::io::Read;
use std::path::Path;

use tidegate_protocol::Result;

/// A place for named objects that outlives the process: a directory, or a bucket of an object store.
///
/// A name is a path with `/`, at most one folder deep. Objects are small (manifests, notes) or files of the local disk; an
/// object is visible as a whole or not at all.
pub trait CheckpointStore: Debug + Send + Sync {
    /// Where the store is, for messages.
    fn uri(&self) -> String;

    /// Stores a copy of a file of the local disk. Its content is durable when this returns, its name after
    /// [`CheckpointStore::sync`]. A file that is `immutable` may be shared instead of copied.
    ///
    /// # Errors
    /// If the file cannot be read, or the store cannot be written to.
    fn put_file(&self, from: &Path, name: &str, immutable: bool) -> Result<()>;

    /// Puts a stored file on the local disk. A file that is `immutable` may be shared instead of copied.
    ///
    /// # Errors
    /// If the object is not there, or the local disk cannot be written to.
    fn get_file(&self, name: &str, to: &Path, immutable: bool) -> Result<()>;

    /// Opens a stored file for reading.
    ///
    /// # Errors
    /// If the object is not there, or cannot be read.
    fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>>;

    /// The length in bytes and the CRC-32 of an object's content, read from the store.
    ///
    /// # Errors
    /// If the object is not there, or cannot be read.
    fn checksum(&self, name: &str) -> Result<(u64, u32)>;

    /// The content of a small object; None if it is not there.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The names of the objects in a folder (`""` for those in none), without the folder, in any order.
    ///
    /// # Errors
    /// If the store cannot be listed.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Makes a small object that is not there yet, durably.
    ///
    /// # Errors
    /// If an object of this name is there already, or the store cannot be written to. After an error the object may be there
    /// nevertheless: ask [`CheckpointStore::exists`].
    fn create(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes a small object, or replaces the one that is there, durably.
    ///
    /// # Errors
    /// If the store cannot be written to.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Like [`CheckpointStore::replace`], but a loss of power may undo it.
    ///
    /// # Errors
    /// If the store cannot be written to.
    fn note(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Gives an object another name, durably.
    ///
    /// # Errors
    /// If the object is not there, or the store cannot be written to.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// True if there is an object of this name.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn exists(&self, name: &str) -> Result<bool>;

    /// Deletes an object. Until the next [`CheckpointStore::sync`] a loss of power may bring it back.
    ///
    /// # Errors
    /// If the object is not there, or the store cannot be written to.
    fn delete(&self, name: &str) -> Result<()>;

    /// Makes the names in a folder durable: files that were put there remain, and deleted ones do not come back.
    ///
    /// # Errors
    /// If the store cannot be written to.
    fn sync(&self, folder: &str) -> Result<()>;
}
