//! Copies of a snapshot: a savepoint, which belongs to the user, and a job that goes on from one.
//!
//! A copy is a checkpoint directory of its own, with one snapshot. Files that never change are linked where the file system
//! can do that: a link stays when the original is deleted.

use std::path::Path;
use std::sync::Arc;

use tidegate_protocol::{Epoch, Error, ErrorContext, Manifest, Result};

use crate::choice::newest_whole;
use crate::local::LocalStore;
use crate::snapshots::Snapshots;

/// Copies the snapshot of an epoch, whose output is published, from the checkpoint directory `from` into a new directory `to`.
///
/// # Errors
/// If the snapshot is not whole, a file cannot be copied, or there is something at `to` already.
pub fn write_savepoint(from: &LocalStore, epoch: Epoch, to: &Path) -> Result<()> {
    if to.exists() {
        return Err(Error::environment(format!("there is something at {} already", to.display())));
    }
    let snapshots = Snapshots::new(Arc::new(from.clone()));
    let manifest =
        snapshots.manifest(epoch)?.map_err(|why| Error::environment(format!("epoch {epoch}: {why}")))?;
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let part = to.with_file_name(format!(".{name}.part"));
    if part.exists() {
        std::fs::remove_dir_all(&part).context(|| format!("remove {}", part.display()))?;
    }
    copy(from, &manifest, &LocalStore::open(&part)?, epoch)?;
    std::fs::rename(&part, to).context(|| format!("rename {} to {}", part.display(), to.display()))?;
    crate::local::sync_directory(to.parent().unwrap_or(Path::new("/")))
}

/// Copies the newest whole snapshot of the checkpoint directory or savepoint `from` into the checkpoint directory of a job
/// that has not run yet.
///
/// # Errors
/// If there is no whole snapshot, or a file cannot be copied.
pub fn import(from: &Path, to: &LocalStore) -> Result<Manifest> {
    let (source, published, manifest) = find(from)?;
    copy(&source, &manifest, to, published)?;
    Ok(manifest)
}

/// The manifest of the newest whole snapshot of a checkpoint directory or savepoint. Nothing is changed.
///
/// # Errors
/// If there is no whole snapshot.
pub fn newest(from: &Path) -> Result<Manifest> {
    Ok(find(from)?.2)
}

/// The newest whole snapshot of a directory, and the last epoch that is published.
fn find(from: &Path) -> Result<(LocalStore, Epoch, Manifest)> {
    let missing = || format!("{} is not the directory of a savepoint or of checkpoints", from.display());
    let is_one = from.join("files").is_dir();
    let root = from.canonicalize().ok().filter(|_| is_one).ok_or_else(|| Error::job(missing()))?;
    let source = LocalStore::unopened(&root);
    let snapshots = Snapshots::new(Arc::new(source.clone()));
    let published = snapshots.published()?;
    let manifest = newest_whole(&snapshots, published)?;
    let manifest = manifest.ok_or_else(|| Error::job(format!("{} holds no snapshot", from.display())))?;
    Ok((source, published, manifest))
}

fn copy(from: &LocalStore, manifest: &Manifest, to: &LocalStore, published: Epoch) -> Result<()> {
    let copies = Snapshots::new(Arc::new(to.clone()));
    let is_needed = |path: &str| !Path::new(path).is_absolute();
    let state = manifest.store_files();
    let staged = manifest.staged().filter_map(|(_, staged)| staged.file.as_ref());
    let staged = staged.filter(|_| manifest.epoch > published);
    for file in state.chain(staged).filter(|file| is_needed(&file.path)) {
        copies.put_copy(&from.root().join(&file.path), &file.path)?;
    }
    copies.sync_all()?;
    copies.set_attempt(manifest.attempt)?;
    copies.set_published(published.min(manifest.epoch))?;
    copies.complete(manifest)
}
