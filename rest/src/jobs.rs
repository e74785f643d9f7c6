//! Jobs: `GET /v1/jobs/overview`, `/v1/jobs/ID` and what is below it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::JobId;
use utoipa::ToSchema;

pub use tidegate_protocol::JobState;

/// All jobs: `GET /v1/jobs/overview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// The newest first.
    pub jobs: Vec<JobSummary>,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobSummary {
    /// Its id.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: JobState,
    /// When it was submitted.
    pub start_time: u64,
    /// When it was over.
    pub end_time: Option<u64>,
    /// How long it has been there.
    pub duration: u64,
    /// The number of its workers.
    pub parallelism: u32,
    /// Its attempt; 0 before the first.
    pub attempt: u32,
}

/// A job: `GET /v1/jobs/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobDetails {
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Whether its parallelism follows the partitions of its sources and the slots there are.
    #[serde(default)]
    pub auto_parallelism: bool,
    /// The greatest parallelism that it can have.
    pub max_parallelism: u32,
    /// What it waits for, as a sentence, if it waits.
    pub waits_for: Option<String>,
    /// Why the last attempt has failed, if one has.
    pub failure: Option<JobFailure>,
    /// The number of attempts after the first.
    pub restarts: u32,
    /// The processes of its attempt.
    pub processes: Vec<JobProcess>,
    /// Its checkpoints.
    pub checkpoints: CheckpointCounts,
    /// Its executable's SHA-256.
    pub executable: String,
    /// The job's command line arguments.
    pub arguments: Vec<String>,
    /// What its operators had counted since its first start when the last checkpoint was complete: by uid, and by the name of
    /// the metric without `tidegate_` and `_total`.
    pub totals: BTreeMap<String, BTreeMap<String, u64>>,
    /// Where its snapshots are.
    pub checkpoint_directory: String,
}

/// A process of a job's attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobProcess {
    /// The taskmanager that runs it.
    pub taskmanager: String,
    /// Its process number; null until it was started.
    pub pid: Option<u32>,
    /// The slots of its workers.
    pub slots: Vec<u32>,
}

/// Why an attempt has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobFailure {
    /// The attempt.
    pub attempt: u32,
    /// The cause.
    pub cause: String,
    /// When.
    pub timestamp: u64,
}

/// The failures of a job: `GET /v1/jobs/ID/exceptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobFailures {
    /// The newest first; old ones are dropped.
    pub exceptions: Vec<JobFailure>,
}

/// The numbers of a job's checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointCounts {
    /// Checkpoints completed since the job's first start.
    pub completed: u64,
    /// Those aborted since the jobmanager's start.
    pub aborted: u64,
    /// The epoch of the last complete one; null before the first.
    pub last_epoch: Option<u64>,
}

/// The checkpoints of a job: `GET /v1/jobs/ID/checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoints {
    /// Their numbers.
    pub counts: CheckpointCounts,
    /// The one in flight: its epoch, its phase, for how long.
    pub in_progress: Option<CheckpointInProgress>,
    /// The last ones, the newest first; old ones are dropped.
    pub history: Vec<CheckpointSummary>,
}

/// A checkpoint in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointInProgress {
    /// Its epoch.
    pub epoch: u64,
    /// `pending`, `completing` or `publishing`.
    pub phase: String,
    /// The time since its trigger.
    pub duration: u64,
    /// The slots whose part is missing.
    pub missing: Vec<u32>,
}

/// A checkpoint that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointSummary {
    /// Its epoch.
    pub epoch: u64,
    /// `COMPLETED` or `FAILED`.
    pub status: String,
    /// When it was triggered.
    pub trigger_timestamp: u64,
    /// From the trigger to its last output being visible, or to its abort.
    pub duration: u64,
    /// The bytes of its state files.
    pub state_size: u64,
    /// Why it was aborted.
    pub failure: Option<String>,
}

/// A request for a savepoint: `POST /v1/jobs/ID/savepoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SavepointRequest {
    /// The directory in which it is made; None for the one of the checkpoint store.
    #[serde(default)]
    pub target_directory: Option<String>,
}

/// A request to stop: `POST /v1/jobs/ID/stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StopRequest {
    /// Whether the job reads its input to its present end and finishes, instead of keeping open windows for another start.
    #[serde(default)]
    pub drain: bool,
    /// The directory in which a savepoint is made; None for none.
    #[serde(default)]
    pub target_directory: Option<String>,
}

/// The number of an operation that goes on: a savepoint or a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Triggered {
    /// For `GET /v1/jobs/ID/savepoints/REQUEST`.
    pub request_id: String,
}

/// How far an operation is: `GET /v1/jobs/ID/savepoints/REQUEST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Operation {
    /// `IN_PROGRESS` or `COMPLETED`.
    pub status: String,
    /// What it waits for, while it is in progress.
    pub waits_for: Option<String>,
    /// The savepoint that was made.
    pub location: Option<String>,
    /// Why it has failed.
    pub failure_cause: Option<String>,
}

/// The parallelism of a job: `GET` and `PUT /v1/jobs/ID/resource-requirements`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceRequirements {
    /// The number of workers.
    #[schema(minimum = 1)]
    pub parallelism: u32,
    /// Whether that number follows the partitions of the job's sources and the slots there are.
    #[serde(default)]
    pub auto: bool,
}

/// Lines of a job's log: `GET /v1/jobs/ID/logs?attempt=N&taskmanager=ID&from=POSITION`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    /// The logs of all processes of the attempt, or of the one that was asked for.
    pub logs: Vec<ProcessLog>,
    /// The taskmanagers that may have a log of the attempt, too, and could not be asked.
    #[serde(default)]
    pub silent: Vec<SilentTaskManager>,
}

/// A taskmanager that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentTaskManager {
    /// The taskmanager.
    pub taskmanager: String,
    /// The address at which it is reached; empty if it has not been connected since the jobmanager's start.
    pub host: String,
    /// Why it does not answer, as a sentence.
    pub reason: String,
}

/// Lines of the log of one taskmanager's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessLog {
    /// The taskmanager.
    pub taskmanager: String,
    /// The lines.
    pub text: String,
    /// Where to go on.
    pub position: u64,
}
