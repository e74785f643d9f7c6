//! No process meets what cannot be: it is never told to publish what it has not written.

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::world::World;

#[derive(Default)]
pub(super) struct NoInternalError;

impl Invariant for NoInternalError {
    fn name(&self) -> &'static str {
        "no process meets an internal error"
    }

    fn look(&mut self, _world: &World, happened: &[Happening]) -> Result<(), String> {
        happened.iter().try_for_each(|happening| match happening {
            Happening::Internal(text) => hold(false, || text.clone()),
            _ => Ok(()),
        })
    }
}
