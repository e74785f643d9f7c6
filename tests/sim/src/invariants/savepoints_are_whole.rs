//! A savepoint is of a complete snapshot whose output is published, and of no epoch that was complete when it was requested; its
//! operation ends with a path.

use std::collections::BTreeMap;

use tidegate_control::cluster::OperationView;
use tidegate_protocol::{Epoch, JobId};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::outside::piece_of;
use crate::show;
use crate::users::{Progress, Want};
use crate::world::World;

#[derive(Default)]
pub(super) struct SavepointsAreWhole {
    /// The last complete epoch when an operation was first seen.
    begun: BTreeMap<(JobId, u64), Epoch>,
}

impl Invariant for SavepointsAreWhole {
    fn name(&self) -> &'static str {
        "a savepoint is fresh, complete and published"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            let Happening::SavepointRequested { job, operation, epoch } = happening else { continue };
            let of = show::job(*job);
            let facts = world.ledger.jobs.get(job);
            let is_complete = facts.is_some_and(|facts| facts.last_epoch >= *epoch);
            hold(is_complete, || {
                format!("{of}: savepoint {operation} is of epoch {epoch}, which is not complete")
            })?;
            let stored = world.store.jobs.get(job).and_then(|store| store.manifests.get(epoch));
            let outside = world.outsides.get(job);
            let unpublished = stored
                .into_iter()
                .flat_map(|stored| stored.manifest.staged())
                .find(|(_, staged)| outside.is_some_and(|outside| !outside.is_published(piece_of(staged))));
            // What was there before the job has begun was published by another.
            let is_own =
                facts.is_none_or(|facts| facts.spec.restored.is_none_or(|(restored, _)| restored < *epoch));
            hold(unpublished.is_none() || !is_own, || {
                format!(
                    "{of}: savepoint {operation} is of epoch {epoch}, and {unpublished:?} is not published"
                )
            })?;
            if let Some(begun) = self.begun.get(&(*job, *operation)) {
                hold(begun < epoch, || {
                    format!(
                        "{of}: savepoint {operation} is of epoch {epoch}, and {begun} was complete when it was requested"
                    )
                })?;
            }
        }
        self.operations(world)
    }
}

impl SavepointsAreWhole {
    fn operations(&mut self, world: &World) -> Result<(), String> {
        for (user, config) in world.users.iter().zip(&world.config.jobs) {
            for (want, progress) in &user.wishes {
                match (want, progress) {
                    (Want::Savepoint, Progress::Operation(number)) => {
                        let last = world
                            .ledger
                            .jobs
                            .get(&config.id)
                            .map(|facts| facts.last_epoch)
                            .unwrap_or_default();
                        self.begun.entry((config.id, *number)).or_insert(last);
                    }
                    (
                        Want::Savepoint | Want::Stop { savepoint: true, .. },
                        Progress::Done(Some(OperationView::Completed(path))),
                    ) => {
                        let of = show::job(config.id);
                        hold(path.is_some(), || {
                            format!("{of}: {want:?} has ended well, without a savepoint")
                        })?;
                        let is_there =
                            path.as_ref().is_some_and(|path| world.store.savepoints.contains_key(path));
                        hold(is_there, || format!("{of}: the savepoint {path:?} is not there"))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
