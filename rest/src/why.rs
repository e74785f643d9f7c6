//! What holds a job back: `GET /v1/jobs/ID/why`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_protocol::JobId;
use tidegate_protocol::why::{HottestKeyGroup, PartitionState};
use utoipa::ToSchema;

use crate::jobs::JobState;

/// What holds a job back. What is about event time is in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Why {
    /// The job's id.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: JobState,
    /// Its attempt; 0 before the first.
    pub attempt: u32,
    /// When this was found out.
    pub timestamp: u64,
    /// What it waits for, as a sentence, if it does not run. Nothing of the rest is known then.
    pub waits_for: Option<String>,
    /// Processes that have not answered within a second: whatever waits for one of their workers waits for them.
    pub silent: Vec<SilentProcess>,
    /// The event time of the job; null if none of its sources has event times.
    pub watermark: Option<WatermarkWhy>,
    /// The checkpoint in flight.
    pub checkpoint: Option<CheckpointWhy>,
    /// Operators with a watermark, worker by worker.
    pub operators: Vec<OperatorWhy>,
    /// All partitions that are read.
    pub partitions: Vec<PartitionWhy>,
    /// What is outside of the job and does not answer, such as brokers.
    #[serde(default)]
    pub awaited: Vec<AwaitedWhy>,
    /// What keyed operators have had, worker by worker.
    #[serde(default)]
    pub keyed: Vec<KeyedWhy>,
}

/// Something outside of a job that it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AwaitedWhy {
    /// What it is, and what it has answered last.
    pub what: String,
    /// For how long it has been waited for.
    pub duration: u64,
    /// The workers of the processes that wait for it.
    pub workers: Vec<u32>,
}

/// What a keyed operator has had on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct KeyedWhy {
    /// The operator.
    pub operator: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The records that it had since the attempt began, up to the last barrier.
    pub records: u64,
    /// The number of key groups that are the worker's.
    pub key_groups: u32,
    /// The key group with the most records between two barriers; null before there were enough of them.
    pub hottest_key_group: Option<HottestKeyGroup>,
}

/// A worker, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The worker.
    pub worker: u32,
    /// The taskmanager that runs its process.
    pub taskmanager: String,
    /// The address at which that is reached.
    pub host: String,
}

/// A process that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SilentProcess {
    /// The taskmanager that runs it.
    pub taskmanager: String,
    /// The address at which that is reached.
    pub host: String,
    /// Its process number.
    pub pid: Option<u32>,
    /// Its workers.
    pub slots: Vec<u32>,
}

/// The event time of a job, and what holds it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WatermarkWhy {
    /// The operator that has the least watermark.
    pub operator: String,
    /// The least watermark; null while some worker of the operator has none yet.
    pub time: Option<i64>,
    /// The watermark of the partition that is furthest.
    pub furthest: Option<i64>,
    /// What holds it back: the first suspect.
    pub held_back_by: Holder,
    /// The steps that have not come back for a second or more.
    pub standing: Vec<DoingWhy>,
    /// The active partitions with the least watermark; others may be as far.
    pub partitions: Vec<PartitionWhy>,
}

/// What holds event time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A process that does not answer.
    Process,
    /// A step that does not come back from a record.
    Step,
    /// The partition with the least watermark.
    Partition,
    /// Nothing: all partitions are idle, or were read to their end.
    Nobody,
}

/// A step whose code runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DoingWhy {
    /// The step.
    pub step: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The record, as messages name it; may be empty.
    pub record: String,
    /// For how long it has not come back, if that is more than about a second.
    pub duration: Option<u64>,
    /// True if it waits for the state store.
    pub waits_for_store: bool,
}

/// A checkpoint in flight, and what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointWhy {
    /// Its epoch.
    pub epoch: u64,
    /// `pending`, `completing` or `publishing`.
    pub phase: String,
    /// The time since its trigger.
    pub duration: u64,
    /// The slots whose part is missing.
    pub missing: Vec<u32>,
    /// The number of operator chains that have passed its barrier.
    pub passed: usize,
    /// Those that have not, as far as processes have answered.
    pub waiting: Vec<ChainWhy>,
    /// Output that is being staged or published.
    pub beside: Vec<DoingWhy>,
}

/// An operator chain that has not passed a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ChainWhy {
    /// The source or the keyed operator that it begins with.
    pub operator: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The step whose code runs; null if the chain waits for others.
    pub doing: Option<DoingWhy>,
}

/// The watermark of an operator on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorWhy {
    /// The operator.
    pub operator: String,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Its watermark; null before the first.
    pub watermark: Option<i64>,
    /// True if it makes watermarks, and no partition that it reads on this worker holds event time back.
    pub idle: bool,
    /// False if it has not passed the barrier of the checkpoint in flight.
    pub passed: bool,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionWhy {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// Who reads it.
    #[serde(flatten)]
    pub place: Place,
    /// Its watermark; null before its first record, or if its records have no event time.
    pub watermark: Option<i64>,
    /// Whether it holds event time back.
    pub state: PartitionState,
    /// Since when it has had nothing to read; null if there was something at the last look.
    pub quiet_since: Option<i64>,
    /// Where its reader was at the last barrier, in the connector's own form.
    pub position: Option<Value>,
    /// The records that were read from it since the attempt began.
    #[serde(default)]
    pub records: u64,
}
