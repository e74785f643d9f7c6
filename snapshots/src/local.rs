//! A directory as a checkpoint store.
//!
//! Objects are files. A small object is written under a temporary name, synced, and renamed. Files that their writer never
//! changes are hard-linked, so that a snapshot of state on the same file system costs no copy.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use tidegate_failpoint::point;
use tidegate_protocol::{Error, ErrorContext, Result};

use crate::store::{CheckpointStore, Checksum};

/// The file in which a copy of another store's file is written before it is renamed.
const COPY_PART: &str = ".copy.part";

/// A checkpoint directory.
#[derive(Clone, Debug)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens a directory, making it if it is not there, with those above it.
    ///
    /// # Errors
    /// If it cannot be made or looked at.
    pub fn open(root: &Path) -> Result<Self> {
        let doing = || {
            format!(
                "cannot make the checkpoint directory {} (the user that runs the job must be able to write there; \
                 --checkpoint-dir names another)",
                root.display()
            )
        };
        let missing =
            root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
        for folder in ["files", "staged"] {
            fs::create_dir_all(root.join(folder)).context(doing)?;
        }
        let root = root.canonicalize().context(doing)?;
        // The directory must be durable: published output must not survive a loss of power without its snapshots.
        root.ancestors().take(missing + 1).try_for_each(sync_directory)?;
        Ok(Self { root })
    }

    /// Opens a directory that is a store already. Nothing is made: a file system that is not mounted must not be mistaken for
    /// an empty store.
    ///
    /// # Errors
    /// If the directory is not there, or is none of a store.
    pub fn existing(root: &Path) -> Result<Self> {
        let missing = || {
            format!("the checkpoint directory {} is not there; is its file system mounted?", root.display())
        };
        let root = root.canonicalize().context(missing)?;
        if is_store(&root) {
            return Ok(Self { root });
        }
        Err(Error::environment(format!(
            "{} is no checkpoint directory: it has no folders files and staged; is its file system mounted?",
            root.display()
        )))
    }

    /// Opens a directory that a user names as that of a savepoint or of checkpoints, to read from it. Nothing is made.
    ///
    /// # Errors
    /// If it is none.
    pub fn named(root: &Path) -> Result<Self> {
        let is_one = |root: &Path| root.join("files").is_dir();
        let missing = || {
            let text = format!("{} is not the directory of a savepoint or of checkpoints", root.display());
            // Savepoints are often made side by side.
            let within = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut within: Vec<PathBuf> = within.filter(|path| is_one(path)).collect();
            within.sort();
            let within: Vec<String> = within.iter().map(|path| path.display().to_string()).collect();
            if within.is_empty() {
                text
            } else {
                format!("{text}, but there are such in it: {}", within.join(", "))
            }
        };
        let named = root.canonicalize().ok().filter(|root| is_one(root));
        let root = named.ok_or_else(|| Error::job(missing()))?;
        Ok(Self { root })
    }

    /// A store for a directory that is not accessed and need not exist.
    pub fn unopened(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory; an absolute path without links, if it was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the lock of the directory, which the process holds until the file is closed or the process ends.
    ///
    /// # Errors
    /// If another process holds it, or the lock file cannot be opened.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("LOCK");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.context(|| {
            format!(
                "cannot open {}, the lock file of the checkpoint directory (the user that runs the job must be able to \
                 read and write all files there; --checkpoint-dir names another directory)",
                path.display()
            )
        })?;
        if let Err(error) = file.try_lock() {
            let mut holder = String::new();
            drop(file.read_to_string(&mut holder));
            return Err(match error {
                fs::TryLockError::WouldBlock => Error::environment(format!(
                    "the checkpoint directory {} is in use by process {}; stop that process first, or give this \
                     job a directory of its own with --checkpoint-dir",
                    self.root.display(),
                    holder.trim()
                )),
                fs::TryLockError::Error(e) => Error::from(e).context(format!("lock {}", path.display())),
            });
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.context(|| format!("write {}", path.display()))?;
        Ok(file)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file that is not there is damage, if the store is. What else keeps a file from being read may be over soon.
    fn checksum(&self, name: &str) -> Result<Checksum> {
        let path = self.path(name);
        match summed(&path) {
            Ok(summed) => Ok(Ok(summed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_store(&self.root) => {
                Ok(Err(format!("{} is not there", path.display())))
            }
            Err(error) => Err(Error::from(error).context(format!("read {}", path.display()))),
        }
    }

    /// The temporary file in which an object is written before it is renamed.
    fn part(&self, name: &str) -> PathBuf {
        self.root.join(format!(".{name}.part"))
    }

    fn write_part(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let part = self.part(name);
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&part)))?;
        Ok(part)
    }
}

impl CheckpointStore for LocalStore {
    fn uri(&self) -> String {
        self.root.display().to_string()
    }

    fn put_file(&self, from: &Path, name: &str, immutable: bool) -> Result<()> {
        let to = self.path(name);
        let doing = || format!("link {} to {}", from.display(), to.display());
        link_or_copy(from, &to, immutable).context(doing)?;
        File::open(&to).and_then(|file| file.sync_all()).context(doing)
    }

    fn get_file(&self, name: &str, to: &Path, immutable: bool) -> Result<()> {
        let from = self.path(name);
        let copied = link_or_copy(&from, to, immutable);
        copied.context(|| format!("copy {} to {}", from.display(), to.display()))
    }

    fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let path = self.path(name);
        Ok(Box::new(File::open(&path).context(|| format!("open {}", path.display()))?))
    }

    fn copy_file(&self, from: &dyn CheckpointStore, name: &str, immutable: bool) -> Result<()> {
        if let Some(path) = from.local_path(name) {
            return self.put_file(&path, name, immutable);
        }
        let (part, whole) = (self.root.join(COPY_PART), self.path(name));
        from.get_file(name, &part, false)?;
        let finish = || File::open(&part)?.sync_all().and_then(|()| fs::rename(&part, &whole));
        finish().context(|| format!("write {}", whole.display()))
    }

    fn local_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path(name))
    }

    fn checksums(&self, names: &[&str]) -> Result<Vec<Checksum>> {
        names.iter().map(|name| self.checksum(name)).collect()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from(e).context(format!("read {}", path.display()))),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder);
        let doing = || format!("list {}", path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).context(doing)? {
            // Names of objects are all UTF-8; a file with another name is not one of them.
            names.extend(entry.context(doing)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let whole = self.path(name);
        let write = || -> Result<()> {
            let part = self.write_part(name, bytes)?;
            point("completion.before_rename");
            match rename_to_new(&part, &whole) {
                // Somebody has made it before, and may not have synced the directory.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::read(&whole)? == bytes => {
                    fs::remove_file(&part)?;
                }
                renamed => renamed.inspect_err(|_| drop(fs::remove_file(&part)))?,
            }
            sync_directory(&self.root)
        };
        write().context(|| format!("write {}", whole.display()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let whole = self.path(name);
        let write = || -> Result<()> {
            fs::rename(self.write_part(name, bytes)?, &whole)?;
            sync_directory(&self.root)
        };
        write().context(|| format!("write {}", whole.display()))
    }

    fn note(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (part, whole) = (self.part(name), self.path(name));
        let write = || -> io::Result<()> {
            // A few bytes in place of as many others cost a quarter of a new file. They have a checksum, if a loss of power
            // should leave some of each. A file with a second name is somebody's backup, which must not change.
            let before =
                File::options().write(true).open(&whole).and_then(|file| Ok((file.metadata()?, file)));
            if let Ok((metadata, file)) = before
                && (metadata.len(), metadata.nlink()) == (bytes.len() as u64, 1)
            {
                point("published.before_write");
                return file.write_all_at(bytes, 0);
            }
            fs::write(&part, bytes)?;
            point("published.before_write");
            fs::rename(&part, &whole)
        };
        write().context(|| format!("write {}", whole.display()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).context(|| format!("rename {} to {}", from.display(), to.display()))?;
        sync_directory(&self.root)
    }

    fn exists(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        path.try_exists().context(|| format!("look for {}", path.display()))
    }

    fn delete(&self, names: &[&str]) -> Result<()> {
        for path in names.iter().map(|name| self.path(name)) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::from(e).context(format!("remove {}", path.display())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn sync(&self, folder: &str) -> Result<()> {
        sync_directory(&self.path(folder))
    }
}

/// Renames a file to a name that no file has yet.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_without_replacing(from, to) {
        // Not every file system can do it in one step. A directory has one process at a time, so two steps are as good.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            if to.exists() {
                return Err(io::Error::from_raw_os_error(libc::EEXIST));
            }
            fs::rename(from, to)
        }
        renamed => renamed,
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (from, to) = (path(from)?, path(to)?);
    let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both pointers are to strings that end in a zero and live until the call returns.
    match unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The length in bytes and the CRC-32 of a file of the local disk.
///
/// # Errors
/// If it cannot be read.
pub fn checksum(path: &Path) -> Result<(u64, u32)> {
    summed(path).context(|| format!("read {}", path.display()))
}

pub(crate) fn summed(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut crc, mut bytes) = (crc32fast::Hasher::new(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, crc.finalize()));
        }
        crc.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn is_store(root: &Path) -> bool {
    ["files", "staged"].iter().all(|folder| root.join(folder).is_dir())
}

/// Gives a file another name, or copies it. A file that has the new name already is never written to: it may be the same
/// one, or have other names.
fn link_or_copy(from: &Path, to: &Path, immutable: bool) -> io::Result<()> {
    if immutable && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    match (fs::metadata(from)?, fs::metadata(to)) {
        (from, Ok(to)) if (from.dev(), from.ino()) == (to.dev(), to.ino()) => return Ok(()),
        (_, Ok(_)) => fs::remove_file(to)?,
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        (_, Err(error)) => return Err(error),
    }
    fs::copy(from, to).map(drop)
}

pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).context(|| format!("sync {}", path.display()))
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::ErrorKind;

    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_lock_file_that_cannot_be_opened_is_named() {
        let (_directory, store) = store();
        let path = store.root().join("LOCK");
        // A directory cannot be opened for writing, not even by root, to whom permissions do not apply.
        fs::create_dir(&path).unwrap();
        let error = store.lock().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
        let error = error.to_string();
        for part in [&format!("cannot open {}", path.display()), "must be able to", "--checkpoint-dir"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let error = LocalStore::open(&path).unwrap_err().to_string();
        for part in [&format!("cannot make the checkpoint directory {}", path.display()), "--checkpoint-dir"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_directory_of_savepoints_is_no_savepoint_and_those_in_it_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let all = directory.path();
        let error = || LocalStore::named(all).unwrap_err().to_string();
        assert!(error().ends_with("is not the directory of a savepoint or of checkpoints"), "{}", error());
        for name in ["b", "a"] {
            LocalStore::open(&all.join(name)).unwrap();
        }
        let named = format!(", but there are such in it: {0}/a, {0}/b", all.display());
        assert!(error().ends_with(&named), "{}", error());
        assert!(LocalStore::named(&all.join("a")).is_ok());
    }

    #[test]
    fn a_file_that_never_changes_is_linked() {
        let (directory, store) = store();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        for immutable in [true, false] {
            let (from, to) = (directory.path().join("from"), directory.path().join("to"));
            fs::write(&from, "rows").unwrap();
            let name = format!("files/{immutable}");
            store.put_file(&from, &name, immutable).unwrap();
            store.get_file(&name, &to, immutable).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"rows");
            assert_eq!(inode(&from) == inode(&to), immutable);
            fs::remove_file(to).unwrap();
        }
    }
    /// A file that was linked is the same one under its new name: to write to that name would empty both.
    #[test]
    fn a_file_that_is_put_twice_stays_whole() {
        let (directory, store) = store();
        let from = directory.path().join("from");
        for (name, immutable) in [("files/linked", true), ("files/copied", false)] {
            fs::write(&from, "rows").unwrap();
            store.put_file(&from, name, immutable).unwrap();
            store.put_file(&from, name, immutable).unwrap();
            assert_eq!(fs::read(&from).unwrap(), b"rows");
            assert_eq!(fs::read(store.path(name)).unwrap(), b"rows");
        }
        let old = store.path("files/linked");
        fs::write(directory.path().join("other"), "other").unwrap();
        store.put_file(&directory.path().join("other"), "files/linked", true).unwrap();
        assert_eq!(
            (fs::read(&old).unwrap(), fs::read(&from).unwrap()),
            (b"other".to_vec(), b"rows".to_vec())
        );
    }

    #[test]
    fn a_note_is_written_in_place_unless_that_changes_a_backup() {
        let (directory, store) = store();
        let (path, backup) = (store.path("n"), directory.path().join("backup"));
        let inode = || fs::metadata(&path).unwrap().ino();
        store.note("n", b"1").unwrap();
        let before = inode();
        store.note("n", b"2").unwrap();
        assert_eq!((fs::read(&path).unwrap(), inode()), (b"2".to_vec(), before));
        fs::hard_link(&path, &backup).unwrap();
        store.note("n", b"3").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&backup).unwrap()), (b"3".to_vec(), b"2".to_vec()));
        store.note("n", b"10").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"10");
    }

    #[test]
    fn a_store_that_is_away_is_no_damage() {
        let (_directory, store) = store();
        let why = store.checksums(&["files/a"]).unwrap().remove(0).unwrap_err();
        assert!(why.ends_with("files/a is not there"), "{why}");
        // It is there, and cannot be read as a file.
        fs::create_dir(store.path("files/a")).unwrap();
        store.checksums(&["files/a"]).unwrap_err();
        fs::remove_dir_all(store.path("staged")).unwrap();
        store.checksums(&["files/b"]).unwrap_err();
    }
}
