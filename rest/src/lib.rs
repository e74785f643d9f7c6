//! The types of the jobmanager's REST interface, which the server and its clients share.
//!
//! Paths, methods and field names are those of Flink's REST interface where the thing is the same. Times are milliseconds
//! since the Unix epoch, durations are milliseconds. A field that has no value yet is null.
//!
//! - [`cluster`]: the cluster as a whole, its taskmanagers.
//! - [`executables`]: what jobs are started from.
//! - [`jobs`]: jobs, their checkpoints, savepoints, failures and logs.
//! - [`why`]: what holds the event time or the barrier of a job back.
//!
//! Not here: how a request is signed (`tidegate-access`), and what the jobmanager answers when (`tidegate-jobmanager`).

pub mod cluster;
pub mod executables;
pub mod jobs;
pub mod why;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer to a request that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What went wrong, and what to do about it.
    pub error: String,
    /// True if another jobmanager leads the cluster: ask that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_leading: bool,
}

/// What a request has to be signed with: `GET /v1/challenge`, which needs no signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// The challenge, good for a minute and any number of requests.
    pub challenge: String,
}
