//! Garbage collection never deletes what the ledger's snapshots, or a savepoint under way, need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_protocol::{Epoch, JobId, Manifest};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct NeededFilesStay {
    manifests: BTreeMap<(JobId, Epoch), Arc<Manifest>>,
    /// What is being copied.
    copies: BTreeMap<u64, (JobId, Arc<Manifest>)>,
}

impl Invariant for NeededFilesStay {
    fn name(&self) -> &'static str {
        "what a snapshot or a savepoint needs is not deleted"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::ManifestWritten { job, manifest } => {
                    self.manifests.insert((*job, manifest.epoch), manifest.clone());
                }
                Happening::SavepointBegan { copy, job, manifest } => {
                    self.copies.insert(*copy, (*job, manifest.clone()));
                }
                Happening::SavepointEnded { copy } => drop(self.copies.remove(copy)),
                Happening::ManifestDeleted { job, epoch } => {
                    let is_needed = self.snapshots(world, *job).contains(epoch);
                    hold(!is_needed, || {
                        format!("{}: the manifest of epoch {epoch} is deleted", show::job(*job))
                    })?;
                }
                Happening::FileDeleted { job, path } => self.may_go(world, *job, path)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl NeededFilesStay {
    /// The snapshots that the ledger has.
    fn snapshots(&self, world: &World, job: JobId) -> BTreeSet<Epoch> {
        let facts = world.ledger.jobs.get(&job);
        facts.into_iter().flat_map(|facts| facts.snapshots.iter().copied()).collect()
    }

    fn may_go(&self, world: &World, job: JobId, path: &str) -> Result<(), String> {
        let of = show::job(job);
        let names = |manifest: &Manifest| manifest.files().any(|file| file.path == path);
        let epochs = self.snapshots(world, job);
        let needed =
            epochs.iter().find(|epoch| self.manifests.get(&(job, **epoch)).is_some_and(|m| names(m)));
        hold(needed.is_none(), || format!("{of}: {path} is deleted, and the snapshot of {needed:?} has it"))?;
        // What is staged is published, and no part of a savepoint.
        let has = |manifest: &Manifest| manifest.store_files().any(|file| file.path == path);
        let copied = self.copies.values().find(|(other, manifest)| *other == job && has(manifest));
        hold(copied.is_none(), || {
            let epoch = copied.map(|(_, manifest)| manifest.epoch);
            format!("{of}: {path} is deleted while the savepoint of {epoch:?} is copied")
        })
    }
}
