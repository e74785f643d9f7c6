//! published <= completed <= triggered, for every job, and an epoch is completed once.

use std::collections::BTreeMap;

use tidegate_control::cluster::Record;
use tidegate_protocol::{Epoch, JobId};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Clone, Copy, Default)]
struct Epochs {
    published: Epoch,
    completed: Epoch,
    triggered: Epoch,
}

#[derive(Default)]
pub(super) struct OrderOfEpochs(BTreeMap<JobId, Epochs>);

impl Invariant for OrderOfEpochs {
    fn name(&self) -> &'static str {
        "published <= completed <= triggered"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            let (job, epochs) = match happening {
                Happening::Triggered { job, epoch, .. } => {
                    let epochs = self.0.entry(*job).or_default();
                    epochs.triggered = epochs.triggered.max(*epoch);
                    let completed = epochs.completed;
                    hold(completed < *epoch, || {
                        format!(
                            "{}: epoch {epoch} is triggered, and {completed} is complete",
                            show::job(*job)
                        )
                    })?;
                    (job, epochs)
                }
                Happening::Durable(Record::Submitted { job, spec }) => {
                    let epochs = self.0.entry(*job).or_default();
                    let restored = spec.restored.map(|(epoch, _)| epoch).unwrap_or_default();
                    if epochs.triggered == Epoch(0) {
                        *epochs = Epochs { published: restored, completed: restored, triggered: restored };
                    }
                    (job, epochs)
                }
                Happening::Durable(Record::Completed { job, epoch, .. }) => {
                    let epochs = self.0.entry(*job).or_default();
                    let completed = epochs.completed;
                    hold(completed < *epoch, || {
                        format!("{}: epoch {epoch} is complete after {completed}", show::job(*job))
                    })?;
                    epochs.completed = *epoch;
                    (job, epochs)
                }
                Happening::Published { job, epoch, .. } => {
                    let epochs = self.0.entry(*job).or_default();
                    epochs.published = epochs.published.max(*epoch);
                    (job, epochs)
                }
                _ => continue,
            };
            let Epochs { published, completed, triggered } = *epochs;
            hold(published <= completed && completed <= triggered, || {
                format!(
                    "{}: published {published}, completed {completed}, triggered {triggered}",
                    show::job(*job)
                )
            })?;
        }
        Ok(())
    }
}
