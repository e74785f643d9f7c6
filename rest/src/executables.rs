//! Executables: `POST /v1/executables`, `POST /v1/executables/ID/plan`, `POST /v1/executables/ID/run`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::JobId;

/// An executable that was uploaded: the request's body is its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// The SHA-256 of its content, in hexadecimal digits.
    pub id: String,
    /// Its length.
    pub bytes: u64,
}

/// A request for the plan of a job. The answer is a [`tidegate_protocol::Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The job's command line arguments.
    pub arguments: Vec<String>,
}

/// A request to run a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRequest {
    /// The id of the job, which the client chooses: a request that is sent again does not start the job twice.
    pub jobid: JobId,
    /// The job's command line arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The number of workers; None for what the job's flags say, or else as many as there are free slots, and at most one a
    /// partition.
    #[serde(default)]
    pub parallelism: Option<u32>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReply {
    /// Its id.
    pub jobid: JobId,
}
