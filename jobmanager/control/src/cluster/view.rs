//! What people are shown of jobs and taskmanagers.

use std::sync::Arc;

use tidegate_protocol::manifest::Totals;
use tidegate_protocol::{Attempt, Epoch, JobId, JobState, Manifest, Slot, TaskManagerId};

use super::ledger::JobFacts;
use super::record::Ending;

/// A job, as it is now.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its id.
    pub job: JobId,
    /// What it is doing.
    pub state: JobState,
    /// The number of its attempts after the first.
    pub restarts: u32,
    /// Its attempt; 0 before the first.
    pub attempt: Attempt,
    /// The number of workers of the running attempt, or else of the next one.
    pub parallelism: u32,
    /// How long it was the last time from the end of reading until another attempt was running, in milliseconds.
    pub last_pause_ms: Option<u64>,
    /// What it waits for, as a sentence.
    pub waits_for: Option<String>,
    /// The failures of its last attempts, the newest first: attempt, cause, time in milliseconds since the Unix epoch.
    pub failures: Vec<(Attempt, String, u64)>,
    /// The processes of its attempt.
    pub processes: Vec<ProcessView>,
    /// Snapshots completed since the job's first start.
    pub completed: u64,
    /// The newest snapshot, once it was read; None of a job that is over.
    pub snapshot: Option<Arc<Manifest>>,
    /// Checkpoints aborted since the brain has begun.
    pub aborted: u64,
    /// The last complete epoch.
    pub last_epoch: Option<Epoch>,
    /// The checkpoint in flight: its epoch, its phase, milliseconds since its trigger, the slots that are missing.
    pub in_flight: Option<(Epoch, String, u64, Vec<Slot>)>,
    /// The last checkpoints, the newest first.
    pub checkpoints: Vec<CheckpointView>,
}

impl JobView {
    /// What its operators had counted at its last complete checkpoint. Not a field: most who look at a job do not need it.
    pub fn totals(&self, facts: &JobFacts) -> Totals {
        self.snapshot.as_ref().map_or_else(|| facts.done.totals.clone(), |manifest| manifest.totals())
    }
}

/// A process of an attempt.
#[derive(Clone, Debug)]
pub struct ProcessView {
    /// The taskmanager that runs it.
    pub taskmanager: TaskManagerId,
    /// Its number in the operating system, once it was started.
    pub pid: Option<u32>,
    /// Its workers.
    pub slots: Vec<Slot>,
}

/// A checkpoint that is over.
#[derive(Clone, Debug)]
pub struct CheckpointView {
    /// Its epoch.
    pub epoch: Epoch,
    /// Why it was aborted; None if it was completed.
    pub failure: Option<String>,
    /// When it was triggered, in milliseconds since the Unix epoch.
    pub triggered_at_ms: u64,
    /// Milliseconds from the trigger to the last output being visible.
    pub duration_ms: u64,
    /// The bytes of its state files.
    pub bytes: u64,
}

/// An operation that goes on: a savepoint or a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationView {
    /// It waits for this.
    InProgress(String),
    /// It is done; where the savepoint is, if one was wanted.
    Completed(Option<String>),
    /// It has failed, for this reason.
    Failed(String),
}

impl OperationView {
    /// How an operation is over when its job is; whether a savepoint was wanted.
    pub(super) fn of_stop(ending: &Ending, wants_savepoint: bool) -> Self {
        match ending {
            Ending::Finished { savepoint: None } if wants_savepoint => {
                Self::Failed("the job ended before the savepoint was made".to_owned())
            }
            Ending::Finished { savepoint } => Self::Completed(savepoint.clone()),
            Ending::Canceled => Self::Failed("the job was cancelled".to_owned()),
            Ending::Failed { cause } => Self::Failed(format!("the job has failed: {cause}")),
        }
    }
}

/// A taskmanager.
#[derive(Clone, Debug)]
pub struct TaskManagerView {
    /// Its id.
    pub id: TaskManagerId,
    /// Its number in the operating system.
    pub pid: u32,
    /// The address at which other hosts reach its job processes.
    pub address: String,
    /// The number of workers that there is room for.
    pub slots: u32,
    /// Slots without a worker.
    pub free: u32,
    /// Whether it is connected.
    pub connected: bool,
}
