//! The facts about all jobs: what follows from the committed records, in their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::{Attempt, Epoch, JobId};

use super::placement::Placed;
use super::record::{Done, Ending, JobSpec, Record, Stop};

/// Jobs that are over and still known. Those that ended before are forgotten: a cluster whose jobs are started by a timer has
/// hundreds of thousands of them after a year.
const KEPT_ENDED: usize = 1_000;

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
    /// Whether that follows the partitions and the slots there are.
    #[serde(default)]
    pub auto_parallelism: bool,
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
    /// What it had done when it ended.
    #[serde(default)]
    pub done: Done,
}

impl JobFacts {
    fn new(spec: JobSpec) -> Self {
        Self {
            parallelism: spec.parallelism,
            auto_parallelism: spec.settings.auto_parallelism,
            attempt: spec.restored.map(|(_, attempt)| attempt).unwrap_or_default(),
            placed: Vec::new(),
            is_ending: false,
            restored: None,
            snapshots: spec.restored.map(|(epoch, _)| epoch).into_iter().collect(),
            last_epoch: spec.restored.map(|(epoch, _)| epoch).unwrap_or_default(),
            finished: false,
            stop: None,
            ended: None,
            done: Done::default(),
            spec,
        }
    }

    /// True once an attempt of this job was started.
    pub fn was_started(&self) -> bool {
        !self.placed.is_empty()
    }

    /// Whether it is to stop, and has neither run nor brought a snapshot, whose output may still be to publish.
    pub fn is_stopped_before_its_start(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| !stop.drain) && !self.was_started() && self.newest().is_none()
    }

    /// Whether it is to read its input to the present end, and to finish.
    pub fn drains(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.drain)
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
            Record::Damaged { epoch, .. } => {
                // The end of the input counts as read if its snapshot is there: an older one has more to read.
                facts.finished &= facts.newest() != Some(*epoch);
                facts.snapshots.retain(|other| other != epoch);
            }
            Record::StopRequested { stop, .. } => {
                // To drain is to stop, too: it is the next attempt that reads to the end.
                facts.is_ending = true;
                // The last request counts, but the savepoint that an earlier one wanted is not taken back.
                let earlier = facts.stop.take().and_then(|stop| stop.savepoint);
                facts.stop = Some(Stop { savepoint: stop.savepoint.clone().or(earlier), ..stop.clone() });
            }
            Record::Rescaled { parallelism, auto, .. } => {
                facts.parallelism = *parallelism;
                facts.auto_parallelism = *auto;
                facts.is_ending |= facts.parallelism != facts.workers();
            }
            Record::Ended { job, ending, at_ms, done } => {
                facts.done.clone_from(done);
                facts.ended = Some((ending.clone(), *at_ms));
                self.forget_oldest(*job);
            }
        }
    }

    /// Forgets the job that ended first, if too many are over. The clock may have been set back since: the one that has just
    /// ended stays.
    fn forget_oldest(&mut self, just_ended: JobId) {
        let ended = |(id, facts): (&JobId, &JobFacts)| Some((facts.ended.as_ref()?.1, *id));
        let ended: Vec<_> = self.jobs.iter().filter_map(ended).collect();
        if ended.len() > KEPT_ENDED
            && let Some((_, oldest)) = ended.into_iter().filter(|(_, id)| *id != just_ended).min()
        {
            self.jobs.remove(&oldest);
        }
    }

    /// True if a record that was just applied is the one that made the epoch complete.
    pub fn is_complete(&self, job: JobId, epoch: Epoch) -> bool {
        self.jobs.get(&job).is_some_and(|facts| facts.newest() == Some(epoch))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::taskmanager::Program;
    use tidegate_protocol::{KeyGroups, Plan};

    use super::super::record::JobSettings;
    use super::*;

    fn numbered(number: u64) -> JobId {
        JobId(u128::from(number).to_be_bytes())
    }

    fn submitted(job: JobId) -> Record {
        let (name, sha256) = (String::new(), String::new());
        let program = Program { name, sha256, path: String::new(), arguments: Vec::new(), directory: None };
        let spec = JobSpec {
            name: "job".to_owned(),
            program,
            plan: Plan::default(),
            key_groups: KeyGroups::default(),
            parallelism: 1,
            settings: JobSettings::default(),
            restored: None,
            submitted_at_ms: 0,
        };
        Record::Submitted { job, spec: Box::new(spec) }
    }

    fn ended(number: u64, at_ms: u64) -> Record {
        Record::Ended { job: numbered(number), ending: Ending::Canceled, at_ms, done: Done::default() }
    }

    #[test]
    fn the_jobs_that_ended_first_are_forgotten_and_none_that_runs() {
        let mut ledger = Ledger::default();
        let (running, kept) = (numbered(0), KEPT_ENDED as u64);
        ledger.apply(&submitted(running));
        for number in 1..=kept + 5 {
            ledger.apply(&submitted(numbered(number)));
            ledger.apply(&ended(number, 100 + number));
            assert!(ledger.jobs.contains_key(&numbered(number)));
        }
        let oldest = numbered(6);
        assert_eq!(ledger.jobs.keys().take(2).copied().collect::<Vec<_>>(), [running, oldest]);
        assert_eq!(ledger.jobs.len() as u64, kept + 1);
        // The clock was set back.
        ledger.apply(&ended(0, 1));
        assert!(ledger.jobs.contains_key(&running));
        assert!(!ledger.jobs.contains_key(&oldest));
    }
}
