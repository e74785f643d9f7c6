//! The durable facts about jobs, one at a time.

use serde::{Deserialize, Serialize};
use tidegate_protocol::manifest::Totals;
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Attempt, Epoch, JobId, KeyGroups, Manifest, Plan};

use super::placement::Placed;

/// What is set for a job. The times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSettings {
    /// From one checkpoint to the next.
    pub interval_ms: u64,
    /// After so long a checkpoint is aborted that not all workers have answered.
    pub timeout_ms: u64,
    /// From the end of one checkpoint to the next, at least.
    pub min_pause_ms: u64,
    /// Checkpoints in a row that may fail before the attempt has failed; None for any number.
    pub tolerable_failures: Option<u32>,
    /// Complete snapshots that are kept.
    pub retain: usize,
    /// Memory for keyed state of all workers, in bytes; None for what the job's own flags say.
    pub memory: Option<u64>,
    /// Attempts in a row that may fail with an error of the job without a checkpoint in between.
    pub restart_limit: u32,
    /// The delay before the second restart in a row.
    pub restart_delay_ms: u64,
    /// The longest delay before a restart.
    pub restart_delay_max_ms: u64,
    /// Whether the parallelism follows the partitions and the slots there are.
    pub auto_parallelism: bool,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            timeout_ms: 600_000,
            min_pause_ms: 0,
            tolerable_failures: None,
            retain: 3,
            memory: None,
            restart_limit: 10,
            restart_delay_ms: 100,
            restart_delay_max_ms: 30_000,
            auto_parallelism: false,
        }
    }
}

/// A job as it was submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The name that people see.
    pub name: String,
    /// What is started.
    pub program: Program,
    /// What it consists of.
    pub plan: Plan,
    /// The key groups, fixed for ever.
    pub key_groups: KeyGroups,
    /// The number of workers at first.
    pub parallelism: u32,
    /// What was set.
    pub settings: JobSettings,
    /// The snapshot that it goes on from, in its own checkpoint directory, and the attempt that wrote that: those of the job
    /// follow it, because what they write carries their numbers.
    pub restored: Option<(Epoch, Attempt)>,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
}

/// A request to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Whether the job reads its input to the present end and finishes.
    pub drain: bool,
    /// Where a savepoint is made.
    pub savepoint: Option<String>,
    /// The number of the operation that waits for it.
    pub operation: u64,
}

/// How a job has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its input was read to its end, or it was stopped.
    Finished {
        /// The savepoint that a stop has made.
        savepoint: Option<String>,
    },
    /// It was ended by a user, without a last checkpoint.
    Canceled,
    /// It cannot go on.
    Failed {
        /// Why.
        cause: String,
    },
}

/// What a job has done since its first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The number of complete checkpoints.
    pub checkpoints: u64,
    /// What its operators have counted.
    pub totals: Totals,
}

impl Done {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self { checkpoints: manifest.checkpoints, totals: manifest.totals() }
    }
}

/// A fact that is durable, or is proposed to become so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// There is a job.
    Submitted {
        /// The job.
        job: JobId,
        /// What it is.
        spec: Box<JobSpec>,
    },
    /// An attempt begins. Whatever an older one does from here on counts no more.
    AttemptStarted {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: Attempt,
        /// Where its processes run.
        placed: Vec<Placed>,
        /// The snapshot that it goes on from.
        restored: Option<Epoch>,
    },
    /// The snapshot of an epoch is complete: the job restarts from it from now on, and its output may be published.
    Completed {
        /// The job.
        job: JobId,
        /// The attempt that wrote it.
        attempt: Attempt,
        /// The epoch.
        epoch: Epoch,
        /// True if the input was read to its end.
        finished: bool,
    },
    /// The snapshot of an epoch is damaged, and is never restored from again.
    Damaged {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The job is to stop.
    StopRequested {
        /// The job.
        job: JobId,
        /// How.
        stop: Stop,
    },
    /// The job has another number of workers from the next attempt on.
    Rescaled {
        /// The job.
        job: JobId,
        /// The number.
        parallelism: u32,
        /// Whether it follows the partitions and the slots there are from then on.
        #[serde(default)]
        auto: bool,
    },
    /// The job is over.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        ending: Ending,
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
        /// What it had done at its last complete checkpoint.
        #[serde(default)]
        done: Done,
    },
}

impl Record {
    /// The job that it is about.
    pub fn job(&self) -> JobId {
        match self {
            Self::Submitted { job, .. }
            | Self::AttemptStarted { job, .. }
            | Self::Completed { job, .. }
            | Self::Damaged { job, .. }
            | Self::StopRequested { job, .. }
            | Self::Rescaled { job, .. }
            | Self::Ended { job, .. } => *job,
        }
    }
}
