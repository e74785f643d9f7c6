//! Copies of a snapshot: a savepoint, which belongs to the user, and a job that goes on from one.
//!
//! A copy is a checkpoint directory of its own, with one snapshot. Files that never change are linked where the file system
//! can do that: a link stays when the original is deleted. Within a bucket they are copied by the object store itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tidegate_protocol::{Epoch, Error, ErrorContext, Manifest, Result};

use crate::choice::newest_whole;
use crate::local::LocalStore;
use crate::snapshots::Snapshots;
use crate::store::CheckpointStore;

/// Copies the snapshot of an epoch, whose output is published, from a job's checkpoint store into a new directory `to`.
///
/// # Errors
/// If the snapshot is not whole, a file cannot be copied, or there is something at `to` already.
pub fn write_savepoint(from: &Arc<dyn CheckpointStore>, epoch: Epoch, to: &Path) -> Result<()> {
    if to.exists() {
        return Err(Error::environment(format!("there is something at {} already", to.display())));
    }
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let part = to.with_file_name(format!(".{name}.part"));
    if part.exists() {
        std::fs::remove_dir_all(&part).context(|| format!("remove {}", part.display()))?;
    }
    let copy: Arc<dyn CheckpointStore> = Arc::new(LocalStore::open(&part)?);
    copy_snapshot(from, epoch, &copy)?;
    std::fs::rename(&part, to).context(|| format!("rename {} to {}", part.display(), to.display()))?;
    crate::local::sync_directory(to.parent().unwrap_or(Path::new("/")))
}

/// Copies the snapshot of an epoch, whose output is published, into an empty store. The copy is there when its manifest is,
/// which is written last.
///
/// # Errors
/// If the snapshot is not whole, or a file cannot be copied.
pub fn copy_snapshot(
    from: &Arc<dyn CheckpointStore>,
    epoch: Epoch,
    to: &Arc<dyn CheckpointStore>,
) -> Result<()> {
    let manifest = Snapshots::new(from.clone()).manifest(epoch)?;
    let manifest = manifest.map_err(|why| Error::environment(format!("epoch {epoch}: {why}")))?;
    copy(from, &manifest, to, epoch)
}

/// Copies the newest whole snapshot of a savepoint, or of another job's checkpoint store, into the checkpoint store of a job
/// that has not run yet. Nothing is copied of one that does not fit.
///
/// # Errors
/// If there is no whole snapshot, if `fits` refuses it, or a file cannot be copied.
pub fn import(
    from: &Arc<dyn CheckpointStore>,
    to: &Arc<dyn CheckpointStore>,
    fits: impl FnOnce(&Manifest) -> Result<()>,
) -> Result<Manifest> {
    let (published, manifest) = find(from)?;
    fits(&manifest)?;
    copy(from, &manifest, to, published)?;
    Ok(manifest)
}

/// The manifest of the newest whole snapshot in a store. Nothing is changed.
///
/// # Errors
/// If there is no whole snapshot.
pub fn newest(from: &Arc<dyn CheckpointStore>) -> Result<Manifest> {
    Ok(find(from)?.1)
}

/// The last epoch that is published, and the newest whole snapshot.
fn find(from: &Arc<dyn CheckpointStore>) -> Result<(Epoch, Manifest)> {
    let snapshots = Snapshots::new(from.clone());
    let published = snapshots.published()?;
    let manifest = newest_whole(&snapshots, published)?;
    let manifest = manifest.ok_or_else(|| Error::job(format!("{} holds no snapshot", from.uri())))?;
    Ok((published, manifest))
}

fn copy(
    from: &Arc<dyn CheckpointStore>,
    manifest: &Manifest,
    to: &Arc<dyn CheckpointStore>,
    published: Epoch,
) -> Result<()> {
    let copies = Snapshots::new(to.clone());
    let is_needed = |path: &str| !Path::new(path).is_absolute();
    let state = manifest.store_files();
    let staged = manifest.staged().filter_map(|(_, staged)| staged.file.as_ref());
    let staged = staged.filter(|_| manifest.epoch > published);
    // After a rescale several workers share files.
    let paths: BTreeSet<&str> = state.chain(staged).map(|file| &*file.path).collect();
    for path in paths.into_iter().filter(|path| is_needed(path)) {
        copies.put_copy(from.as_ref(), path)?;
    }
    copies.sync_all()?;
    copies.set_attempt(manifest.attempt)?;
    copies.set_published(published.min(manifest.epoch))?;
    copies.complete(manifest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use tidegate_protocol::manifest::SlotSnapshot;
    use tidegate_protocol::{Attempt, Slot};

    use super::*;
    use crate::LocalStore;
    use crate::snapshots::state_file_name;
    use crate::snapshots::tests::manifest;

    fn store(directory: &Path) -> Arc<dyn CheckpointStore> {
        Arc::new(LocalStore::open(directory).unwrap())
    }

    /// After a rescale two workers have linked the same file.
    #[test]
    fn a_file_that_two_workers_share_is_whole_in_the_copy_and_in_the_original() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (store(&directory.path().join("job")), store(&directory.path().join("savepoint")));
        let row = directory.path().join("row.sst");
        fs::write(&row, "rows").unwrap();
        let snapshots = Snapshots::new(from.clone());
        let name = state_file_name(Attempt(1), Slot(0), Epoch(1), "row.sst");
        let file = snapshots.put_state_files(&[(row.clone(), name)]).unwrap().remove(0);
        let part = SlotSnapshot { store: [("row.sst".to_owned(), file)].into(), operators: BTreeMap::new() };
        let slots = [(Slot(0), part.clone()), (Slot(1), part)].into();
        let manifest = Manifest { parallelism: 2, slots, ..manifest(2) };
        snapshots.complete(&manifest).unwrap();
        copy(&from, &manifest, &to, Epoch(2)).unwrap();
        copy(&from, &manifest, &to, Epoch(2)).unwrap(); // all of it is there already
        for store in [from, to] {
            Snapshots::new(store).check_files(&manifest, Epoch(0)).unwrap().unwrap();
        }
        assert_eq!(fs::read(row).unwrap(), b"rows");
    }

    #[test]
    fn nothing_is_copied_of_a_snapshot_that_does_not_fit() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (store(&directory.path().join("savepoint")), store(&directory.path().join("job")));
        Snapshots::new(from.clone()).complete(&manifest(2)).unwrap();
        let refuse = |found: &Manifest| Err(Error::job(format!("not epoch {}", found.epoch)));
        assert_eq!(import(&from, &to, refuse).unwrap_err().to_string(), "not epoch 2");
        assert_eq!(Snapshots::new(to.clone()).find().unwrap().manifests.len(), 0);
        assert!(to.read("published").unwrap().is_none());
        assert_eq!(import(&from, &to, |_| Ok(())).unwrap().epoch, Epoch(2));
    }
}
