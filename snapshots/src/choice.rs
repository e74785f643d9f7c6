//! Which snapshot to restore from.

use tidegate_protocol::{Attempt, Epoch, Error, Manifest, Result};

use crate::snapshots::Snapshots;

/// What was found in a checkpoint store.
#[derive(Debug)]
pub struct Choice {
    /// The newest snapshot that is whole; None for a job that starts from its beginning.
    pub manifest: Option<Manifest>,
    /// Complete snapshots before it.
    pub older: Vec<Epoch>,
    /// The highest epoch that anything in the store names.
    pub last_epoch: Epoch,
    /// The highest attempt that a readable manifest names.
    pub last_attempt: Attempt,
    /// What a user should know: which snapshots are not used, and why.
    pub notes: Vec<String>,
}

/// The newest snapshot whose manifest and files have their checksums. Nothing is changed.
pub(crate) fn newest_whole(snapshots: &Snapshots, published: Epoch) -> Result<Option<Manifest>> {
    let found = snapshots.find()?;
    let mut damaged =
        found.damaged.into_iter().map(|(epoch, why)| format!("epoch {epoch}: {why}")).collect::<Vec<_>>();
    for manifest in found.manifests {
        match snapshots.check_files(&manifest, published)? {
            Ok(()) => return Ok(Some(manifest)),
            Err(why) => damaged.push(format!("epoch {}: {why}", manifest.epoch)),
        }
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    Err(Error::environment(format!(
        "all snapshots in {} are damaged: {}",
        snapshots.uri(),
        damaged.join("; ")
    )))
}

/// Takes the newest snapshot whose manifest and files have their checksums, and sets damaged ones aside.
///
/// # Errors
/// If there are snapshots and all are damaged, or the store cannot be read or written to.
pub fn choose(snapshots: &Snapshots) -> Result<Choice> {
    let found = snapshots.find()?;
    let last_attempt = found.manifests.iter().map(|m| m.attempt).max().unwrap_or_default();
    // The number of a published epoch is never used again, even if its manifest has been removed.
    let published = snapshots.published()?;
    let last_epoch = found.last_epoch.max(published);
    let mut choice =
        Choice { manifest: None, older: Vec::new(), last_epoch, last_attempt, notes: Vec::new() };
    let mut damaged = found.damaged;
    for manifest in found.manifests {
        if choice.manifest.is_some() {
            choice.older.push(manifest.epoch);
            continue;
        }
        match snapshots.check_files(&manifest, published)? {
            Ok(()) => choice.manifest = Some(manifest),
            Err(why) => damaged.push((manifest.epoch, why)),
        }
    }
    damaged.sort();
    let not_used =
        |(epoch, why): &(Epoch, String)| format!("the snapshot of epoch {epoch} is not used: {why}");
    choice.notes.extend(damaged.iter().rev().map(not_used));
    match &choice.manifest {
        None if !damaged.is_empty() => {
            return Err(Error::environment(format!(
                "all {} snapshots in {} are damaged ({}); restore the directory from a copy, or start anew with an empty \
                 --checkpoint-dir and empty output directories",
                damaged.len(),
                snapshots.uri(),
                choice.notes.join("; ")
            )));
        }
        Some(manifest) if damaged.iter().any(|(epoch, _)| *epoch > manifest.epoch) => choice.notes.push(format!(
            "falling back to the snapshot of epoch {}: what was published after it is taken back and computed again",
            manifest.epoch
        )),
        _ => {}
    }
    damaged.iter().try_for_each(|(epoch, _)| snapshots.set_aside(*epoch))?;
    Ok(choice)
}
