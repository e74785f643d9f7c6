//! A partition is read by one worker of an attempt: never by two, and by none twice.

use std::collections::BTreeMap;

use tidegate_protocol::{Attempt, JobId, Slot};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneReader(BTreeMap<(JobId, Attempt, String), Slot>);

impl Invariant for OneReader {
    fn name(&self) -> &'static str {
        "a partition is read by one worker of an attempt"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            let Happening::Opened { job, attempt, slot, partition } = happening else { continue };
            let before = self.0.insert((*job, *attempt, partition.clone()), *slot);
            hold(before.is_none(), || {
                let other = before.unwrap_or_default();
                format!(
                    "{} attempt {attempt}: {partition} is read by {other} and opened by {slot}",
                    show::job(*job)
                )
            })?;
        }
        Ok(())
    }
}
