//! The totals of a job, as a user reads them.

use crate::metrics::descriptors::{self, Descriptor};
use crate::step::StepKind;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_protocol::Manifest;

use crate::job_process::description::Description;

/// What a job has done since its first start. The totals are those of the last snapshot: exact, however often the job was
/// killed in between. Only the time is that of the last run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Records read, malformed ones included.
    pub rows_in: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// Records dropped by filters, by the filter's name.
    pub dropped: BTreeMap<String, u64>,
    /// Records that came after their window was over.
    pub late: u64,
    /// Records written by sinks, dead letters not included.
    pub rows_out: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// How often the job was started again.
    pub restarts: u32,
    /// The last epoch.
    pub epoch: u64,
    /// True if the input was read to its end.
    pub finished: bool,
    /// How long the last run took.
    pub seconds: f64,
}

impl Summary {
    pub(crate) fn of(job: &Description, manifest: &Manifest, took: Duration) -> Self {
        let totals = manifest.totals();
        let total = |uid: &str, counter: Descriptor| -> u64 {
            totals.get(uid).and_then(|counters| counters.get(counter.name)).copied().unwrap_or(0)
        };
        let sum = |kind: StepKind, counter: Descriptor| -> u64 {
            job.steps.iter().filter(|s| s.kind() == kind).map(|s| total(&s.uid(), counter)).sum()
        };
        let mut dropped = BTreeMap::new();
        for filter in job.steps.iter().filter(|s| s.kind() == StepKind::Filter) {
            *dropped.entry(filter.name()).or_default() += total(&filter.uid(), descriptors::DROPPED);
        }
        Self {
            rows_in: sum(StepKind::Source, descriptors::RECORDS_IN),
            malformed: [StepKind::Source, StepKind::TryMap, StepKind::EventTime]
                .map(|kind| sum(kind, descriptors::MALFORMED))
                .iter()
                .sum(),
            dropped,
            late: sum(StepKind::Window, descriptors::LATE),
            rows_out: sum(StepKind::Sink, descriptors::RECORDS_OUT),
            dead_letters: sum(StepKind::DeadLetters, descriptors::RECORDS_OUT),
            checkpoints: manifest.checkpoints,
            restarts: manifest.attempt.0 - 1,
            epoch: manifest.epoch.0,
            finished: manifest.finished,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

impl Summary {
    /// The totals in the order in which they are shown.
    fn lines(&self) -> Vec<(String, u64)> {
        let dropped = self.dropped.iter().map(|(filter, n)| (format!("dropped by {filter}"), *n));
        let mut lines = vec![("rows in".to_owned(), self.rows_in), ("malformed".to_owned(), self.malformed)];
        lines.extend(dropped);
        let rest = [
            ("late", self.late),
            ("rows out", self.rows_out),
            ("dead letters", self.dead_letters),
            ("checkpoints", self.checkpoints),
            ("restarts", u64::from(self.restarts)),
        ];
        lines.extend(rest.map(|(name, n)| (name.to_owned(), n)));
        lines
    }
}

/// One line a total, without a newline behind the last.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.finished { "finished" } else { "stopped" };
        write!(f, "{state} after {:.1} s at epoch {}", self.seconds, self.epoch)?;
        let lines = self.lines();
        let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(16);
        lines.iter().try_for_each(|(name, n)| write!(f, "\n  {name:<width$}{n:>14}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let dropped = [("late".to_owned(), 3), ("rows_in".to_owned(), 4)].into();
        Summary { rows_in: 10, late: 2, dropped, ..Summary::default() }
    }

    #[test]
    fn a_filter_may_be_called_as_a_total_is() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!((&json["rows_in"], &json["late"]), (&10.into(), &2.into()));
        assert_eq!(json["dropped"], serde_json::json!({"late": 3, "rows_in": 4}));
        let text = serde_json::to_string(&summary()).unwrap();
        assert_eq!(text.matches("\"late\":2").count(), 1, "{text}");
    }

    #[test]
    fn what_a_filter_dropped_is_called_dropped() {
        let text = summary().to_string();
        assert!(text.starts_with("stopped after 0.0 s at epoch 0\n  rows in"), "{text}");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["dropped", "by", "late", "3"]), "{text}");
        assert!(lines.contains(&vec!["late", "2"]), "{text}");
    }
}
