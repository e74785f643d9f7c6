//! Schedules an operator after a delay. However often it is requested, only one activation is pending.

use std::time::{Duration, Instant};

use timely::scheduling::Activator;

/// The pending activation of an operator. Without it, every run of the operator that requests another activation would add
/// one more, and their number would never decrease.
pub(crate) struct Alarm {
    activator: Activator,
    at: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(activator: Activator) -> Self {
        Self { activator, at: None }
    }

    /// Schedules the operator again at once.
    pub(crate) fn now(&self) {
        self.activator.activate();
    }

    /// Schedules the operator after `wait`, or earlier if an earlier alarm is set.
    pub(crate) fn after(&mut self, wait: Duration) {
        let now = Instant::now();
        let at = now + wait;
        if self.at.is_none_or(|pending| pending <= now || pending > at) {
            self.activator.activate_after(wait);
            self.at = Some(at);
        }
    }
}
