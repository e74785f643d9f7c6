//! The totals of a job, as a user reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_protocol::Manifest;

use super::plan::Plan;

/// What a job has done since its first start. The totals are those of the last snapshot: exact, however often the job was
/// killed in between. Only the time is that of the last run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Records read, malformed ones included.
    pub rows_in: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// Records dropped by filters, by the filter's name.
    #[serde(flatten)]
    pub dropped: BTreeMap<String, u64>,
    /// Records that came after their window was over.
    pub late: u64,
    /// Records put out, dead letters not included.
    pub rows_out: u64,
    /// Dead letters put out.
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
    pub(crate) fn of(plan: &Plan, manifest: &Manifest, took: Duration) -> Self {
        let total = |uid: &str, counter: &str| -> u64 {
            let parts = manifest.slots.values().filter_map(|slot| slot.operators.get(uid));
            parts.filter_map(|part| part.counters.get(counter)).sum()
        };
        let sum = |kind: &str, counter: &str| -> u64 {
            plan.steps.iter().filter(|s| s.kind() == kind).map(|s| total(&s.uid(), counter)).sum()
        };
        let filters = plan.steps.iter().filter(|s| s.kind() == "filter");
        Self {
            rows_in: sum("source", "records_in"),
            malformed: ["source", "try_map", "event_time"].map(|kind| sum(kind, "malformed")).iter().sum(),
            dropped: filters.map(|s| (s.name(), total(&s.uid(), "dropped"))).collect(),
            late: sum("window", "late"),
            rows_out: sum("sink", "records_out"),
            dead_letters: sum("dead_letters", "records_out"),
            checkpoints: manifest.checkpoints,
            restarts: manifest.attempt.0 - 1,
            epoch: manifest.epoch.0,
            finished: manifest.finished,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.finished { "finished" } else { "stopped" };
        writeln!(f, "{state} after {:.1} s at epoch {}", self.seconds, self.epoch)?;
        let mut line = |name: &str, n: u64| writeln!(f, "  {name:<16}{n:>14}");
        line("rows in", self.rows_in)?;
        line("malformed", self.malformed)?;
        for (name, n) in &self.dropped {
            line(&name.replace('_', " "), *n)?;
        }
        line("late", self.late)?;
        line("rows out", self.rows_out)?;
        line("dead letters", self.dead_letters)?;
        line("checkpoints", self.checkpoints)?;
        line("restarts", u64::from(self.restarts))
    }
}
