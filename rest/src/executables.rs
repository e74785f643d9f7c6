//! Executables: `POST /v1/executables`, `POST /v1/executables/ID/plan`, `POST /v1/executables/ID/run`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::JobId;
use utoipa::ToSchema;

/// An executable that was uploaded: the request's body is its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Executable {
    /// The SHA-256 of its content, in hexadecimal digits.
    pub id: String,
    /// Its length.
    pub bytes: u64,
}

/// A request for the plan of a job. The answer is a [`tidegate_protocol::Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanRequest {
    /// What the user calls the executable, for messages.
    #[serde(default)]
    pub executable: Option<String>,
    /// The directory to which relative paths in the arguments refer, on hosts that have it.
    #[serde(default)]
    pub directory: Option<String>,
    /// The job's command line arguments.
    pub arguments: Vec<String>,
}

/// A question whether a job could go on from a snapshot: `POST /v1/executables/ID/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckRequest {
    /// What the user calls the executable, for messages.
    #[serde(default)]
    pub executable: Option<String>,
    /// The directory to which relative paths in the arguments refer, on hosts that have it.
    #[serde(default)]
    pub directory: Option<String>,
    /// The job's command line arguments.
    pub arguments: Vec<String>,
    /// The directory of a savepoint, or a checkpoint directory, of which the newest snapshot is taken.
    pub snapshot: String,
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReply {
    /// True if the job could go on from the snapshot.
    pub fits: bool,
    /// Why not, if not.
    pub problem: Option<String>,
    /// The epoch of the snapshot.
    pub epoch: u64,
    /// Every operator of the job and of the snapshot.
    pub operators: Vec<OperatorCheck>,
    /// What has changed since the snapshot was taken, and counts from the restart on.
    pub changes: Vec<String>,
}

/// Whether an operator fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorCheck {
    /// Its uid.
    pub uid: String,
    /// Its kind.
    pub kind: String,
    /// True if it fits.
    pub fits: bool,
    /// What it does with the snapshot, or why it does not fit.
    pub outcome: String,
}

/// A request to run a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunRequest {
    /// The id of the job, which the client chooses: a request that is sent again does not start the job twice.
    pub jobid: JobId,
    /// What the user calls the executable, for messages.
    #[serde(default)]
    pub executable: Option<String>,
    /// The directory to which relative paths in the arguments refer, on hosts that have it.
    #[serde(default)]
    pub directory: Option<String>,
    /// The job's command line arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The number of workers; None for what the job's flags say, or else as many as there are free slots, and at most one a
    /// partition.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub parallelism: Option<u32>,
    /// Whether the number of workers follows the partitions of the job's sources and the slots there are; then `parallelism` does not
    /// count.
    #[serde(default)]
    pub auto_parallelism: bool,
    /// A snapshot to go on from: the directory of a savepoint, or a checkpoint directory, of which the newest is taken.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Whether state of operators that the job no longer has may be left behind.
    #[serde(default)]
    pub allow_non_restored_state: bool,
    /// Settings by key, such as `checkpoint.interval`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The name that the cluster shows; None for the job's own.
    #[serde(default)]
    pub name: Option<String>,
}

/// A job that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunReply {
    /// Its id.
    pub jobid: JobId,
    /// What the arguments ask for and a cluster does not do, each as a sentence.
    #[serde(default)]
    pub warnings: Vec<String>,
}
