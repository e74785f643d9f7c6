//! The cluster as a whole.

use std::sync::Arc;

use axum::extract::State as Given;
use tidegate_control::cluster::{Brain, Ending};
use tidegate_rest::cluster::{Overview, TaskManager, TaskManagers};

use super::State;
use super::answer::Answered;
use super::extract::Json;

/// Totals of the cluster.
#[utoipa::path(
    get,
    path = "/overview",
    responses((status = 200, description = "The totals", body = Overview))
)]
pub(super) async fn overview(Given(state): Given<Arc<State>>) -> Answered<Overview> {
    Ok(Json(state.driver.look(totals).await?))
}

fn totals(brain: &Brain) -> Overview {
    let connected: Vec<_> = brain.taskmanagers().into_iter().filter(|t| t.connected).collect();
    let mut totals = Overview {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taskmanagers: connected.len() as u32,
        slots_total: connected.iter().map(|t| t.slots).sum(),
        slots_available: connected.iter().map(|t| t.free).sum(),
        ..Overview::default()
    };
    for facts in brain.ledger().jobs.values() {
        match facts.ended.as_ref().map(|(ending, _)| ending) {
            None => totals.jobs_running += 1,
            Some(Ending::Finished { .. }) => totals.jobs_finished += 1,
            Some(Ending::Canceled) => totals.jobs_cancelled += 1,
            Some(Ending::Failed { .. }) => totals.jobs_failed += 1,
        }
    }
    totals
}

/// Lists the taskmanagers.
#[utoipa::path(
    get,
    path = "/taskmanagers",
    responses((status = 200, description = "All that the jobmanager knows", body = TaskManagers))
)]
pub(super) async fn taskmanagers(Given(state): Given<Arc<State>>) -> Answered<TaskManagers> {
    let all = state.driver.look(Brain::taskmanagers).await?;
    let taskmanagers = all.into_iter().map(|t| TaskManager {
        id: t.id.to_string(),
        pid: t.pid,
        address: t.address,
        slots: t.slots,
        free: t.free,
        state: if t.connected { "CONNECTED" } else { "LOST" }.to_owned(),
    });
    Ok(Json(TaskManagers { taskmanagers: taskmanagers.collect() }))
}
