//! What a storm has done, as a table.

use crate::cluster::fault::Fault;
use crate::judge::Verdict;
use crate::topics::blocked::Blocked;
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts over all rounds, and the time of every recovery.
#[derive(Debug, Default)]
pub struct StormReport {
    /// Rows that were fed to jobs.
    pub records_in: u64,
    /// Rows that jobs have published, dead letters among them.
    pub published: u64,
    /// Rows that are missing after a drain.
    pub lost: u64,
    /// Rows that are there twice.
    pub duplicated: u64,
    /// Rows that are not as they must be, or that nobody expects.
    pub wrong: u64,
    /// Jobs that were drained.
    pub jobs: u32,
    /// How long each recovery took, by fault.
    pub recoveries: BTreeMap<Fault, Vec<Duration>>,
    /// For how long readers were blocked, if there are transactions.
    pub blocked: Option<Blocked>,
    /// Faults that cannot be done here, each with the reason.
    pub skipped: Vec<(Fault, String)>,
}

impl StormReport {
    /// A fault has healed.
    pub fn recovered(&mut self, fault: Fault, took: Duration) {
        self.recoveries.entry(fault).or_default().push(took);
    }

    /// Adds for how long the readers of a job were blocked.
    pub fn add_blocked(&mut self, blocked: Option<Blocked>) {
        if let Some(blocked) = blocked {
            self.blocked.get_or_insert_default().merge(&blocked);
        }
    }

    /// Adds what was found at the end of a job: `is_over` if nothing more is to come.
    pub fn add(&mut self, rows: u64, verdict: &Verdict, is_over: bool) {
        self.records_in += rows;
        for tally in [&verdict.windows, &verdict.dead_letters] {
            self.published += tally.found as u64;
            self.lost += if is_over { tally.missing() as u64 } else { 0 };
            self.duplicated += tally.duplicate as u64;
            self.wrong += (tally.wrong + tally.extra) as u64;
        }
    }

    /// The number of faults that have healed.
    pub fn faults(&self) -> usize {
        self.recoveries.values().map(Vec::len).sum()
    }

    /// The table.
    pub fn lines(&self, asked_for: &[Fault]) -> Vec<String> {
        let mut lines = vec![format!("  {:<20} {:>5} {:>8} {:>8}", "fault", "times", "p50", "p99")];
        for fault in asked_for {
            let skipped = self.skipped.iter().find(|(skipped, _)| skipped == fault);
            lines.push(match (self.recoveries.get(fault), skipped) {
                (Some(times), _) => row(&fault.to_string(), times),
                (None, Some((_, reason))) => format!("  {fault:<20} skipped: {reason}"),
                (None, None) => format!("  {fault:<20} {:>5}", 0),
            });
        }
        let all: Vec<Duration> = self.recoveries.values().flatten().copied().collect();
        lines.push(row("all", &all));
        let StormReport { records_in, published, lost, duplicated, wrong, jobs, .. } = self;
        lines.push(format!(
            "records in {records_in}, published {published}, lost {lost}, duplicated {duplicated}, wrong {wrong}; jobs {jobs}, \
             recoveries {}, p50 {}, p99 {}",
            all.len(),
            seconds(percentile(&all, 50)),
            seconds(percentile(&all, 99)),
        ));
        lines.extend(self.blocked.as_ref().map(Blocked::to_string));
        lines
    }

    /// How it went, in one line: what was skipped is no part of it.
    pub fn verdict(&self) -> String {
        let names: Vec<String> = self.skipped.iter().map(|(fault, _)| fault.to_string()).collect();
        if names.is_empty() { "PASS".into() } else { format!("PASS without {}", names.join(", ")) }
    }
}

fn row(name: &str, times: &[Duration]) -> String {
    let (middle, most) = (seconds(percentile(times, 50)), seconds(percentile(times, 99)));
    format!("  {name:<20} {:>5} {middle:>8} {most:>8}", times.len())
}

/// The smallest time that `percent` of all do not exceed; None of nothing.
fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("-".into(), |time| format!("{:.2} s", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_secs).collect();
        assert_eq!(percentile(&times, 50), Some(Duration::from_secs(100)));
        assert_eq!(percentile(&times, 99), Some(Duration::from_secs(198)));
        assert_eq!(percentile(&times[..1], 99), Some(Duration::from_secs(200)));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn what_was_skipped_is_named_and_never_passed() {
        let mut report = StormReport::default();
        report.skipped.push((Fault::Partition, "no namespaces".into()));
        report.recovered(Fault::KillAll, Duration::from_secs(2));
        let lines = report.lines(&[Fault::KillAll, Fault::Partition, Fault::Stop]);
        assert_eq!(
            lines[1..5],
            [
                "  kill-all                 1   2.00 s   2.00 s",
                "  partition            skipped: no namespaces",
                "  stop                     0",
                "  all                      1   2.00 s   2.00 s",
            ]
        );
        assert_eq!(report.verdict(), "PASS without partition");
    }
}
