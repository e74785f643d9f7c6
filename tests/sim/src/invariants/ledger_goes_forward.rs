//! What the ledger says never goes back, whatever dies; and the brain never believes what is not durable.

use tidegate_control::cluster::{JobFacts, Ledger};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct LedgerGoesForward {
    before: Ledger,
}

impl Invariant for LedgerGoesForward {
    fn name(&self) -> &'static str {
        "the ledger never goes back"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        let changes =
            |happening: &Happening| matches!(happening, Happening::Durable(_) | Happening::JobManagerBegan);
        if !happened.iter().any(changes) {
            return Ok(());
        }
        for (job, old) in &self.before.jobs {
            let new = world.ledger.jobs.get(job);
            hold(new.is_some_and(|new| is_after(old, new)), || {
                format!("{} went back: {old:?}, {new:?}", show::job(*job))
            })?;
        }
        let believed = world.jobmanager.as_ref().map(|jobmanager| jobmanager.brain.ledger());
        for (job, facts) in believed.into_iter().flat_map(|ledger| &ledger.jobs) {
            let durable = world.ledger.jobs.get(job);
            hold(durable.is_some_and(|durable| is_after(facts, durable)), || {
                format!("{}: the brain believes {facts:?}, and durable is {durable:?}", show::job(*job))
            })?;
        }
        self.before = world.ledger.clone();
        Ok(())
    }
}

fn is_after(old: &JobFacts, new: &JobFacts) -> bool {
    old.attempt <= new.attempt
        && old.last_epoch <= new.last_epoch
        && old.stop.is_some() <= new.stop.is_some()
        && (old.ended.is_none() || old == new)
        && old.spec == new.spec
}
