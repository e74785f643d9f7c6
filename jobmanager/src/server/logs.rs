//! What the processes of a job have logged: the taskmanagers have it, and all that may are asked at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Given;
use serde::Deserialize;
use tidegate_control::cluster::{Brain, JobFacts};
use tidegate_protocol::{Attempt, Error, TaskManagerId};
use tidegate_rest::jobs::{Logs, ProcessLog, SilentTaskManager};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::State;
use super::answer::Answered;
use super::extract::{Json, Path, Query};
use super::jobs::{OfJob, look};
use crate::driver::LogsWanted;

/// The bytes of a log that one request gets.
const LOG_BYTES: u64 = 256 << 10;
/// How long taskmanagers may take to answer. One that hangs is noticed sooner, usually: after a lease.
const PATIENCE: Duration = Duration::from_secs(10);

/// What part of a log is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// The attempt; without it, the last one that a taskmanager has a log of.
    attempt: Option<u32>,
    /// The id of the only taskmanager whose processes are meant.
    taskmanager: Option<String>,
    /// Where to go on: the `position` of the last answer. Without it, the end of the log is shown.
    from: Option<u64>,
}

/// Reads what the processes of a job have logged, of all taskmanagers that answer.
#[utoipa::path(
    get,
    path = "/logs",
    params(OfJob, LogQuery),
    responses((status = 200, description = "The logs", body = Logs))
)]
pub(super) async fn logs(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
    Query(LogQuery { attempt, taskmanager, from }): Query<LogQuery>,
) -> Answered<Logs> {
    let (job, attempt) = (of.id()?, attempt.map(Attempt));
    let placed = look(&state, &of, move |_, facts| placed(facts, attempt)).await?;
    let all = state.driver.look(Brain::taskmanagers).await?;
    let hosts: BTreeMap<TaskManagerId, String> = all.into_iter().map(|t| (t.id, t.address)).collect();
    let wanted = match taskmanager {
        Some(id) => BTreeSet::from([TaskManagerId(id)]),
        None => placed.unwrap_or_else(|| hosts.keys().cloned().collect()),
    };
    let asked: Vec<_> = wanted
        .into_iter()
        .map(|taskmanager| {
            let part = LogsWanted { taskmanager: taskmanager.clone(), job, attempt, from, bytes: LOG_BYTES };
            (taskmanager, state.driver.logs(part))
        })
        .collect();
    let (until, mut logs) = (Instant::now() + PATIENCE, Logs::default());
    for (id, told) in asked {
        let read = match timeout_at(until, told).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(Error::environment("the jobmanager is about to end")),
            Err(_) => Err(Error::environment(format!("it has not answered for {} s", PATIENCE.as_secs()))),
        };
        let host = hosts.get(&id).cloned().unwrap_or_default();
        match (id.0, read) {
            (taskmanager, Ok((text, position))) => logs.logs.push(ProcessLog { taskmanager, text, position }),
            (taskmanager, Err(error)) => {
                logs.silent.push(SilentTaskManager { taskmanager, host, reason: error.to_string() });
            }
        }
    }
    Ok(Json(logs))
}

/// The taskmanagers that have run an attempt. None if that is not known: it is of the last attempt only.
fn placed(facts: &JobFacts, attempt: Option<Attempt>) -> Option<BTreeSet<TaskManagerId>> {
    let is_last = facts.was_started() && attempt == Some(facts.attempt);
    is_last.then(|| facts.placed.iter().map(|placed| placed.taskmanager.clone()).collect())
}
