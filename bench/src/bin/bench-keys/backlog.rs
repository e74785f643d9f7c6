//! A backlog: hours of event time, with every key in every hour, divided among partitions in one way or another.

use std::time::Duration;

/// The size of a window.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: u64 = HOUR.as_millis() as u64;
/// Hours of event time in all.
const HOURS: u64 = 16;
/// Updates of a key in an hour, on average.
const UPDATES: u64 = 5;

/// How the hours lie in the partitions.
#[derive(clap::ValueEnum, Clone, Copy)]
pub(crate) enum Backlog {
    /// As many updates of every hour in every partition
    Even,
    /// Every other partition has nine times as many updates of an hour as the others
    Skewed,
    /// Every partition begins where another one ends, as files of a day each do
    Consecutive,
}

/// What a partition holds.
pub(crate) struct Hours {
    pub(crate) first_key: u64,
    pub(crate) keys: u64,
    first_hour: u64,
    hours: u64,
    /// Updates of an hour.
    an_hour: u64,
}

impl Backlog {
    /// What the partition with this number holds.
    pub(crate) fn hours(self, number: u64, keys: u64, partitions: u64) -> Hours {
        let share = keys / partitions;
        let all = |updates| Hours {
            first_key: number * share,
            keys: share,
            first_hour: 0,
            hours: HOURS,
            an_hour: share * updates,
        };
        match self {
            Self::Even => all(UPDATES),
            Self::Skewed => all(if number.is_multiple_of(2) { 2 * UPDATES - 1 } else { 1 }),
            Self::Consecutive => {
                let hours = HOURS / partitions;
                Hours { first_key: 0, keys, first_hour: number * hours, hours, an_hour: keys * UPDATES }
            }
        }
    }
}

impl Hours {
    /// Updates in all.
    pub(crate) fn updates(&self) -> u64 {
        self.hours * self.an_hour
    }

    /// The event time of an update, by its number.
    pub(crate) fn time(&self, number: u64) -> u64 {
        self.first_hour * HOUR_MS + number * HOUR_MS / self.an_hour
    }
}
