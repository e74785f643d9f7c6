//! The cluster as a whole: `GET /v1/overview`, `GET /v1/taskmanagers`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The totals of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    /// The version of the jobmanager.
    pub version: String,
    /// Taskmanagers that are connected.
    pub taskmanagers: u32,
    /// Their slots.
    pub slots_total: u32,
    /// Slots without a worker.
    pub slots_available: u32,
    /// Jobs that run, or are about to.
    pub jobs_running: u32,
    /// Jobs that have come to their end.
    pub jobs_finished: u32,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u32,
    /// Jobs that have failed for good.
    pub jobs_failed: u32,
}

/// All taskmanagers that the jobmanager knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskManagers {
    /// In the order of their ids.
    pub taskmanagers: Vec<TaskManager>,
}

/// A taskmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TaskManager {
    /// Its id, the same after a restart.
    pub id: String,
    /// Its process number.
    pub pid: u32,
    /// The address at which other hosts reach its job processes.
    pub address: String,
    /// The number of workers that there is room for.
    pub slots: u32,
    /// Slots without a worker.
    pub free: u32,
    /// `CONNECTED`, or `LOST` for one that may come back.
    pub state: String,
}
