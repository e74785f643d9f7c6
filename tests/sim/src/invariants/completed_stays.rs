//! A completed epoch is never rolled back unless its snapshot is damaged: an attempt goes on from the newest complete
//! snapshot, and a snapshot is called damaged only if it is.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::cluster::{Ending, Ledger, Record};
use tidegate_protocol::{Attempt, Epoch, JobId};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct CompletedStays {
    damaged: BTreeMap<JobId, BTreeSet<Epoch>>,
    /// The complete epochs that are not damaged, of which the newest is to be restored.
    complete: BTreeMap<JobId, BTreeSet<Epoch>>,
    before: Ledger,
}

impl Invariant for CompletedStays {
    fn name(&self) -> &'static str {
        "a completed epoch is never rolled back unless it is damaged"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::Damaged { job, epochs } => self.damaged.entry(*job).or_default().extend(epochs),
                // Files that went into the store after the damage may be damaged as well.
                Happening::ManifestWritten { job, manifest } => {
                    let store = world.store.jobs.get(job);
                    if store.is_some_and(|store| store.check(manifest.store_files()).is_err()) {
                        self.damaged.entry(*job).or_default().insert(manifest.epoch);
                    }
                }
                Happening::Launched { job, attempt, restored, .. } => {
                    self.launched(*job, *attempt, *restored)?
                }
                Happening::Durable(record) => {
                    self.before.apply(record);
                    self.durable(record)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl CompletedStays {
    fn launched(&self, job: JobId, attempt: Attempt, restored: Option<Epoch>) -> Result<(), String> {
        let newest = self.complete.get(&job).and_then(|complete| complete.last().copied());
        let of = show::job(job);
        hold(restored == newest, || {
            format!("{of}: attempt {attempt} goes on from {restored:?}, and {newest:?} is complete")
        })
    }

    fn durable(&mut self, record: &Record) -> Result<(), String> {
        let job = record.job();
        let Some(facts) = self.before.jobs.get(&job) else { return Ok(()) };
        let (of, complete) = (show::job(job), self.complete.entry(job).or_default());
        match record {
            Record::Submitted { spec, .. } => complete.extend(spec.restored.map(|(epoch, _)| epoch)),
            Record::Completed { epoch, .. } if facts.newest() == Some(*epoch) => {
                complete.insert(*epoch);
            }
            Record::Damaged { epoch, .. } => {
                let is_damaged = self.damaged.get(&job).is_some_and(|damaged| damaged.contains(epoch));
                hold(is_damaged, || {
                    format!("{of}: the snapshot of epoch {epoch} is called damaged and is not")
                })?;
                complete.remove(epoch);
            }
            // A job whose only snapshot is damaged fails for good, and no other.
            Record::Ended { ending: Ending::Failed { cause }, .. } if cause.contains("no older one") => {
                let newest = complete.last();
                let is_damaged =
                    newest.is_some_and(|e| self.damaged.get(&job).is_some_and(|damaged| damaged.contains(e)));
                hold(is_damaged, || {
                    format!("{of}: the last snapshot {newest:?} is called damaged and is not")
                })?;
            }
            _ => {}
        }
        Ok(())
    }
}
