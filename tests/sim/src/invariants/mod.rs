//! What must hold after every step, a file each.
//!
//! An invariant looks at what has happened in a step, keeps what it needs of that, and compares it with the world. It
//! believes nothing that the brain says of itself where the world knows better.

mod accepted_is_durable;
mod attempts_grow;
mod completed_stays;
mod exactly_once;
mod hosts_alone_are_empty;
mod ledger_goes_forward;
mod needed_files_stay;
mod no_internal_error;
mod no_job_is_overlooked;
mod one_publisher;
mod one_reader;
mod order_of_epochs;
mod published_is_completed;
mod savepoints_are_whole;
mod slots_are_enough;

use crate::happening::Happening;
use crate::world::World;

/// Something that must hold.
pub(crate) trait Invariant {
    /// Its name, as a sentence.
    fn name(&self) -> &'static str;

    /// Looks at a step. The error says what does not hold.
    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String>;
}

/// All invariants.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<accepted_is_durable::AcceptedIsDurable>::default(),
        Box::<attempts_grow::AttemptsGrow>::default(),
        Box::<completed_stays::CompletedStays>::default(),
        Box::<exactly_once::ExactlyOnce>::default(),
        Box::<hosts_alone_are_empty::HostsAloneAreEmpty>::default(),
        Box::<ledger_goes_forward::LedgerGoesForward>::default(),
        Box::<needed_files_stay::NeededFilesStay>::default(),
        Box::<no_internal_error::NoInternalError>::default(),
        Box::<no_job_is_overlooked::NoJobIsOverlooked>::default(),
        Box::<one_publisher::OnePublisher>::default(),
        Box::<one_reader::OneReader>::default(),
        Box::<order_of_epochs::OrderOfEpochs>::default(),
        Box::<published_is_completed::PublishedIsCompleted>::default(),
        Box::<savepoints_are_whole::SavepointsAreWhole>::default(),
        Box::<slots_are_enough::SlotsAreEnough>::default(),
    ]
}

/// An error unless something holds.
fn hold(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
