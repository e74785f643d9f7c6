//! For how long a reader of committed messages was kept waiting by an open transaction.
//!
//! Such a reader reads up to the last stable offset, in front of the oldest open transaction. While that stands still and the
//! high watermark is beyond it, there are messages that the reader must wait for. A time in which the brokers do not answer does
//! not count: then nobody reads anything.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// A topic's place in a list, and a partition of it.
pub type Partition = (usize, i32);

/// The longest times so far.
#[derive(Debug, Default, Clone)]
pub struct Blocked {
    /// While nothing was disturbed.
    pub undisturbed: Duration,
    /// While a fault lasted, or the recovery from one, for a part of the time at least.
    pub disturbed: Duration,
    /// How often a reader was found waiting, each wait counted once.
    pub waits: u64,
    /// How often was looked.
    pub looks: u64,
    open: HashMap<Partition, Wait>,
}

/// A wait that may go on.
#[derive(Debug, Clone)]
struct Wait {
    stable: i64,
    since: Instant,
    is_disturbed: bool,
}

/// How long waits may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For one publishing: a transaction of the messages of one checkpoint.
    pub undisturbed: Duration,
    /// Until the next attempt has the transaction aborted, or the brokers after its timeout.
    pub disturbed: Duration,
}

impl Blocked {
    /// A look at a partition: first its high watermark was asked for, then its last stable offset.
    pub fn look(
        &mut self,
        partition: Partition,
        (stable, high): (i64, i64),
        now: Instant,
        is_disturbed: bool,
    ) {
        self.looks += 1;
        if stable >= high {
            self.open.remove(&partition);
            return;
        }
        let wait = self.open.get(&partition).filter(|wait| wait.stable == stable);
        self.waits += u64::from(wait.is_none());
        let (since, was_disturbed) = wait.map_or((now, false), |wait| (wait.since, wait.is_disturbed));
        let wait = Wait { stable, since, is_disturbed: is_disturbed || was_disturbed };
        let longest = if wait.is_disturbed { &mut self.disturbed } else { &mut self.undisturbed };
        *longest = now.duration_since(since).max(*longest);
        self.open.insert(partition, wait);
    }

    /// The brokers do not answer.
    pub fn unanswered(&mut self) {
        self.open.clear();
    }

    /// The greater of both.
    pub fn merge(&mut self, other: &Blocked) {
        self.undisturbed = self.undisturbed.max(other.undisturbed);
        self.disturbed = self.disturbed.max(other.disturbed);
        self.waits += other.waits;
        self.looks += other.looks;
    }

    /// What is beyond the bounds, if anything is.
    pub fn excess(&self, bounds: Bounds) -> Option<String> {
        let told = |when: &str, time: Duration, bound: Duration| {
            format!(
                "{when} a reader of committed messages was blocked for {:.1} s by an open transaction, {:.1} s is the bound",
                time.as_secs_f64(),
                bound.as_secs_f64()
            )
        };
        if self.undisturbed > bounds.undisturbed {
            Some(told("while nothing was disturbed", self.undisturbed, bounds.undisturbed))
        } else if self.disturbed > bounds.disturbed {
            Some(told("around a fault", self.disturbed, bounds.disturbed))
        } else {
            None
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        write!(
            f,
            "a reader of committed messages was blocked for {} at most, around faults for {} ({} looks, {} waits)",
            seconds(self.undisturbed),
            seconds(self.disturbed),
            self.looks,
            self.waits
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = (0, 0);

    fn after(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn a_wait_lasts_while_the_stable_offset_stands_still_below_the_end() {
        let (mut blocked, t) = (Blocked::default(), Instant::now());
        blocked.look(P, (5, 5), t, false);
        blocked.look(P, (5, 9), after(t, 10), false);
        blocked.look(P, (5, 12), after(t, 40), false);
        assert_eq!((blocked.undisturbed, blocked.waits), (Duration::from_millis(30), 1));
        // The transaction has ended, and another one is open.
        blocked.look(P, (12, 20), after(t, 60), false);
        blocked.look(P, (12, 20), after(t, 80), false);
        assert_eq!((blocked.undisturbed, blocked.waits), (Duration::from_millis(30), 2));
        blocked.look(P, (20, 20), after(t, 500), false);
        blocked.look(P, (20, 21), after(t, 900), false);
        assert_eq!((blocked.undisturbed, blocked.disturbed), (Duration::from_millis(30), Duration::ZERO));
    }

    #[test]
    fn a_wait_that_a_fault_touches_counts_as_disturbed_and_without_an_answer_none_counts() {
        let (mut blocked, t) = (Blocked::default(), Instant::now());
        blocked.look(P, (5, 9), t, true);
        blocked.look(P, (5, 9), after(t, 2_000), false);
        assert_eq!((blocked.undisturbed, blocked.disturbed), (Duration::ZERO, Duration::from_secs(2)));
        blocked.unanswered();
        blocked.look(P, (5, 9), after(t, 60_000), false);
        assert_eq!((blocked.undisturbed, blocked.disturbed), (Duration::ZERO, Duration::from_secs(2)));
        let bounds =
            |disturbed| Bounds { undisturbed: Duration::ZERO, disturbed: Duration::from_secs(disturbed) };
        assert!(blocked.excess(bounds(1)).expect("beyond").contains("2.0 s"));
        assert!(blocked.excess(bounds(2)).is_none());
    }
}
