//! Nothing is published that is not part of a snapshot whose record `Completed` is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_control::cluster::Record;
use tidegate_protocol::{Epoch, JobId, Manifest};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::outside::{PieceId, piece_of};
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct PublishedIsCompleted {
    /// The manifests that were written last.
    manifests: BTreeMap<(JobId, Epoch), Arc<Manifest>>,
    /// The pieces of complete snapshots.
    complete: BTreeMap<JobId, BTreeSet<PieceId>>,
}

impl Invariant for PublishedIsCompleted {
    fn name(&self) -> &'static str {
        "what is published is in a completed snapshot"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::ManifestWritten { job, manifest } => {
                    self.manifests.insert((*job, manifest.epoch), manifest.clone());
                }
                Happening::Durable(Record::Completed { job, attempt, epoch, .. }) => {
                    let of = show::job(*job);
                    let manifest = self.manifests.get(&(*job, *epoch)).filter(|m| m.attempt == *attempt);
                    hold(manifest.is_some(), || {
                        format!("{of}: epoch {epoch} of attempt {attempt} is complete without its manifest")
                    })?;
                    let pieces =
                        manifest.into_iter().flat_map(|m| m.staged()).map(|(_, staged)| piece_of(staged));
                    self.complete.entry(*job).or_default().extend(pieces);
                }
                Happening::Published { job, epoch, piece, .. } => {
                    let is_complete = self.complete.get(job).is_some_and(|pieces| pieces.contains(&piece.id));
                    let of = show::job(*job);
                    hold(is_complete, || {
                        format!("{of}: {:?} is published with epoch {epoch}, and not complete", piece.id)
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
