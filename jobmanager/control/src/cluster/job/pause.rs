//! For how long nothing of a job's input was read.

use tidegate_protocol::Attempt;

use crate::time::Time;

/// A pause of a job's reading between two attempts: the one under way, and how long the last one was.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cluster) struct Pause {
    /// The attempt that reads no further, and since when.
    began: Option<(Attempt, Time)>,
    /// From there until a later attempt was running, in milliseconds.
    pub(in crate::cluster) last_ms: Option<u64>,
}

impl Pause {
    /// The running attempt reads no further, unless it did not before.
    pub(super) fn begins(&mut self, attempt: Attempt, now: Time) {
        self.began.get_or_insert((attempt, now));
    }

    /// An attempt is running.
    pub(super) fn ends(&mut self, attempt: Attempt, now: Time) {
        if let Some((_, since)) = self.began.take_if(|(before, _)| attempt > *before) {
            self.last_ms = Some(now.since_ms(since));
        }
    }
}
