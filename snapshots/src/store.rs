//! What snapshots need of the place where they are kept.

use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};

use tidegate_protocol::Result;

/// A file of the local disk that is to be stored.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Where it is.
    pub from: PathBuf,
    /// Its name in the store.
    pub name: String,
    /// Whether its writer never changes it; then it may be shared instead of copied.
    pub immutable: bool,
}

/// The length in bytes and the CRC-32 of an object's content; or why the object cannot be used, as a sentence.
pub type Checksum = std::result::Result<(u64, u32), String>;

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

    /// Stores several files, as [`CheckpointStore::put_file`] does. A store that is far away takes several at a time.
    ///
    /// # Errors
    /// The first one; then any of the files may have been stored.
    fn put_files(&self, files: &[Upload]) -> Result<()> {
        files.iter().try_for_each(|file| self.put_file(&file.from, &file.name, file.immutable))
    }

    /// Copies a file of another store into this one, under the same name.
    ///
    /// # Errors
    /// If the file is not there, or one of the stores cannot be accessed.
    fn copy_file(&self, from: &dyn CheckpointStore, name: &str, immutable: bool) -> Result<()>;

    /// Where an object is on the local disk, if the store is a directory.
    fn local_path(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    /// Says which files are still needed on this host. A store may keep copies of files on the local disk, so that a restart
    /// on the same host need not fetch them; it deletes the others of these copies.
    fn keep_copies(&self, _is_needed: &dyn Fn(&str) -> bool) {}

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

    /// The checksums of objects' contents, in the order of the names. What is checked is what [`CheckpointStore::get_file`]
    /// gives afterwards.
    ///
    /// # Errors
    /// If the store cannot be reached: nothing is known of the objects then.
    fn checksums(&self, names: &[&str]) -> Result<Vec<Checksum>>;

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

    /// The same, but only names that begin with a prefix.
    ///
    /// # Errors
    /// If the store cannot be listed.
    fn list_with_prefix(&self, folder: &str, prefix: &str) -> Result<Vec<String>> {
        Ok(self.list(folder)?.into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    /// Makes a small object that is not there yet, durably.
    ///
    /// # Errors
    /// If an object of this name with another content is there already, or the store cannot be written to. After an error the object may be there
    /// nevertheless: ask [`CheckpointStore::exists`].
    fn create(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes a small object, or replaces the one that is there, durably.
    ///
    /// # Errors
    /// If the store cannot be written to.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Like [`CheckpointStore::replace`], but a loss of power may undo it, or damage the object: its bytes need a checksum.
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

    /// Deletes objects; those that are not there are none to delete. Until the next [`CheckpointStore::sync`] a loss of power
    /// may bring them back.
    ///
    /// # Errors
    /// If the store cannot be written to; then any of them may have been deleted.
    fn delete(&self, names: &[&str]) -> Result<()>;

    /// Makes the names in a folder durable: files that were put there remain, and deleted ones do not come back.
    ///
    /// # Errors
    /// If the store cannot be written to.
    fn sync(&self, folder: &str) -> Result<()>;
}
