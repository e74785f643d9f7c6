//! The checkpoint store: the snapshots of every job, as `tidegate-snapshots` keeps them, without bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_control::cluster::SnapshotRead;
use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Attempt, Epoch, JobId, Manifest, Slot};

use crate::happening::Happening;

/// All of the checkpoint store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) jobs: BTreeMap<JobId, JobStore>,
    /// The savepoints, by their paths.
    pub(crate) savepoints: BTreeMap<String, Arc<Manifest>>,
    /// Until then it answers slowly.
    pub(crate) slow_until: u64,
    /// Until then it does not answer.
    pub(crate) away_until: u64,
}

/// A manifest in the store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) is_damaged: bool,
}

/// The checkpoint directory of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobStore {
    pub(crate) manifests: BTreeMap<Epoch, Stored>,
    aside: BTreeMap<Epoch, Stored>,
    /// Every file, and whether it is damaged.
    pub(crate) files: BTreeMap<String, bool>,
    pub(crate) published: Epoch,
}

impl JobStore {
    pub(crate) fn read(&self, epoch: Epoch) -> SnapshotRead {
        match self.manifests.get(&epoch) {
            None => SnapshotRead::Damaged("the manifest is not there".to_owned()),
            Some(stored) if stored.is_damaged => SnapshotRead::Damaged("its checksum is wrong".to_owned()),
            Some(stored) => SnapshotRead::Read(stored.manifest.clone(), self.published),
        }
    }

    /// The first of these files that is not as it was written.
    pub(crate) fn check<'a>(&self, mut files: impl Iterator<Item = &'a FileRef>) -> Result<(), String> {
        let broken = files.find(|file| self.files.get(&file.path) != Some(&false));
        broken.map_or(Ok(()), |file| Err(format!("{} is damaged or gone", file.path)))
    }

    pub(crate) fn complete(&mut self, job: JobId, manifest: &Arc<Manifest>) -> Happening {
        let stored = Stored { manifest: manifest.clone(), is_damaged: false };
        self.manifests.insert(manifest.epoch, stored);
        Happening::ManifestWritten { job, manifest: manifest.clone() }
    }

    pub(crate) fn set_aside(&mut self, epoch: Epoch) {
        if let Some(stored) = self.manifests.remove(&epoch) {
            self.aside.insert(epoch, stored);
        }
    }

    pub(crate) fn discard(
        &mut self,
        job: JobId,
        (attempt, slot, epoch): (Attempt, Slot, Epoch),
    ) -> Vec<Happening> {
        let prefix = format!("files/{attempt}-{slot}-{epoch}-");
        self.delete(job, |path| path.starts_with(&prefix))
    }

    /// Removes manifests of epochs after the last complete one, and files of older attempts that no manifest names.
    pub(crate) fn remove_leftovers(&mut self, job: JobId, attempt: Attempt, last: Epoch) -> Vec<Happening> {
        let later = self.manifests.extract_if(.., |epoch, _| *epoch > last);
        let mut happened: Vec<_> =
            later.map(|(epoch, _)| Happening::ManifestDeleted { job, epoch }).collect();
        if self.aside.is_empty() {
            let needed = paths(self.manifests.values());
            let is_old = |path: &str| attempt_of(path).is_some_and(|of| of < attempt);
            happened.extend(self.delete(job, |path| is_old(path) && !needed.contains(path)));
        }
        happened
    }

    /// Removes snapshots before `oldest`; only their manifests if it ends half way.
    pub(crate) fn collect(&mut self, job: JobId, oldest: Epoch, is_half: bool) -> Vec<Happening> {
        let old: Vec<(Epoch, Stored)> = self.manifests.extract_if(..oldest, |_, _| true).collect();
        let mut happened: Vec<_> =
            old.iter().map(|(epoch, _)| Happening::ManifestDeleted { job, epoch: *epoch }).collect();
        let aside: Vec<(Epoch, Stored)> = self.aside.extract_if(..oldest, |_, _| true).collect();
        if !is_half {
            let readable = old.iter().chain(&aside).map(|(_, stored)| stored).filter(|s| !s.is_damaged);
            let gone = paths(readable);
            let aside = self.aside.values().filter(|stored| !stored.is_damaged);
            let needed = paths(self.manifests.values().chain(aside));
            happened.extend(self.delete(job, |path| gone.contains(path) && !needed.contains(path)));
        }
        happened
    }

    fn delete(&mut self, job: JobId, goes: impl Fn(&str) -> bool) -> Vec<Happening> {
        let gone = self.files.extract_if(.., |path, _| goes(path));
        gone.map(|(path, _)| Happening::FileDeleted { job, path }).collect()
    }

    /// The snapshots that a damaged file makes useless.
    pub(crate) fn damage(&mut self, path: &str) -> BTreeSet<Epoch> {
        self.files.insert(path.to_owned(), true);
        let names = |stored: &Stored| stored.manifest.files().any(|file| file.path == path);
        self.manifests.iter().filter(|(_, stored)| names(stored)).map(|(epoch, _)| *epoch).collect()
    }
}

fn paths<'a>(all: impl Iterator<Item = &'a Stored>) -> BTreeSet<String> {
    all.flat_map(|stored| stored.manifest.files()).map(|file| file.path.clone()).collect()
}

/// The attempt that wrote a file.
fn attempt_of(path: &str) -> Option<Attempt> {
    let (_, name) = path.split_once('/')?;
    name.split('-').next()?.parse().ok().map(Attempt)
}
