//! The attempts of a job only grow, and each has one record: its processes run where that says, and nowhere before it is
//! durable.

use std::collections::BTreeMap;

use tidegate_control::cluster::{Placed, Record};
use tidegate_protocol::{Attempt, JobId, Slot};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct AttemptsGrow {
    /// Where the processes of every attempt are, by its durable record.
    placed: BTreeMap<(JobId, Attempt), Vec<Placed>>,
    launched: BTreeMap<(JobId, Attempt, Slot), u32>,
    newest: BTreeMap<JobId, Attempt>,
}

impl Invariant for AttemptsGrow {
    fn name(&self) -> &'static str {
        "attempts only grow, and run where their record says"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::Durable(Record::AttemptStarted { job, attempt, placed, .. }) => {
                    self.placed.insert((*job, *attempt), placed.clone());
                }
                Happening::Launched { job, attempt, first, taskmanager, .. } => {
                    let of = show::job(*job);
                    let placed = self.placed.get(&(*job, *attempt)).into_iter().flatten();
                    let is_placed =
                        placed.clone().any(|p| p.first == *first && p.taskmanager == *taskmanager);
                    hold(is_placed, || {
                        format!(
                            "{of} attempt {attempt}: worker {first} is launched on {taskmanager}, and placed {placed:?}"
                        )
                    })?;
                    let newest = self.newest.entry(*job).or_default();
                    hold(*newest <= *attempt, || {
                        format!("{of}: attempt {attempt} is launched after {newest}")
                    })?;
                    *newest = *attempt;
                    let times = self.launched.entry((*job, *attempt, *first)).or_default();
                    *times += 1;
                    hold(*times == 1, || {
                        format!("{of} attempt {attempt}: worker {first} is launched {times} times")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
