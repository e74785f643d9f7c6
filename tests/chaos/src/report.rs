//! What a chaos run has done, when all was well.

use crate::failure::{Failure, Result};
use crate::full_disk;
use crate::options::Options;
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
    /// Runs that aborted a checkpoint because the disk refused it.
    pub aborted: u32,
    /// Runs in which what went from worker to worker travelled as bytes.
    pub over_the_wire: u32,
    /// Runs to the end in which every step slept.
    pub slow_disks: u32,
    /// Disks that were filled under a running job, and kept it from going on.
    pub full_disks: usize,
    /// What was asked for and cannot be done here, each with the reason.
    pub skipped: Vec<String>,
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

    /// All that `options` ask for must have happened, or been skipped for a reason that is told: what was never come to
    /// proves nothing.
    pub fn covered(&self, options: &Options) -> Result<()> {
        let mut missing = Vec::new();
        let missed = self.missed();
        if !missed.is_empty() {
            missing.push(format!("{} kills, and the job never died at {}", self.kills, missed.join(", ")));
        }
        if options.damage && self.fell_back + self.refused == 0 {
            missing.push("no damage hit a snapshot".into());
        }
        if options.slow_disk && self.slow_disks == 0 {
            missing.push("no disk was slow".into());
        }
        if options.full_disk && self.full_disks < full_disk::DISKS && self.skipped.is_empty() {
            let full = self.full_disks;
            missing.push(format!(
                "of {} disks that were filled only {full} kept the job from going on: give it more --rows",
                full_disk::DISKS
            ));
        }
        if missing.is_empty() { Ok(()) } else { Err(Failure::new(missing.join("; "))) }
    }

    /// After many kills, the failpoints that were none of them.
    fn missed(&self) -> Vec<&str> {
        if (self.kills as usize) < KILLS_A_FAILPOINT as usize * self.at_failpoint.len() {
            return Vec::new();
        }
        self.at_failpoint.iter().filter(|(_, times)| *times == 0).map(|(name, _)| name.as_str()).collect()
    }

    /// How it went, in one line: what was skipped is no part of it.
    pub fn verdict(&self) -> String {
        if self.skipped.is_empty() {
            "PASS".into()
        } else {
            format!("PASS without {}", self.skipped.join(", "))
        }
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
            (self.aborted, "runs that aborted a checkpoint"),
            (self.over_the_wire, "runs over the wire"),
            (self.slow_disks, "runs on a slow disk"),
            (self.full_disks as u32, "full disks"),
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
    use clap::Parser;

    fn report() -> Report {
        let mut report = Report::of(&["a".into(), "b".into()]);
        report.kills = 2 * KILLS_A_FAILPOINT;
        report.died_at("a");
        report
    }

    #[test]
    fn a_failpoint_that_is_never_reached_is_a_finding() {
        let (mut report, options) = (report(), Options::default());
        let missed = report.covered(&options).expect_err("b was missed").to_string();
        assert!(missed.ends_with("never died at b"), "{missed}");
        report.kills -= 1;
        report.covered(&options).expect("chance may have missed it");
    }

    #[test]
    fn what_was_asked_for_and_did_not_happen_is_a_finding() {
        let asked = |name: &str| Options::parse_from(["chaos".into(), format!("--{name}")]);
        let mut report = Report::default();
        for (name, finding) in [
            ("damage", "no damage hit a snapshot"),
            ("slow-disk", "no disk was slow"),
            (
                "full-disk",
                "of 2 disks that were filled only 0 kept the job from going on: give it more --rows",
            ),
        ] {
            assert_eq!(report.covered(&asked(name)).expect_err(name).to_string(), finding);
        }
        (report.refused, report.slow_disks, report.full_disks) = (1, 1, 1);
        ["damage", "slow-disk"].iter().for_each(|name| report.covered(&asked(name)).expect(name));
        report.covered(&asked("full-disk")).expect_err("one of two needed no more room");
        assert_eq!(report.verdict(), "PASS");
    }

    #[test]
    fn what_was_skipped_is_named() {
        let report = Report { skipped: vec!["full disks (no mount)".into()], ..Report::default() };
        report.covered(&Options { full_disk: true, ..Options::default() }).expect("a reason");
        assert_eq!(report.verdict(), "PASS without full disks (no mount)");
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
