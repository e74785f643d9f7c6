//! What a process of a job knows of what holds its event time or its barrier back, and how a process answers that.
//!
//! Not here: what follows from the answers of all processes (the jobmanager's). An answer is for whoever has asked, and is
//! passed on beside the messages to the brain of the jobmanager: nothing is decided by it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{Epoch, Slot};
use crate::nesting;
use crate::process::FromJobProcess;
use crate::taskmanager::{FromTaskManager, ProcessId};

/// What a process knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessWhy {
    /// The last epoch that the process was told to end.
    pub triggered: Epoch,
    /// How long ago, in milliseconds.
    pub since_trigger_ms: u64,
    /// The watermarks of operators, worker by worker.
    pub watermarks: Vec<OperatorWatermark>,
    /// The operator chains of all workers.
    pub chains: Vec<ChainProgress>,
    /// The partitions that are read by the workers of the process.
    pub partitions: Vec<PartitionProgress>,
    /// Threads beside the workers that run a connector's code now: they stage or publish output.
    pub beside: Vec<Doing>,
    /// What is outside of the job and does not answer.
    #[serde(default)]
    pub awaited: Vec<AwaitedByProcess>,
    /// What keyed operators have had, worker by worker.
    #[serde(default)]
    pub keyed: Vec<KeyedLoad>,
}

/// Something outside of a job that a process waits for: brokers, a schema registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedByProcess {
    /// What it is, and what it has answered last.
    pub what: String,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

/// What a keyed operator has had on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedLoad {
    /// The operator.
    pub operator: String,
    /// The worker.
    pub worker: Slot,
    /// The records that it had since the attempt began, up to the last barrier.
    pub records: u64,
    /// The number of key groups that are the worker's.
    pub key_groups: u32,
    /// The key group with the most records between two barriers; None before there were enough of them.
    pub hottest: Option<HottestKeyGroup>,
}

/// The key group of a worker that had the most records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HottestKeyGroup {
    /// The key group.
    pub number: u16,
    /// Its share in the records that the worker had between its last two barriers.
    pub percent: u8,
}

/// The watermark of an operator on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorWatermark {
    /// The operator's name.
    pub operator: String,
    /// The worker.
    pub worker: Slot,
    /// True for an operator that makes watermarks from the records of partitions.
    pub makes_watermarks: bool,
    /// In milliseconds since 1970; None before the first.
    pub watermark_ms: Option<i64>,
}

/// How far an operator chain is: the steps between two exchanges, on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainProgress {
    /// The source or the keyed operator that the chain begins with.
    pub operator: String,
    /// The worker.
    pub worker: Slot,
    /// The last epoch whose barrier it has passed.
    pub passed: Epoch,
    /// The step whose code runs; None if the chain waits for records or barriers.
    pub doing: Option<Doing>,
}

/// A step whose code runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// The step.
    pub step: String,
    /// The worker.
    pub worker: Slot,
    /// The record, or what else it runs for, as messages name it; may be empty.
    pub record: String,
    /// For how long it has not come back, in milliseconds, if that is more than about a second.
    pub for_ms: Option<u64>,
    /// True if it waits for the state store.
    pub waits_for_store: bool,
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionProgress {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// The worker that reads it.
    pub worker: Slot,
    /// The operator that makes its watermark; None if the source's records have no event time.
    pub event_time: Option<String>,
    /// Its watermark, in milliseconds since 1970; None before its first record.
    pub watermark_ms: Option<i64>,
    /// Whether it holds event time back.
    pub state: PartitionState,
    /// Since when it has had nothing to read, in milliseconds since 1970; None if there was something at the last look.
    pub quiet_since_ms: Option<i64>,
    /// Where its reader was at the last barrier, in the connector's own form; None before the first.
    pub position: Option<Value>,
    /// The records that were read from it since the attempt began.
    #[serde(default)]
    pub records: u64,
}

/// Whether a partition holds event time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum PartitionState {
    /// Event time does not pass its watermark.
    Active,
    /// The same, but it is so far ahead of the others of its source that it is not read until they have caught up.
    Paused,
    /// Event time does not wait for it.
    Idle,
    /// It was read to its end.
    Ended,
}

/// An answer of a process to a question of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessAnswer {
    /// The answer to [`ToJobProcess::Why`](crate::process::ToJobProcess::Why).
    Why {
        /// The number of the request.
        request: u64,
        /// What the process knows.
        why: Box<ProcessWhy>,
    },
}

/// The same, as its taskmanager passes it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassedOn {
    /// Who has answered.
    pub process: ProcessId,
    /// The answer.
    pub answer: ProcessAnswer,
}

/// A line that a process writes into its socket.
#[derive(Clone, Debug)]
pub enum SaidByProcess {
    /// A message, which the jobmanager acts on.
    Message(FromJobProcess),
    /// An answer, which only who has asked reads.
    Answer(ProcessAnswer),
}

impl SaidByProcess {
    /// Reads a line.
    ///
    /// # Errors
    /// If it is neither, or nested deeper than the jobmanager could read, to which it is passed on.
    pub fn from_json(line: &[u8]) -> serde_json::Result<Self> {
        nesting::check(line)?;
        serde_json::from_slice(line)
            .map(Self::Message)
            .or_else(|no_message| serde_json::from_slice(line).map(Self::Answer).map_err(|_| no_message))
    }
}

/// A text that a taskmanager sends over its connection.
#[derive(Clone, Debug)]
pub enum SaidByTaskManager {
    /// A message, which the jobmanager acts on.
    Message(FromTaskManager),
    /// An answer of a process, which only who has asked reads.
    Answer(PassedOn),
}

impl SaidByTaskManager {
    /// Reads a text.
    ///
    /// # Errors
    /// If it is neither.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
            .map(Self::Message)
            .or_else(|no_message| serde_json::from_str(text).map(Self::Answer).map_err(|_| no_message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Attempt, JobId};

    #[test]
    fn what_a_process_may_say_can_be_passed_on() {
        let process = ProcessId { job: JobId([1; 16]), attempt: Attempt(2), first: Slot(3) };
        let head = r#"{"report":{"attempt":2,"report":{"acked":{"slot":3,"epoch":4,"part":{"store":{},"operators":{"in":"#;
        for levels in 100..130 {
            let value = "[".repeat(levels) + &"]".repeat(levels);
            let operator = r#"{"watermark":null,"counters":{},"partitions":{},"staged":[],"extra":"#;
            let line = format!("{head}{operator}{value}}}}}}}}}}}}}}}");
            let Ok(SaidByProcess::Message(message)) = SaidByProcess::from_json(line.as_bytes()) else {
                continue;
            };
            let passed_on = FromTaskManager::FromProcess { process, message: Box::new(message) };
            let text = serde_json::to_string(&passed_on).unwrap();
            assert!(SaidByTaskManager::from_json(&text).is_ok(), "{levels} levels");
        }
    }

    #[test]
    fn messages_and_answers_are_told_apart() {
        let answer = ProcessAnswer::Why { request: 7, why: Box::default() };
        let line = serde_json::to_vec(&answer).unwrap();
        assert!(
            matches!(SaidByProcess::from_json(&line).unwrap(), SaidByProcess::Answer(read) if read == answer)
        );
        let pong = SaidByProcess::from_json(br#""pong""#).unwrap();
        assert!(matches!(pong, SaidByProcess::Message(FromJobProcess::Pong)));
        assert!(SaidByProcess::from_json(b"what?").is_err());

        let process = ProcessId { job: JobId([1; 16]), attempt: Attempt(2), first: Slot(3) };
        let passed_on = PassedOn { process, answer };
        let text = serde_json::to_string(&passed_on).unwrap();
        let read = SaidByTaskManager::from_json(&text).unwrap();
        assert!(matches!(read, SaidByTaskManager::Answer(read) if read == passed_on));
        let pong = SaidByTaskManager::from_json(r#""pong""#).unwrap();
        assert!(matches!(pong, SaidByTaskManager::Message(FromTaskManager::Pong)));
    }
}
