//! A step looks at the jobs that it is about and at those whose time has come: for all others nothing would follow.

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::show;
use crate::world::World;

#[derive(Default)]
pub(super) struct NoJobIsOverlooked;

impl Invariant for NoJobIsOverlooked {
    fn name(&self) -> &'static str {
        "no job is overlooked"
    }

    fn look(&mut self, world: &World, _: &[Happening]) -> Result<(), String> {
        let Some(jobmanager) = &world.jobmanager else { return Ok(()) };
        let overlooked = jobmanager.brain.overlooked();
        hold(overlooked.is_empty(), || {
            let actions: Vec<String> = overlooked.iter().map(show::action).collect();
            format!("of jobs that were not looked at there follows: {}", actions.join(", "))
        })
    }
}
