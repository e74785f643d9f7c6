//! What a user was told to be accepted is durable: a job, a stop, the end of a job, another parallelism. A drain that has
//! ended well has read the input to its end.

use std::collections::BTreeSet;

use tidegate_control::cluster::{Ending, Record};
use tidegate_protocol::{Epoch, JobId};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::users::{Progress, Want};
use crate::world::World;

#[derive(Default)]
pub(super) struct AcceptedIsDurable {
    /// Every parallelism that was ever durable.
    parallelism: BTreeSet<(JobId, u32)>,
    /// The snapshots of inputs that were read to their ends.
    finished: BTreeSet<(JobId, Epoch)>,
}

impl Invariant for AcceptedIsDurable {
    fn name(&self) -> &'static str {
        "what was accepted is durable"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::Durable(Record::Submitted { job, spec }) => {
                    self.parallelism.extend([(*job, spec.parallelism)]);
                }
                Happening::Durable(Record::Rescaled { job, parallelism, .. }) => {
                    self.parallelism.extend([(*job, *parallelism)]);
                }
                Happening::ManifestWritten { job, manifest } if manifest.finished => {
                    self.finished.extend([(*job, manifest.epoch)]);
                }
                Happening::Durable(Record::Ended { job, .. }) => self.drained(world, *job)?,
                _ => {}
            }
        }
        self.wishes(world)
    }
}

impl AcceptedIsDurable {
    /// A job that was only ever drained has not ended well before its input was read to the end.
    fn drained(&self, world: &World, job: JobId) -> Result<(), String> {
        let Some(facts) = world.ledger.jobs.get(&job) else { return Ok(()) };
        let has_ended_well = matches!(facts.ended, Some((Ending::Finished { .. }, _)));
        let is_finished = facts.newest().is_some_and(|newest| self.finished.contains(&(job, newest)));
        hold(!has_ended_well || !world.is_only_drained(job) || is_finished, || {
            format!("{}: it was to be drained, and has ended with input left", show::job(job))
        })
    }

    fn wishes(&self, world: &World) -> Result<(), String> {
        for (user, config) in world.users.iter().zip(&world.config.jobs) {
            let facts = world.ledger.jobs.get(&config.id);
            for (want, progress) in &user.wishes {
                let is_durable = match (want, progress) {
                    (Want::Run, Progress::Done(_)) => facts.is_some(),
                    (Want::Cancel, Progress::Done(_)) => facts.is_some_and(|facts| facts.ended.is_some()),
                    (Want::Rescale { parallelism, .. }, Progress::Done(_)) => {
                        // Nobody rescales a job that has ended meanwhile.
                        let is_over = facts.is_some_and(|facts| facts.ended.is_some());
                        is_over || self.parallelism.contains(&(config.id, *parallelism))
                    }
                    (Want::Stop { .. }, Progress::Operation(_) | Progress::Done(_)) => {
                        facts.is_some_and(|facts| facts.stop.is_some() || facts.ended.is_some())
                    }
                    _ => true,
                };
                hold(is_durable, || {
                    format!("{}: {want:?} is accepted, and not durable", show::job(config.id))
                })?;
            }
        }
        Ok(())
    }
}
