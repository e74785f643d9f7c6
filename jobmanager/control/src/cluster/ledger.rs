//! The facts about all jobs: what follows from the committed records, in their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::{Attempt, Epoch, JobId};

use super::placement::Placed;
use super::record::{Ending, JobSpec, Record, Stop};

/// The facts about all jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// By their ids.
    pub jobs: BTreeMap<JobId, JobFacts>,
}

/// The facts about a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFacts {
    /// What was submitted.
    pub spec: JobSpec,
    /// The number of workers of the next attempt.
    pub parallelism: u32,
    /// The last attempt; before the first one of this job, that of the snapshot that it goes on from, or 0.
    pub attempt: Attempt,
    /// Where its processes run.
    pub placed: Vec<Placed>,
    /// True once the last epoch of the attempt may have been triggered. No barrier follows that one, also if a later
    /// request takes back what has led to it.
    #[serde(default)]
    pub is_ending: bool,
    /// The snapshot that it went on from.
    pub restored: Option<Epoch>,
    /// The complete snapshots that may be restored from, the newest last.
    pub snapshots: Vec<Epoch>,
    /// The highest epoch that was ever complete.
    pub last_epoch: Epoch,
    /// True once the input was read to its end, and the snapshot of that is complete.
    pub finished: bool,
    /// Whether the job is to stop.
    pub stop: Option<Stop>,
    /// How it has ended, and when.
    pub ended: Option<(Ending, u64)>,
}

impl JobFacts {
    fn new(spec: JobSpec) -> Self {
        Self {
            parallelism: spec.parallelism,
            attempt: spec.restored.map(|(_, attempt)| attempt).unwrap_or_default(),
            placed: Vec::new(),
            is_ending: false,
            restored: None,
            snapshots: spec.restored.map(|(epoch, _)| epoch).into_iter().collect(),
            last_epoch: spec.restored.map(|(epoch, _)| epoch).unwrap_or_default(),
            finished: false,
            stop: None,
            ended: None,
            spec,
        }
    }

    /// True once an attempt of this job was started.
    pub fn was_started(&self) -> bool {
        !self.placed.is_empty()
    }

    /// The number of workers of its attempt.
    pub fn workers(&self) -> u32 {
        self.placed.iter().map(|placed| placed.workers).sum()
    }

    /// The number of attempts of this job after the first.
    pub fn restarts(&self) -> u32 {
        let before = self.spec.restored.map_or(0, |(_, attempt)| attempt.0);
        self.attempt.0.saturating_sub(before + 1)
    }

    /// The snapshot that the next attempt goes on from.
    pub fn newest(&self) -> Option<Epoch> {
        self.snapshots.last().copied()
    }
}

impl Ledger {
    /// Adds what a record says. A record that was applied before changes nothing, nor does one about a job that is over.
    pub fn apply(&mut self, record: &Record) {
        if let Record::Submitted { job, spec } = record {
            self.jobs.entry(*job).or_insert_with(|| JobFacts::new((**spec).clone()));
            return;
        }
        let Some(facts) = self.jobs.get_mut(&record.job()).filter(|facts| facts.ended.is_none()) else {
            return;
        };
        match record {
            Record::Submitted { .. } => {}
            Record::AttemptStarted { attempt, placed, restored, .. } => {
                if *attempt > facts.attempt {
                    facts.attempt = *attempt;
                    facts.placed.clone_from(placed);
                    facts.is_ending = facts.stop.as_ref().is_some_and(|stop| !stop.drain);
                    facts.restored = *restored;
                }
            }
            Record::Completed { attempt, epoch, finished, .. } => {
                // The attempt may have been replaced while its last snapshot was on its way to the ledger.
                if *attempt == facts.attempt && *epoch > facts.last_epoch {
                    facts.snapshots.push(*epoch);
                    facts.last_epoch = *epoch;
                    facts.finished = *finished;
                    facts.is_ending |= *finished;
                    let surplus = facts.snapshots.len().saturating_sub(facts.spec.settings.retain.max(1));
                    facts.snapshots.drain(..surplus);
                }
            }
            Record::Damaged { epoch, .. } => facts.snapshots.retain(|other| other != epoch),
            Record::StopRequested { stop, .. } => {
                // The last request counts, but the savepoint that an earlier one wanted is not taken back.
                facts.is_ending |= !stop.drain;
                let earlier = facts.stop.take().and_then(|stop| stop.savepoint);
                facts.stop = Some(Stop { savepoint: stop.savepoint.clone().or(earlier), ..stop.clone() });
            }
            Record::Rescaled { parallelism, .. } => {
                facts.parallelism = *parallelism;
                facts.is_ending |= facts.parallelism != facts.workers();
            }
            Record::Ended { ending, at_ms, .. } => facts.ended = Some((ending.clone(), *at_ms)),
        }
    }

    /// True if a record that was just applied is the one that made the epoch complete.
    pub fn is_complete(&self, job: JobId, epoch: Epoch) -> bool {
        self.jobs.get(&job).is_some_and(|facts| facts.newest() == Some(epoch))
    }
}
