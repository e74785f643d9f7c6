//! What a process waits for that is outside of it and does not answer: brokers, a schema registry.
//!
//! A connector goes on trying for as long as an outage may last, which is any time. So that people see what a job waits for
//! without a look into its logs, it holds a [`Waiting`] for as long. The engine shows them in `tidegate info`, `tidegate why` and as
//! a metric. They are those of the process, as its log is: a connector may wait on any thread, and in any call.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ALL: Mutex<Vec<(u64, Awaited)>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<(u64, Awaited)>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something outside that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// What it is and what it has answered last, as a part of a sentence: `the brokers a:9092: connection refused`.
    pub what: String,
    /// Since when.
    pub since: Instant,
}

impl Awaited {
    /// For how long it has been waited for.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Shows that something is waited for, until it is dropped.
#[derive(Debug)]
pub struct Waiting(u64);

impl Waiting {
    /// Begins to show it, as having been waited for since a time.
    #[must_use]
    pub fn since(since: Instant, what: impl Into<String>) -> Self {
        let mut all = all();
        let number = all.last().map_or(0, |(number, _)| number + 1);
        all.push((number, Awaited { what: what.into(), since }));
        Self(number)
    }

    /// Says something else of the same.
    pub fn set(&self, what: impl Into<String>) {
        if let Some((_, awaited)) = all().iter_mut().find(|(number, _)| *number == self.0) {
            awaited.what = what.into();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        all().retain(|(number, _)| *number != self.0);
    }
}

/// All that this process waits for, with what it has waited for longest first.
#[must_use]
pub fn awaited() -> Vec<Awaited> {
    let mut awaited: Vec<Awaited> = all().iter().map(|(_, awaited)| awaited.clone()).collect();
    awaited.sort_by_key(|awaited| awaited.since);
    awaited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_shown_for_as_long() {
        let before = Instant::now();
        let second = Waiting::since(Instant::now(), "the registry");
        let first = Waiting::since(before, "the brokers");
        second.set("the registry: refused");
        let shown = || awaited().into_iter().map(|awaited| awaited.what).collect::<Vec<_>>();
        assert_eq!(shown(), ["the brokers", "the registry: refused"]);
        drop(first);
        assert_eq!(shown(), ["the registry: refused"]);
        drop(second);
        assert!(awaited().is_empty());
    }
}
