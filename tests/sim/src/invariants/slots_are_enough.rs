//! A slot holds at most one worker of the live, current attempts: a taskmanager is never given more than it has room for.

use std::collections::BTreeMap;

use tidegate_protocol::TaskManagerId;

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::world::World;

#[derive(Default)]
pub(super) struct SlotsAreEnough;

impl Invariant for SlotsAreEnough {
    fn name(&self) -> &'static str {
        "a slot holds at most one worker"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        if !happened.iter().any(|happening| matches!(happening, Happening::Launched { .. })) {
            return Ok(());
        }
        let Some(jobmanager) = &world.jobmanager else { return Ok(()) };
        let mut used: BTreeMap<TaskManagerId, u32> = BTreeMap::new();
        for job in &world.config.jobs {
            for process in jobmanager.brain.job(job.id).into_iter().flat_map(|view| view.processes) {
                *used.entry(process.taskmanager).or_default() += process.slots.len() as u32;
            }
        }
        for (host, slots) in world.hosts.iter().zip(&world.config.hosts) {
            let used = used.get(&host.id).copied().unwrap_or(0);
            hold(used <= *slots, || format!("{} has {slots} slots, and {used} are used", host.id))?;
        }
        Ok(())
    }
}
