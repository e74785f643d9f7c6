//! What a chaos run has done, when all was well.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a chaos run has done.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Kills done.
    pub kills: u32,
    /// Runs that reached the end of the input.
    pub finished: u32,
    /// Damaged snapshots that the job fell back from.
    pub fell_back: u32,
    /// Damaged snapshots that the job refused.
    pub refused: u32,
    /// Kills by failpoint.
    pub at_failpoint: BTreeMap<String, u32>,
    /// Time in all.
    pub took: Duration,
}

impl Report {
    /// Nothing done yet; failpoints that no kill reaches are told with a 0.
    pub fn of(failpoints: &[String]) -> Report {
        Report {
            at_failpoint: failpoints.iter().map(|name| (name.clone(), 0)).collect(),
            ..Report::default()
        }
    }

    /// What was done, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} kills, {} runs to the end, {} damaged snapshots fallen back from, {} refused, {:.0} s",
            self.kills,
            self.finished,
            self.fell_back,
            self.refused,
            self.took.as_secs_f64()
        )];
        let named: Vec<String> = self.at_failpoint.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if !named.is_empty() {
            lines.push(format!("killed at failpoints: {}", named.join(", ")));
        }
        lines
    }
}
