//! The layout of a checkpoint directory.
//!
//! ```text
//! LOCK                      held by the process that uses the directory
//! attempt                   the number of the last attempt, with its checksum
//! published                 the last epoch whose output is known to be published, with its checksum
//! manifest-00000000007.json one for every retained snapshot, written last
//! damaged-00000000006.json  a damaged manifest, set aside for an older one, for people to look at
//! files/                    the state store's files, shared between snapshots
//! local/<attempt>/<slot>    the running state stores; of no use after the attempt
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Attempt, Epoch, Manifest, ManifestError, Slot};

use crate::error::{Context, Error, Result};
use crate::failpoint::point;

/// A checkpoint directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDirectory {
    root: PathBuf,
}

/// What a look at the manifests has found.
#[derive(Default)]
pub(crate) struct Found {
    /// The snapshots that may be restored from, the newest first; their files have not been checked.
    pub(crate) manifests: Vec<Manifest>,
    /// The manifests that cannot be read, with the reason.
    pub(crate) damaged: Vec<(Epoch, String)>,
    /// The highest epoch that any manifest, readable or not, is named for.
    pub(crate) last_epoch: Epoch,
}

impl StateDirectory {
    /// Opens a directory, making it if it is not there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let doing = || {
            format!(
                "cannot make the checkpoint directory {} (the user that runs the job must be able to write there; \
                 --checkpoint-dir names another)",
                root.display()
            )
        };
        let missing =
            root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
        fs::create_dir_all(root.join("files")).context(doing)?;
        fs::create_dir_all(root.join("local")).context(doing)?;
        let root = root.canonicalize().context(doing)?;
        // What was published must not outlive the directory that says so.
        root.ancestors().take(missing + 1).try_for_each(sync_dir)?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// True for a path at which only snapshots may be: the directory itself, and those in which it removes what it does not
    /// know.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        path == self.root || ["files", "local"].iter().any(|name| path.starts_with(self.root.join(name)))
    }

    /// Takes the lock of the directory, which the process holds until the file is closed, however it ends.
    pub(crate) fn lock(&self) -> Result<File> {
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

    /// The number of the last attempt, 0 if there was none or the file does not tell any more: manifests know the rest.
    pub(crate) fn last_attempt(&self) -> Result<Attempt> {
        Ok(Attempt(self.number("attempt")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)))
    }

    pub(crate) fn set_attempt(&self, attempt: Attempt) -> Result<()> {
        self.write_whole("attempt", numbered(attempt.0.into()).as_bytes(), || ())
    }

    /// The last epoch whose output is known to have been published; 0 if nothing is known. Output of an epoch that is
    /// believed to be published is published by nobody again, so a number that is not as it was written is not believed.
    pub(crate) fn published(&self) -> Result<Epoch> {
        Ok(Epoch(self.number("published")?.unwrap_or(0)))
    }

    /// Notes that an epoch was published. A note that is lost costs a second, harmless publishing.
    pub(crate) fn set_published(&self, epoch: Epoch) -> Result<()> {
        let (part, whole) = (self.root.join(".published.part"), self.root.join("published"));
        let write = || -> std::io::Result<()> {
            fs::write(&part, numbered(epoch.0))?;
            point("published.before_rename");
            fs::rename(&part, &whole)
        };
        write().context(|| format!("write {}", whole.display()))
    }

    /// The number that [`numbered`] wrote to a file; None if there is no file, or if it was torn or changed.
    fn number(&self, name: &str) -> Result<Option<u64>> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let number =
                    std::str::from_utf8(&bytes).ok().and_then(|text| text.split(' ').next()?.parse().ok());
                Ok(number.filter(|n| numbered(*n).as_bytes() == bytes))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from(e).context(format!("read {}", path.display()))),
        }
    }

    /// Removes the running stores of earlier attempts.
    pub(crate) fn clean_local(&self) -> Result<()> {
        let local = self.root.join("local");
        fs::remove_dir_all(&local).context(|| format!("remove {}", local.display()))?;
        fs::create_dir_all(&local).context(|| format!("make {}", local.display()))
    }

    /// Where a worker's running store is.
    pub(crate) fn worker(&self, attempt: Attempt, slot: Slot) -> PathBuf {
        self.root.join("local").join(attempt.to_string()).join(slot.to_string())
    }

    /// Puts a file of a RocksDB checkpoint among the shared files. Files that RocksDB never changes are linked, the
    /// others are copied.
    pub(crate) fn add_file(&self, from: &Path, name: &str) -> Result<FileRef> {
        let relative = format!("files/{name}");
        let to = self.root.join(&relative);
        let doing = || format!("link {} to {}", from.display(), to.display());
        if from.extension().is_some_and(|e| e == "sst") && fs::hard_link(from, &to).is_ok() {
            File::open(&to).and_then(|f| f.sync_all()).context(doing)?;
        } else {
            fs::copy(from, &to).context(doing)?;
            File::open(&to).and_then(|f| f.sync_all()).context(doing)?;
        }
        let (bytes, crc32) = checksum(&to)?;
        Ok(FileRef { path: relative, bytes, crc32 })
    }

    /// Removes the shared files that a worker wrote for an epoch that was aborted; none of them is in any other snapshot,
    /// because a worker takes over files of complete snapshots only. A loss of power may bring them back, until the next
    /// collection.
    pub(crate) fn discard(&self, attempt: Attempt, epoch: Epoch, slot: Slot) -> Result<()> {
        let (files, written) = (self.root.join("files"), written_by(attempt, slot, epoch));
        for entry in fs::read_dir(&files).context(|| format!("list {}", files.display()))? {
            let entry = entry.context(|| format!("list {}", files.display()))?;
            if entry.file_name().to_string_lossy().starts_with(&written) {
                fs::remove_file(entry.path()).context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Makes the names of new shared files durable.
    pub(crate) fn sync_files(&self) -> Result<()> {
        sync_dir(&self.root.join("files"))
    }

    /// Lays a snapshot's store files out as a RocksDB directory.
    pub(crate) fn link_store(&self, files: &BTreeMap<String, FileRef>, to: &Path) -> Result<()> {
        fs::create_dir_all(to).context(|| format!("make {}", to.display()))?;
        for (name, file) in files {
            let (from, to) = (self.root.join(&file.path), to.join(name));
            let linked = name.ends_with(".sst") && fs::hard_link(&from, &to).is_ok();
            if !linked {
                fs::copy(&from, &to).context(|| format!("copy {} to {}", from.display(), to.display()))?;
            }
        }
        Ok(())
    }

    /// Writes a manifest: from its rename on, the snapshot is complete.
    pub(crate) fn complete(&self, manifest: &Manifest) -> Result<()> {
        point("completion.before_write");
        self.write_whole(&manifest_name(manifest.epoch), &manifest.to_bytes(), || {
            point("completion.before_rename");
        })?;
        point("completion.after_rename");
        Ok(())
    }

    /// Writes a file so that it is there as a whole or not at all.
    fn write_whole(&self, name: &str, bytes: &[u8], before_rename: impl FnOnce()) -> Result<()> {
        let (part, whole) = (self.root.join(format!(".{name}.part")), self.root.join(name));
        let write = || -> Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            before_rename();
            fs::rename(&part, &whole)?;
            sync_dir(&self.root)
        };
        write().context(|| format!("write {}", whole.display()))
    }

    /// Looks at all manifests.
    pub(crate) fn find(&self) -> Result<Found> {
        let mut found = Found { last_epoch: self.last_aside()?, ..Found::default() };
        for (epoch, path) in self.files_called(manifest_name)? {
            found.last_epoch = found.last_epoch.max(epoch);
            let bytes = fs::read(&path).context(|| format!("read {}", path.display()))?;
            match Manifest::from_bytes(&bytes) {
                Ok(manifest) if manifest.epoch == epoch => found.manifests.push(manifest),
                Ok(other) => {
                    found.damaged.push((epoch, format!("it is the manifest of epoch {}", other.epoch)))
                }
                Err(ManifestError::Damaged(why)) => found.damaged.push((epoch, why)),
                Err(version) => return Err(Error::job(format!("{}: {version}", path.display()))),
            }
        }
        found.manifests.sort_by_key(|m| std::cmp::Reverse(m.epoch));
        Ok(found)
    }

    fn last_aside(&self) -> Result<Epoch> {
        Ok(self.files_called(aside_name)?.into_iter().map(|(epoch, _)| epoch).max().unwrap_or_default())
    }

    /// The files that are called as `name` calls that of an epoch, exactly: by a name that is only like it, as a person's
    /// copy may have, another file would be found.
    fn files_called(&self, name: fn(Epoch) -> String) -> Result<Vec<(Epoch, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.root).context(|| format!("list {}", self.root.display()))? {
            let path = entry.context(|| format!("list {}", self.root.display()))?.path();
            let called = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let number = called.split_once('-').and_then(|(_, rest)| rest.strip_suffix(".json"));
            let epoch = number.and_then(|n| n.parse().ok()).map(Epoch).filter(|epoch| name(*epoch) == called);
            match epoch {
                Some(epoch) if epoch > LAST_EPOCH => {
                    return Err(Error::job(format!(
                        "{} is named for an epoch that no job comes to, and later ones could not be numbered: remove it",
                        path.display()
                    )));
                }
                Some(epoch) => files.push((epoch, path)),
                None => {}
            }
        }
        Ok(files)
    }

    /// Compares the files of a snapshot with their lengths and checksums: those of the state store, and the output that
    /// is still to be published. A staged file that is gone may be in its place already; its publisher knows.
    pub(crate) fn check_files(&self, manifest: &Manifest, published: Epoch) -> Result<(), String> {
        let staged = manifest.staged().filter(|_| manifest.epoch > published).map(|(_, staged)| &staged.file);
        let staged =
            staged.filter(|file| Path::new(&file.path).is_absolute() && Path::new(&file.path).exists());
        manifest.store_files().chain(staged).try_for_each(|file| self.check_file(file))
    }

    fn check_file(&self, file: &FileRef) -> Result<(), String> {
        let path = self.root.join(&file.path);
        let (bytes, crc32) = checksum(&path).map_err(|e| e.to_string())?;
        if (bytes, crc32) == (file.bytes, file.crc32) {
            return Ok(());
        }
        Err(format!(
            "{} is damaged: {bytes} bytes with CRC-32 {crc32:08x}, where the manifest says {} bytes with {:08x}",
            path.display(),
            file.bytes,
            file.crc32
        ))
    }

    /// Sets a damaged snapshot aside, so that nobody goes on from it later, when another life has begun before it.
    pub(crate) fn set_aside(&self, epoch: Epoch) -> Result<()> {
        let (path, aside) = (self.root.join(manifest_name(epoch)), self.root.join(aside_name(epoch)));
        fs::rename(&path, aside).context(|| format!("set {} aside", path.display()))?;
        sync_dir(&self.root)
    }

    /// True if the manifest of an epoch is in place.
    pub(crate) fn is_complete(&self, epoch: Epoch) -> bool {
        self.root.join(manifest_name(epoch)).exists()
    }

    /// Removes the snapshots before `oldest`, and every shared file that no remaining one names.
    pub(crate) fn collect(&self, oldest: Epoch) -> Result<()> {
        point("collect.before");
        let old = self.files_called(manifest_name)?.into_iter().chain(self.files_called(aside_name)?);
        for (epoch, path) in old {
            if epoch < oldest {
                fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
            }
        }
        sync_dir(&self.root)?;
        point("collect.half_way");
        let found = self.find()?;
        let names = |m: &Manifest| m.store_files().map(|f| f.path.clone()).collect::<Vec<_>>();
        let needed: std::collections::HashSet<String> = found.manifests.iter().flat_map(names).collect();
        let files = self.root.join("files");
        let listing = || format!("list {}", files.display());
        for entry in fs::read_dir(&files).context(listing)? {
            let entry = entry.context(listing)?;
            let relative = format!("files/{}", entry.file_name().to_string_lossy());
            if !needed.contains(&relative) {
                fs::remove_file(entry.path()).context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        point("collect.after");
        Ok(())
    }
}

/// What the names of the shared files begin with that a worker writes for an epoch.
pub(crate) fn written_by(attempt: Attempt, slot: Slot, epoch: Epoch) -> String {
    format!("{attempt}-{slot}-{epoch}-")
}

/// A number as it stands in a file, with the checksum of its digits.
fn numbered(number: u64) -> String {
    format!("{number} crc32={:08x}\n", crc32fast::hash(number.to_string().as_bytes()))
}

/// What is beyond is not believed: ten snapshots a second take three billion years to come here.
const LAST_EPOCH: Epoch = Epoch(i64::MAX as u64);

fn manifest_name(epoch: Epoch) -> String {
    format!("manifest-{:011}.json", epoch.0)
}

fn aside_name(epoch: Epoch) -> String {
    format!("damaged-{:011}.json", epoch.0)
}

/// Length and CRC-32 of a file.
fn checksum(path: &Path) -> Result<(u64, u32)> {
    let doing = || format!("read {}", path.display());
    let mut file = File::open(path).context(doing)?;
    let (mut crc, mut bytes) = (crc32fast::Hasher::new(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer).context(doing)?;
        if read == 0 {
            return Ok((bytes, crc.finalize()));
        }
        crc.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).context(|| format!("sync {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to flip one bit of a file, and every way to cut it short.
    fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let flipped = (0..bytes.len() * 8).map(|bit| {
            let mut copy = bytes.to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            copy
        });
        flipped.chain((0..bytes.len()).map(|length| bytes[..length].to_vec()))
    }

    #[test]
    fn what_one_worker_wrote_for_one_epoch_is_discarded_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(place.path()).unwrap();
        let files = directory.root().join("files");
        let all =
            ["2-1-7-a.sst", "2-1-7-CURRENT", "2-1-71-a.sst", "2-11-7-a.sst", "1-1-7-a.sst", "12-1-7-a.sst"];
        all.iter().for_each(|name| fs::write(files.join(name), name).unwrap());
        directory.discard(Attempt(2), Epoch(7), Slot(1)).unwrap();
        let left = all.map(|name| files.join(name).exists());
        assert_eq!(left, [false, false, true, true, true, true]);
        directory.discard(Attempt(2), Epoch(7), Slot(1)).unwrap();
    }

    /// A manifest of epoch 7, in a directory of its own.
    fn with_manifest() -> (tempfile::TempDir, StateDirectory, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (process, _) = crate::testing::parts::process(place.path(), 1, None);
        let directory = process.state.clone();
        directory.complete(&crate::testing::parts::manifest(&process, Epoch(7), BTreeMap::new())).unwrap();
        let path = directory.root().join(manifest_name(Epoch(7)));
        (place, directory, path)
    }

    #[test]
    fn a_lock_file_that_cannot_be_opened_is_named() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(place.path()).unwrap();
        let path = directory.root().join("LOCK");
        // A directory cannot be opened for writing, not even by root, to whom permissions do not apply.
        fs::create_dir(&path).unwrap();
        let error = directory.lock().unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Environment);
        let error = error.to_string();
        for part in [&format!("cannot open {}", path.display()), "must be able to", "--checkpoint-dir"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_directory_that_cannot_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "").unwrap();
        let error = StateDirectory::open(&path).unwrap_err().to_string();
        for part in [&format!("cannot make the checkpoint directory {}", path.display()), "--checkpoint-dir"]
        {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_manifest_is_known_by_its_own_name_only() {
        let (_place, directory, path) = with_manifest();
        for name in
            ["manifest-7.json", "manifest-+0000000007.json", "manifest-000000000007.json", "manifest-.json"]
        {
            fs::write(directory.root().join(name), "an editor's copy").unwrap();
        }
        let found = directory.find().unwrap();
        assert_eq!((found.manifests.len(), found.damaged.len(), found.last_epoch), (1, 0, Epoch(7)));
        // By another epoch's name it is damaged, and never taken for that epoch's or twice for its own.
        fs::copy(&path, directory.root().join(manifest_name(Epoch(9)))).unwrap();
        let found = directory.find().unwrap();
        assert_eq!((found.manifests.len(), found.last_epoch), (1, Epoch(9)));
        assert_eq!(found.damaged, [(Epoch(9), "it is the manifest of epoch 7".to_owned())]);
    }

    #[test]
    fn an_epoch_that_none_can_follow_is_refused() {
        for name in [manifest_name(Epoch(u64::MAX)), aside_name(Epoch(u64::MAX)), aside_name(Epoch(1 << 63))]
        {
            let (_place, directory, path) = with_manifest();
            fs::copy(&path, directory.root().join(&name)).unwrap();
            let error = directory.find().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(&name) && error.contains("remove it"), "{error}");
        }
    }

    #[test]
    fn a_note_that_was_torn_or_changed_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(place.path()).unwrap();
        assert_eq!(
            (directory.published().unwrap(), directory.last_attempt().unwrap()),
            (Epoch(0), Attempt(0))
        );
        directory.set_published(Epoch(41)).unwrap();
        directory.set_attempt(Attempt(7)).unwrap();
        assert_eq!(
            (directory.published().unwrap(), directory.last_attempt().unwrap()),
            (Epoch(41), Attempt(7))
        );
        for name in ["published", "attempt"] {
            let path = directory.root().join(name);
            for bytes in damaged(&fs::read(&path).unwrap()) {
                fs::write(&path, &bytes).unwrap();
                assert_eq!(directory.number(name).unwrap(), None, "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
