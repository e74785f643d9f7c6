//! Timers, as functions with state set and receive them.

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The time it was set for, in milliseconds since the Unix epoch.
    pub at: i64,
    /// What kind of time.
    pub domain: TimeDomain,
}

impl Timer {
    /// A timer of event time, due when the watermark reaches `at`.
    pub fn event(at: i64) -> Self {
        Self { at, domain: TimeDomain::Event }
    }

    /// A timer of processing time, due when the clock reaches `at`.
    pub fn processing(at: i64) -> Self {
        Self { at, domain: TimeDomain::Processing }
    }
}

/// The kinds of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// The time of the records, as watermarks report it.
    Event,
    /// The time of the machine's clock.
    Processing,
}
