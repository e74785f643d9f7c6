//! Has an operator scheduled after a while, once however often it is asked.

use std::time::{Duration, Instant};

use timely::scheduling::Activator;

/// The one pending alarm of an operator. Without it, every schedule that asks for another would leave one more of them
/// behind, and they would never get fewer.
pub(crate) struct Alarm {
    activator: Activator,
    at: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(activator: Activator) -> Self {
        Self { activator, at: None }
    }

    /// Has the operator scheduled again at once.
    pub(crate) fn now(&self) {
        self.activator.activate();
    }

    /// Has the operator scheduled after `wait`, or earlier if an earlier alarm is set.
    pub(crate) fn after(&mut self, wait: Duration) {
        let now = Instant::now();
        let at = now + wait;
        if self.at.is_none_or(|pending| pending <= now || pending > at) {
            self.activator.activate_after(wait);
            self.at = Some(at);
        }
    }
}
