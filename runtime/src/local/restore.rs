//! Which snapshot to go on from.

use std::collections::BTreeMap;

use tidegate_protocol::{Attempt, Epoch, Manifest};

use super::Watcher;
use crate::error::{Error, Result};
use crate::state::directory::StateDirectory;

/// What was found in the checkpoint directory.
pub(crate) struct Choice {
    /// The newest snapshot that is whole; None for a job that starts from its beginning.
    pub(crate) manifest: Option<Manifest>,
    /// Complete snapshots before it.
    pub(crate) older: Vec<Epoch>,
    /// The highest epoch that anything in the directory speaks of.
    pub(crate) last_epoch: Epoch,
    /// The highest attempt that a readable manifest speaks of.
    pub(crate) last_attempt: Attempt,
}

/// Takes the newest snapshot whose manifest and files are as they were written, and sets damaged ones aside.
pub(crate) fn choose(directory: &StateDirectory, watcher: &mut dyn Watcher) -> Result<Choice> {
    let found = directory.find()?;
    let last_attempt = found.manifests.iter().map(|m| m.attempt).max().unwrap_or_default();
    // A number that was published once is never used again, even if somebody has removed its manifest.
    let published = directory.published()?;
    let last_epoch = found.last_epoch.max(published);
    let mut choice = Choice { manifest: None, older: Vec::new(), last_epoch, last_attempt };
    let mut damaged = found.damaged;
    for manifest in found.manifests {
        if choice.manifest.is_some() {
            choice.older.push(manifest.epoch);
            continue;
        }
        match directory.check_files(&manifest, published) {
            Ok(()) => choice.manifest = Some(manifest),
            Err(why) => damaged.push((manifest.epoch, why)),
        }
    }
    damaged.sort();
    for (epoch, why) in damaged.iter().rev() {
        watcher.note(&format!("the snapshot of epoch {epoch} is not used: {why}"));
    }
    match &choice.manifest {
        None if !damaged.is_empty() => {
            return Err(Error::environment(format!(
                "all {} snapshots in {} are damaged; restore the directory from a copy, or start anew with an empty \
                 --checkpoint-dir and empty output directories",
                damaged.len(),
                directory.root().display()
            )));
        }
        Some(manifest) if damaged.iter().any(|(epoch, _)| *epoch > manifest.epoch) => watcher.note(&format!(
            "falling back to the snapshot of epoch {}: what was put out after it is taken back and computed again",
            manifest.epoch
        )),
        _ => {}
    }
    damaged.iter().try_for_each(|(epoch, _)| directory.set_aside(*epoch))?;
    Ok(choice)
}

/// The arguments of the job that differ from those of the snapshot. They count from the restart on.
pub(crate) fn changed_arguments(
    manifest: &Manifest,
    arguments: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let show = |values: Option<&Vec<String>>| values.map_or("not given".to_owned(), |v| v.join(" "));
    let names: std::collections::BTreeSet<_> = manifest.arguments.keys().chain(arguments.keys()).collect();
    let changed = names.into_iter().filter(|name| manifest.arguments.get(*name) != arguments.get(*name));
    changed
        .map(|name| {
            format!(
                "--{} was {} and is {}; the new value counts from here on",
                name.replace('_', "-"),
                show(manifest.arguments.get(name)),
                show(arguments.get(name))
            )
        })
        .collect()
}
