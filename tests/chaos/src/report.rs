//! What a chaos run has done, when all was well.

use crate::failure::{Failure, Result};
use std::time::Duration;

/// With so many kills for each failpoint, none can have been missed by chance.
const KILLS_A_FAILPOINT: u32 = 6;

/// What a chaos run has done.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Kills done.
    pub kills: u32,
    /// Runs that stopped when they were asked to.
    pub stops: u32,
    /// Runs that reached the end of the input.
    pub finished: u32,
    /// Damaged snapshots that the job fell back from.
    pub fell_back: u32,
    /// Damaged snapshots that the job refused.
    pub refused: u32,
    /// Runs that gave up a snapshot because the disk refused it.
    pub gave_up: u32,
    /// Disks that were filled under a running job.
    pub full_disks: u32,
    /// The failpoints in the order in which the job lists them, each with how often the process died there.
    pub at_failpoint: Vec<(String, u32)>,
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

    /// The process has died at a failpoint.
    pub fn died_at(&mut self, failpoint: &str) {
        self.at_failpoint.iter_mut().filter(|(name, _)| name == failpoint).for_each(|(_, times)| *times += 1);
    }

    /// How often the process died at any failpoint.
    pub fn at_failpoints(&self) -> u32 {
        self.at_failpoint.iter().map(|(_, times)| times).sum()
    }

    /// After many kills, every failpoint must have been one of them: a point that the job lists and never comes to
    /// proves nothing.
    pub fn covered(&self) -> Result<()> {
        if (self.kills as usize) < KILLS_A_FAILPOINT as usize * self.at_failpoint.len() {
            return Ok(());
        }
        let missed: Vec<&str> = self
            .at_failpoint
            .iter()
            .filter(|(_, times)| *times == 0)
            .map(|(name, _)| name.as_str())
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("{} kills, and the job never died at {}", self.kills, missed.join(", "))))
    }

    /// What was done, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut done = vec![
            format!("{} kills", self.kills),
            format!("{} stops", self.stops),
            format!("{} runs to the end", self.finished),
        ];
        let rest = [
            (self.fell_back, "damaged snapshots fallen back from"),
            (self.refused, "damaged snapshots refused"),
            (self.gave_up, "runs that gave up a snapshot"),
            (self.full_disks, "full disks"),
        ];
        done.extend(rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        let mut lines = vec![format!("{} in {:.0} s", done.join(", "), self.took.as_secs_f64())];
        lines.extend(self.table());
        lines
    }

    /// Where the process died, and how often.
    fn table(&self) -> Vec<String> {
        let elsewhere = ("at random instants".to_string(), self.kills - self.at_failpoints());
        let rows = || self.at_failpoint.iter().chain([&elsewhere]);
        let width = rows().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows().map(|(name, times)| format!("  {name:<width$} {times:>4}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::of(&["a".into(), "b".into()]);
        report.kills = 2 * KILLS_A_FAILPOINT;
        report.died_at("a");
        report
    }

    #[test]
    fn a_failpoint_that_is_never_reached_is_a_finding() {
        let mut report = report();
        assert!(report.covered().expect_err("b was missed").to_string().ends_with("never died at b"));
        report.kills -= 1;
        report.covered().expect("chance may have missed it");
    }

    #[test]
    fn the_table_adds_up() {
        let lines = report().lines();
        assert_eq!(
            lines[1..],
            ["  a                     1", "  b                     0", "  at random instants   11"]
        );
    }
}
