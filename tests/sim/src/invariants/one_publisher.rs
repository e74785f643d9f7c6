//! At most one attempt may publish new epochs: an epoch is published by the attempt that has completed it, or by the one that
//! goes on from it, and by no other. One that is no longer current publishes only what was completed.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::cluster::Record;
use tidegate_protocol::{Attempt, Epoch, JobId};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct OnePublisher {
    /// The attempts that may publish an epoch.
    may: BTreeMap<(JobId, Epoch), BTreeSet<Attempt>>,
}

impl Invariant for OnePublisher {
    fn name(&self) -> &'static str {
        "at most one attempt may publish new epochs"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::Durable(record) => self.durable(record)?,
                Happening::PublishCommanded { job, attempt, epoch } => {
                    self.may(*job, *attempt, *epoch, "is told to publish")?
                }
                Happening::Published { job, attempt, epoch, .. } => {
                    self.may(*job, *attempt, *epoch, "publishes")?
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl OnePublisher {
    fn durable(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Completed { job, attempt, epoch, .. } => {
                let who = self.may.entry((*job, *epoch)).or_default();
                who.insert(*attempt);
                let of = show::job(*job);
                hold(who.len() == 1, || format!("{of}: the attempts {who:?} have completed epoch {epoch}"))
            }
            Record::AttemptStarted { job, attempt, restored: Some(epoch), .. } => {
                self.may.entry((*job, *epoch)).or_default().insert(*attempt);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn may(&self, job: JobId, attempt: Attempt, epoch: Epoch, does: &str) -> Result<(), String> {
        let may = self.may.get(&(job, epoch)).is_some_and(|who| who.contains(&attempt));
        hold(may, || {
            format!("{}: attempt {attempt} {does} epoch {epoch}, which it has not completed", show::job(job))
        })
    }
}
