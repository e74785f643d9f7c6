//! One job's snapshots in a checkpoint store.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_failpoint::point;
use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Attempt, Epoch, Error, ErrorContext, JobId, Manifest, ManifestError, Result, Slot};

use crate::store::{CheckpointStore, Upload};
use crate::{local, numbers};

/// The folder of the state files.
const FILES: &str = "files";
/// The folder of staged output.
const STAGED: &str = "staged";

/// Epochs beyond this one are refused: with ten snapshots a second it takes 29 billion years to reach it.
const LAST_EPOCH: Epoch = Epoch(i64::MAX as u64);

/// The snapshots of one job.
#[derive(Clone, Debug)]
pub struct Snapshots {
    store: Arc<dyn CheckpointStore>,
    /// The files of the snapshots that were completed here and have not been collected: their manifests need not be read
    /// again for that.
    completed: Arc<Mutex<BTreeMap<Epoch, Paths>>>,
}

/// The paths of a snapshot's files in the store.
type Paths = Arc<Vec<String>>;

/// The epochs that manifests are named for.
#[derive(Debug, Default)]
struct Named {
    manifests: Vec<Epoch>,
    /// Those that are set aside.
    damaged: Vec<Epoch>,
}

/// What a look at the manifests has found.
#[derive(Debug, Default)]
pub struct Found {
    /// The snapshots that may be restored from, the newest first; their files have not been checked.
    pub manifests: Vec<Manifest>,
    /// The manifests that cannot be read, with the reason.
    pub damaged: Vec<(Epoch, String)>,
    /// The highest epoch that any manifest, readable or not, is named for.
    pub last_epoch: Epoch,
}

impl Snapshots {
    /// The snapshots in a store.
    pub fn new(store: Arc<dyn CheckpointStore>) -> Self {
        Self { store, completed: Arc::default() }
    }

    /// Where they are, for messages.
    pub fn uri(&self) -> String {
        self.store.uri()
    }

    /// The number of the last attempt, 0 if there was none or the note is damaged: manifests name their attempts, too.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn last_attempt(&self) -> Result<Attempt> {
        Ok(Attempt(self.number("attempt")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)))
    }

    /// Notes the number of the attempt that begins, durably.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn set_attempt(&self, attempt: Attempt) -> Result<()> {
        self.store.replace("attempt", numbers::to_text(attempt.0.into()).as_bytes())
    }

    /// The id of a job that has this store for itself: the one that was made at the first call. If its note is damaged there is
    /// a new one, and what the job has outside under the old one belongs to nobody.
    ///
    /// # Errors
    /// If the store cannot be read or written to, or the system has no random numbers.
    pub fn job_id(&self) -> Result<JobId> {
        let noted = self.store.read("job-id")?;
        let id = noted.as_deref().and_then(numbers::word_of).and_then(|word| word.parse().ok());
        if let Some(id) = id {
            return Ok(id);
        }
        let mut id = JobId([0; 16]);
        getrandom::fill(&mut id.0).context(|| "make the id of a job")?;
        self.store.replace("job-id", numbers::checked(&id.to_string()).as_bytes())?;
        Ok(id)
    }

    /// The last epoch whose output is known to have been published; 0 if nothing is known. The output of an
    /// epoch that is noted as published is not published again, so a damaged note is ignored.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn published(&self) -> Result<Epoch> {
        Ok(Epoch(self.number("published")?.unwrap_or(0)))
    }

    /// Notes that an epoch was published. A note that is lost costs a second publishing, which changes nothing.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn set_published(&self, epoch: Epoch) -> Result<()> {
        self.store.note("published", numbers::to_text(epoch.0).as_bytes())
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.store.read(name)?.as_deref().and_then(numbers::from_bytes))
    }

    /// Puts files of a RocksDB checkpoint among the state files, each under a name of [`state_file_name`]. RocksDB never
    /// changes its `.sst` files, so they may be shared; the others are copied.
    ///
    /// # Errors
    /// If a file cannot be read, or the store cannot be written to.
    pub fn put_state_files(&self, files: &[(PathBuf, String)]) -> Result<Vec<FileRef>> {
        let upload = |(from, name): &(PathBuf, String)| Upload {
            from: from.clone(),
            name: format!("{FILES}/{name}"),
            immutable: from.extension().is_some_and(|extension| extension == "sst"),
        };
        let uploads: Vec<Upload> = files.iter().map(upload).collect();
        self.store.put_files(&uploads)?;
        let stored = |upload: Upload| {
            let (bytes, crc32) = local::checksum(&upload.from)?;
            Ok(FileRef { path: upload.name, bytes, crc32 })
        };
        uploads.into_iter().map(stored).collect()
    }

    /// Stores a staged file, which is not changed any more, durably, and returns its path in the store.
    ///
    /// # Errors
    /// If the file cannot be read, or the store cannot be written to.
    pub fn put_staged_file(&self, from: &Path, name: &str) -> Result<String> {
        let path = format!("{STAGED}/{name}");
        self.store.put_file(from, &path, true)?;
        self.store.sync(STAGED)?;
        Ok(path)
    }

    /// Puts a file of another store into this one, by its path there.
    pub(crate) fn put_copy(&self, from: &dyn CheckpointStore, path: &str) -> Result<()> {
        let is_state = path.starts_with(FILES);
        self.store.copy_file(from, path, !is_state || path.ends_with(".sst"))
    }

    /// Says that an attempt is about to begin from a snapshot: copies of other files on this host are of no use.
    pub fn keep_copies_of(&self, restored: &Manifest) {
        let needed: HashSet<&str> = restored.files().map(|file| &*file.path).collect();
        self.store.keep_copies(&|name| needed.contains(name));
    }

    /// Says which files of a worker a later start may need, by their paths: copies of others that the worker has written are
    /// of no use on this host.
    pub fn keep_copies_of_slot(&self, slot: Slot, is_needed: impl Fn(&str) -> bool) {
        let is_of_slot = |name: &str| name.split_once('/').and_then(|(_, own)| slot_in(own)) == Some(slot);
        self.store.keep_copies(&|name| !is_of_slot(name) || is_needed(name));
    }

    /// Makes the names of all files durable.
    pub(crate) fn sync_all(&self) -> Result<()> {
        [FILES, STAGED].into_iter().try_for_each(|folder| self.store.sync(folder))
    }

    /// Opens a staged file by its path in the store.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    pub fn open_staged_file(&self, path: &str) -> Result<Box<dyn Read + Send>> {
        self.store.open_file(path)
    }

    /// Makes the names of new state files durable.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn sync_state_files(&self) -> Result<()> {
        self.store.sync(FILES)
    }

    /// Puts the state files of a worker into a directory that RocksDB can open.
    ///
    /// # Errors
    /// If a file is not there, or the local disk cannot be written to.
    pub fn get_state_files(&self, files: &BTreeMap<String, FileRef>, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).context(|| format!("make {}", to.display()))?;
        let get = |(name, file): (&String, &FileRef)| {
            self.store.get_file(&file.path, &to.join(name), name.ends_with(".sst"))
        };
        files.iter().try_for_each(get)
    }

    /// Deletes the state files that a worker wrote for an epoch that was aborted. None of them is in another snapshot, since
    /// a worker reuses files of complete snapshots only. A loss of power may bring them back until the next collection.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn discard(&self, attempt: Attempt, epoch: Epoch, slot: Slot) -> Result<()> {
        let names = self.store.list_with_prefix(FILES, &written_by(attempt, slot, epoch))?;
        self.delete(names.into_iter().map(|name| format!("{FILES}/{name}")).collect())
    }

    /// Writes a manifest. When this returns, the snapshot is complete.
    ///
    /// # Errors
    /// If it cannot be written. The snapshot may be complete nevertheless: ask [`Snapshots::is_complete`].
    pub fn complete(&self, manifest: &Manifest) -> Result<()> {
        point("completion.before_write");
        self.store.create(&manifest_name(manifest.epoch), &manifest.to_bytes())?;
        point("completion.after_rename");
        self.completed().insert(manifest.epoch, paths(manifest));
        Ok(())
    }

    /// True if the manifest of an epoch is in place.
    ///
    /// # Errors
    /// If that cannot be found out: the snapshot may be complete or not.
    pub fn is_complete(&self, epoch: Epoch) -> Result<bool> {
        self.store.exists(&manifest_name(epoch))
    }

    /// Looks at all manifests.
    ///
    /// # Errors
    /// If the store cannot be read, if a manifest has a version that this build does not read, or if a name has an epoch
    /// after which no other could be numbered.
    pub fn find(&self) -> Result<Found> {
        let named = self.named()?;
        let aside = named.damaged.into_iter().max().unwrap_or_default();
        let mut found = Found { last_epoch: aside, ..Found::default() };
        for epoch in named.manifests {
            found.last_epoch = found.last_epoch.max(epoch);
            match self.manifest(epoch)? {
                Ok(manifest) => found.manifests.push(manifest),
                Err(why) => found.damaged.push((epoch, why)),
            }
        }
        found.manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.epoch));
        Ok(found)
    }

    /// The epochs of the objects that have exactly the name of a manifest of their epoch. A similar name, as a copy made by
    /// hand may have, is ignored: the epoch in it would lead to the file with the exact name.
    fn named(&self) -> Result<Named> {
        let mut named = Named::default();
        for called in self.store.list("")? {
            let number = called.split_once('-').and_then(|(_, rest)| rest.strip_suffix(".json"));
            let Some(epoch) = number.and_then(|n| n.parse().ok()).map(Epoch) else { continue };
            let epochs = match &called {
                called if *called == manifest_name(epoch) => &mut named.manifests,
                called if *called == damaged_name(epoch) => &mut named.damaged,
                _ => continue,
            };
            if epoch > LAST_EPOCH {
                return Err(Error::job(format!(
                    "{}/{called} is named for an epoch that no job reaches, and later ones could not be numbered: remove it",
                    self.uri()
                )));
            }
            epochs.push(epoch);
        }
        Ok(named)
    }

    fn completed(&self) -> MutexGuard<'_, BTreeMap<Epoch, Paths>> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paths of a snapshot's files; None if its manifest cannot be read.
    fn paths_of(&self, epoch: Epoch) -> Result<Option<Paths>> {
        if let Some(paths) = self.completed().get(&epoch) {
            return Ok(Some(paths.clone()));
        }
        Ok(self.manifest(epoch)?.ok().as_ref().map(paths))
    }

    /// The manifest of an epoch. The inner error says why it is not to be used, as a sentence.
    ///
    /// # Errors
    /// If the store cannot be read, or the manifest has a version that this build does not read.
    pub fn manifest(&self, epoch: Epoch) -> Result<Result<Manifest, String>> {
        let name = manifest_name(epoch);
        let Some(bytes) = self.store.read(&name)? else {
            return Ok(Err(format!("{}/{name} is not there", self.uri())));
        };
        Ok(match Manifest::from_bytes(&bytes) {
            Ok(manifest) if manifest.epoch == epoch => Ok(manifest),
            Ok(other) => Err(format!("it is the manifest of epoch {}", other.epoch)),
            Err(ManifestError::Damaged(why)) => Err(why),
            Err(version) => return Err(Error::job(format!("{}/{name}: {version}", self.uri()))),
        })
    }

    /// Compares the files of a snapshot with their lengths and checksums: those of the state store, and the staged output
    /// that is still to be published. The inner error is the first difference, as a sentence.
    ///
    /// # Errors
    /// If the store cannot be reached.
    pub fn check_files(&self, manifest: &Manifest, published: Epoch) -> Result<Result<(), String>> {
        match self.check_state_files(manifest, |_| true)? {
            Ok(()) => self.check_staged_files(manifest, published),
            different => Ok(different),
        }
    }

    /// Compares the state files that some workers wrote for a snapshot with their lengths and checksums. The inner error is
    /// the first difference, as a sentence.
    ///
    /// # Errors
    /// If the store cannot be reached.
    pub fn check_state_files(
        &self,
        manifest: &Manifest,
        of: impl Fn(Slot) -> bool,
    ) -> Result<Result<(), String>> {
        let slots = manifest.slots.iter().filter(|(slot, _)| of(**slot));
        self.check_stored(slots.flat_map(|(_, part)| part.store.values()))
    }

    /// Compares the staged output of a snapshot that is still to be published, as far as it is in files, with the lengths and
    /// checksums. A staged file that lies outside of the store and is not there may have been published already; its
    /// publisher checks that. The inner error is the first difference, as a sentence.
    ///
    /// # Errors
    /// If the store cannot be reached.
    pub fn check_staged_files(&self, manifest: &Manifest, published: Epoch) -> Result<Result<(), String>> {
        if manifest.epoch <= published {
            return Ok(Ok(()));
        }
        let staged = manifest.staged().filter_map(|(_, staged)| staged.file.as_ref());
        let (outside, stored): (Vec<_>, Vec<_>) =
            staged.into_iter().partition(|file| Path::new(&file.path).is_absolute());
        for file in outside {
            match local::summed(Path::new(&file.path)) {
                Ok(actual) => {
                    if let Err(why) = compare(&file.path, actual, file) {
                        return Ok(Err(why));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::from(error).context(format!("read {}", file.path))),
            }
        }
        self.check_stored(stored)
    }

    fn check_stored<'a>(&self, files: impl IntoIterator<Item = &'a FileRef>) -> Result<Result<(), String>> {
        // After a rescale several workers share files.
        let files: BTreeMap<&str, &FileRef> = files.into_iter().map(|file| (&*file.path, file)).collect();
        let names: Vec<&str> = files.keys().copied().collect();
        let actual = self.store.checksums(&names)?;
        let check =
            |(file, actual): (&FileRef, _)| compare(&format!("{}/{}", self.uri(), file.path), actual?, file);
        Ok(files.into_values().zip(actual).try_for_each(check))
    }

    /// Sets a damaged snapshot aside, so that no later start restores from it when its epochs have been computed again.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn set_aside(&self, epoch: Epoch) -> Result<()> {
        self.store.rename(&manifest_name(epoch), &damaged_name(epoch))
    }

    /// Removes the snapshots before `oldest`, and the files that only they name. A snapshot may be under way meanwhile: its
    /// files are either new or those of a snapshot that stays.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn collect(&self, oldest: Epoch) -> Result<()> {
        point("collect.before");
        let named = self.named()?;
        let (mut stay, mut go): (Vec<Paths>, Vec<Paths>) = Default::default();
        for epoch in &named.manifests {
            let paths = self.paths_of(*epoch)?;
            if *epoch >= oldest { &mut stay } else { &mut go }.extend(paths);
        }
        let is_old = |epoch: &Epoch| *epoch < oldest;
        let mut names: Vec<String> = named.manifests.into_iter().filter(is_old).map(manifest_name).collect();
        for epoch in named.damaged {
            // What is damaged may be a file that it names: the others are of use to whoever repairs it, or copies it now. Files
            // of one that cannot be read go with the next start.
            let name = damaged_name(epoch);
            let bytes = self.store.read(&name)?.unwrap_or_default();
            let paths = Manifest::from_bytes(&bytes).ok().as_ref().map(paths);
            if is_old(&epoch) {
                go.extend(paths);
                names.push(name);
            } else {
                stay.extend(paths);
            }
        }
        self.delete(names)?;
        self.completed().retain(|epoch, _| *epoch >= oldest);
        let needed: HashSet<&str> = stay.iter().flat_map(|paths| paths.iter()).map(String::as_str).collect();
        let gone: HashSet<&str> = go.iter().flat_map(|paths| paths.iter()).map(String::as_str).collect();
        let gone: Vec<&str> = gone.difference(&needed).copied().filter(|path| is_in_store(path)).collect();
        if !gone.is_empty() {
            // No manifest may come back without its files.
            self.store.sync("")?;
        }
        point("collect.half_way");
        self.store.delete(&gone)?;
        point("collect.after");
        Ok(())
    }

    fn delete(&self, names: Vec<String>) -> Result<()> {
        self.store.delete(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Removes what attempts have written that ended before a manifest named it. Does nothing while a damaged manifest is set
    /// aside: whoever repairs it needs the files that it names. No attempt may be running.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn remove_leftovers(&self) -> Result<()> {
        self.remove_leftovers_before(Attempt(u32::MAX))
    }

    /// The same for what attempts before this one have written; this one may be running.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn remove_leftovers_before(&self, attempt: Attempt) -> Result<()> {
        if self.named()?.damaged.is_empty() { self.remove_unnamed(attempt) } else { Ok(()) }
    }

    /// Removes the manifests of epochs after this one: they were written, but whoever decides what is complete does not know
    /// of them.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn remove_manifests_after(&self, last: Epoch) -> Result<()> {
        let after = self.named()?.manifests.into_iter().filter(|epoch| *epoch > last);
        self.delete(after.map(manifest_name).collect())?;
        self.store.sync("")
    }

    /// Removes every file of attempts before this one that no manifest names.
    fn remove_unnamed(&self, before: Attempt) -> Result<()> {
        let found = self.find()?;
        let needed: HashSet<&str> =
            found.manifests.iter().flat_map(Manifest::files).map(|file| file.path.as_str()).collect();
        for folder in [FILES, STAGED] {
            let old = |name: &String| written_in(name).is_some_and(|attempt| attempt < before);
            let names =
                self.store.list(folder)?.into_iter().filter(old).map(|name| format!("{folder}/{name}"));
            self.delete(names.filter(|name| !needed.contains(name.as_str())).collect())?;
        }
        Ok(())
    }
}

/// The name of a state file that a worker writes for an epoch. The attempt is in it, so that files of an attempt that has
/// ended are never taken for this one's.
pub fn state_file_name(attempt: Attempt, slot: Slot, epoch: Epoch, name: &str) -> String {
    format!("{}{name}", written_by(attempt, slot, epoch))
}

/// The attempt that wrote a file, if its name begins as those of state files and staged files do, with attempt, slot and a
/// number.
fn written_in(name: &str) -> Option<Attempt> {
    numbers_in(name).map(|[attempt, _]| Attempt(attempt))
}

/// The slot of the worker that wrote a file, by the same rule.
fn slot_in(name: &str) -> Option<Slot> {
    numbers_in(name).map(|[_, slot]| Slot(slot))
}

fn numbers_in(name: &str) -> Option<[u32; 2]> {
    let numbers: Vec<u64> = name.splitn(4, '-').take(3).map_while(|part| part.parse().ok()).collect();
    let [attempt, slot, _] = *numbers else { return None };
    Some([u32::try_from(attempt).ok()?, u32::try_from(slot).ok()?])
}

/// True for the path of a state file or a staged file in the store, with a name that this crate gives.
fn is_in_store(path: &str) -> bool {
    let name = path.strip_prefix(FILES).or(path.strip_prefix(STAGED)).and_then(|name| name.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/') && written_in(name).is_some())
}

fn written_by(attempt: Attempt, slot: Slot, epoch: Epoch) -> String {
    format!("{attempt}-{slot}-{epoch}-")
}

fn paths(manifest: &Manifest) -> Paths {
    Arc::new(manifest.files().map(|file| file.path.clone()).collect())
}

fn manifest_name(epoch: Epoch) -> String {
    format!("manifest-{:011}.json", epoch.0)
}

fn damaged_name(epoch: Epoch) -> String {
    format!("damaged-{:011}.json", epoch.0)
}

fn compare(path: &str, (bytes, crc32): (u64, u32), expected: &FileRef) -> Result<(), String> {
    if (bytes, crc32) == (expected.bytes, expected.crc32) {
        return Ok(());
    }
    Err(format!(
        "{path} is damaged: {bytes} bytes with CRC-32 {crc32:08x}, where the manifest says {} bytes with {:08x}",
        expected.bytes, expected.crc32
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tidegate_protocol::KeyGroups;
    use tidegate_protocol::manifest::FORMAT_VERSION;

    use super::*;
    use crate::LocalStore;

    fn snapshots() -> (tempfile::TempDir, Snapshots, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        let root = store.root().to_owned();
        (directory, Snapshots::new(Arc::new(store)), root)
    }

    pub(crate) fn manifest(epoch: u64) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            job: "job".to_owned(),
            attempt: Attempt(1),
            epoch: Epoch(epoch),
            finished: false,
            checkpoints: epoch,
            completed_at_ms: 0,
            parallelism: 1,
            key_groups: KeyGroups::default(),
            arguments: BTreeMap::new(),
            operators: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    #[test]
    fn what_one_worker_wrote_for_one_epoch_is_discarded_and_nothing_else() {
        let (_directory, snapshots, root) = snapshots();
        let all =
            ["2-1-7-a.sst", "2-1-7-CURRENT", "2-1-71-a.sst", "2-11-7-a.sst", "1-1-7-a.sst", "12-1-7-a.sst"];
        all.iter().for_each(|name| fs::write(root.join(FILES).join(name), name).unwrap());
        snapshots.discard(Attempt(2), Epoch(7), Slot(1)).unwrap();
        let left = all.map(|name| root.join(FILES).join(name).exists());
        assert_eq!(left, [false, false, true, true, true, true]);
        snapshots.discard(Attempt(2), Epoch(7), Slot(1)).unwrap();
    }

    #[test]
    fn a_manifest_is_known_by_its_own_name_only() {
        let (_directory, snapshots, root) = snapshots();
        snapshots.complete(&manifest(7)).unwrap();
        for name in
            ["manifest-7.json", "manifest-+0000000007.json", "manifest-000000000007.json", "manifest-.json"]
        {
            fs::write(root.join(name), "an editor's copy").unwrap();
        }
        let found = snapshots.find().unwrap();
        assert_eq!((found.manifests.len(), found.damaged.len(), found.last_epoch), (1, 0, Epoch(7)));
        // By another epoch's name it is damaged, and never taken for that epoch's or twice for its own.
        fs::copy(root.join(manifest_name(Epoch(7))), root.join(manifest_name(Epoch(9)))).unwrap();
        let found = snapshots.find().unwrap();
        assert_eq!((found.manifests.len(), found.last_epoch), (1, Epoch(9)));
        assert_eq!(found.damaged, [(Epoch(9), "it is the manifest of epoch 7".to_owned())]);
    }

    #[test]
    fn a_manifest_is_never_replaced() {
        let (_directory, snapshots, root) = snapshots();
        snapshots.complete(&manifest(7)).unwrap();
        let other = Manifest { job: "other".to_owned(), ..manifest(7) };
        assert!(snapshots.complete(&other).unwrap_err().to_string().contains("exists"));
        assert!(snapshots.is_complete(Epoch(7)).unwrap());
        let bytes = fs::read(root.join(manifest_name(Epoch(7)))).unwrap();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap().job, "job");
    }

    #[test]
    fn an_epoch_that_none_can_follow_is_refused() {
        for name in
            [manifest_name(Epoch(u64::MAX)), damaged_name(Epoch(u64::MAX)), damaged_name(Epoch(1 << 63))]
        {
            let (_directory, snapshots, root) = snapshots();
            fs::write(root.join(&name), "").unwrap();
            let error = snapshots.find().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(&name) && error.contains("remove it"), "{error}");
        }
    }

    #[test]
    fn a_damaged_note_is_ignored() {
        let (_directory, snapshots, root) = snapshots();
        assert_eq!(
            (snapshots.published().unwrap(), snapshots.last_attempt().unwrap()),
            (Epoch(0), Attempt(0))
        );
        snapshots.set_published(Epoch(41)).unwrap();
        snapshots.set_attempt(Attempt(7)).unwrap();
        assert_eq!(
            (snapshots.published().unwrap(), snapshots.last_attempt().unwrap()),
            (Epoch(41), Attempt(7))
        );
        for name in ["published", "attempt"] {
            fs::write(root.join(name), "9 crc32=00000000\n").unwrap();
        }
        assert_eq!(
            (snapshots.published().unwrap(), snapshots.last_attempt().unwrap()),
            (Epoch(0), Attempt(0))
        );
    }

    #[test]
    fn a_job_keeps_its_id_unless_the_note_is_damaged() {
        let (_directory, snapshots, root) = snapshots();
        let id = snapshots.job_id().unwrap();
        assert_eq!(snapshots.job_id().unwrap(), id);
        let mut bytes = fs::read(root.join("job-id")).unwrap();
        bytes[3] ^= 1;
        fs::write(root.join("job-id"), bytes).unwrap();
        let other = snapshots.job_id().unwrap();
        assert_ne!(other, id);
        assert_eq!(snapshots.job_id().unwrap(), other);
    }

    #[test]
    fn leftovers_are_removed_unless_a_damaged_manifest_may_name_them() {
        let (_directory, snapshots, root) = snapshots();
        let leftover = root.join("staged/1-0-4");
        snapshots.complete(&manifest(2)).unwrap();
        snapshots.set_aside(Epoch(2)).unwrap();
        fs::write(&leftover, "").unwrap();
        snapshots.remove_leftovers().unwrap();
        assert!(leftover.exists());
        fs::remove_file(root.join(damaged_name(Epoch(2)))).unwrap();
        snapshots.remove_leftovers().unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_collection_leaves_what_a_retained_manifest_names() {
        let (_directory, snapshots, root) = snapshots();
        let from = root.join("row.sst");
        fs::write(&from, "row").unwrap();
        for epoch in 1..=3 {
            let name = |epoch| state_file_name(Attempt(1), Slot(0), Epoch(epoch), "row.sst");
            let file = snapshots.put_state_files(&[(from.clone(), name(epoch))]).unwrap().remove(0);
            // The first file is in all snapshots.
            let first = FileRef { path: format!("{FILES}/{}", name(1)), ..file.clone() };
            let store = BTreeMap::from([("1".to_owned(), first), ("own".to_owned(), file)]);
            let slot = tidegate_protocol::manifest::SlotSnapshot { store, operators: BTreeMap::new() };
            snapshots.complete(&Manifest { slots: [(Slot(0), slot)].into(), ..manifest(epoch) }).unwrap();
        }
        // A file of an attempt that has ended, and one that is not ours.
        for name in ["staged/1-0-4", "staged/part-0.jsonl", "files/notes-of-mine"] {
            fs::write(root.join(name), "").unwrap();
        }
        snapshots.set_aside(Epoch(2)).unwrap();
        // One that is set aside may still be repaired, until it is as old as those that are not kept.
        snapshots.collect(Epoch(2)).unwrap();
        assert!(root.join(FILES).join("1-0-2-row.sst").exists());
        snapshots.collect(Epoch(3)).unwrap();
        let mut left = snapshots.store.list(FILES).unwrap();
        left.sort();
        assert_eq!(left, ["1-0-1-row.sst", "1-0-3-row.sst", "notes-of-mine"]);
        assert_eq!(snapshots.store.list(STAGED).unwrap().len(), 2, "a running attempt may have written it");
        snapshots.remove_leftovers_before(Attempt(1)).unwrap();
        assert_eq!(snapshots.store.list(STAGED).unwrap().len(), 2);
        snapshots.remove_leftovers_before(Attempt(2)).unwrap();
        assert_eq!(snapshots.store.list(STAGED).unwrap(), ["part-0.jsonl"]);
        let found = snapshots.find().unwrap();
        assert_eq!(found.manifests.len(), 1);
        snapshots.check_files(&found.manifests[0], Epoch(0)).unwrap().unwrap();
        fs::write(root.join(FILES).join("1-0-3-row.sst"), "raw").unwrap();
        let why = snapshots.check_files(&found.manifests[0], Epoch(0)).unwrap().unwrap_err();
        assert!(why.contains("row.sst is damaged"), "{why}");
    }
}
