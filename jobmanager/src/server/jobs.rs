//! Jobs.

use std::sync::Arc;

use axum::extract::State as Given;
use serde::{Deserialize, Serialize};
use tidegate_control::cluster::{Answer, Brain, Ending, JobFacts, JobView, OperationView, Request};
use tidegate_protocol::{Attempt, Error, JobId};
use tidegate_rest::jobs::{
    CheckpointCounts, CheckpointInProgress, CheckpointSummary, Checkpoints, JobDetails, JobFailure,
    JobFailures, JobProcess, JobSummary, Jobs, Operation, ResourceRequirements, SavepointRequest,
    StopRequest, Triggered,
};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::answer::{Answered, Wrong};
use super::executables::blocking;
use super::extract::{Json, Path, Query};
use crate::driver::wall_ms;

/// The job that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfJob {
    /// The id of the job, 32 hexadecimal digits.
    job: String,
}

impl OfJob {
    pub(super) fn id(&self) -> Result<JobId, Wrong> {
        self.job.parse().map_err(Wrong::invalid)
    }
}

fn unknown(job: JobId) -> Wrong {
    Wrong::not_found(format!("there is no job {job}; 'tidegate list -a' shows all jobs"))
}

/// Looks at a job.
pub(super) async fn look<R: Send + 'static>(
    state: &State,
    of: &OfJob,
    look: impl FnOnce(&JobView, &JobFacts) -> R + Send + 'static,
) -> Result<R, Wrong> {
    let id = of.id()?;
    let found =
        state.driver.look(move |brain| Some(look(&brain.job(id)?, brain.ledger().jobs.get(&id)?))).await?;
    found.ok_or_else(|| unknown(id))
}

/// Asks for something about a job, which must be there.
async fn ask(state: &State, of: &OfJob, request: impl FnOnce(JobId) -> Request) -> Result<Answer, Wrong> {
    look(state, of, |_, _| ()).await?;
    Ok(state.driver.request(request(of.id()?)).await?)
}

/// Lists all jobs, as `/v1/jobs/overview` does.
#[utoipa::path(
    get,
    operation_id = "jobs",
    path = "/",
    responses((status = 200, description = "All jobs", body = Jobs))
)]
pub(super) async fn all(state: Given<Arc<State>>) -> Answered<Jobs> {
    overview(state).await
}

/// Lists all jobs.
#[utoipa::path(
    get,
    operation_id = "jobs_overview",
    path = "/overview",
    responses((status = 200, description = "All jobs", body = Jobs))
)]
pub(super) async fn overview(Given(state): Given<Arc<State>>) -> Answered<Jobs> {
    let jobs = state.driver.look(|brain: &Brain| {
        let all = brain.ledger().jobs.iter();
        let mut jobs: Vec<_> = all.filter_map(|(id, facts)| Some(summary(&brain.job(*id)?, facts))).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.start_time));
        jobs
    });
    Ok(Json(Jobs { jobs: jobs.await? }))
}

pub(super) fn summary(view: &JobView, facts: &JobFacts) -> JobSummary {
    let end = facts.ended.as_ref().map(|(_, at_ms)| *at_ms);
    let start = facts.spec.submitted_at_ms;
    JobSummary {
        jid: view.job,
        name: facts.spec.name.clone(),
        state: view.state,
        start_time: start,
        end_time: end,
        duration: end.unwrap_or_else(wall_ms).saturating_sub(start),
        parallelism: view.parallelism,
        attempt: view.attempt.0,
    }
}

/// Describes a job.
#[utoipa::path(
    get,
    path = "/",
    params(OfJob),
    responses((status = 200, description = "The job", body = JobDetails))
)]
pub(super) async fn details(Given(state): Given<Arc<State>>, Path(of): Path<OfJob>) -> Answered<JobDetails> {
    let store = state.store.clone();
    let details = look(&state, &of, move |view, facts| JobDetails {
        summary: summary(view, facts),
        auto_parallelism: facts.auto_parallelism,
        max_parallelism: facts.spec.key_groups.count.into(),
        waits_for: view.waits_for.clone(),
        failure: failure(view, facts),
        restarts: view.restarts,
        processes: view.processes.iter().map(process).collect(),
        checkpoints: counts(view),
        totals: view.totals(facts),
        executable: facts.spec.program.sha256.clone(),
        arguments: facts.spec.program.arguments.clone(),
        checkpoint_directory: store.place_of(view.job),
    });
    Ok(Json(details.await?))
}

/// Why the job has failed, or else its last attempt.
fn failure(view: &JobView, facts: &JobFacts) -> Option<JobFailure> {
    if let Some((Ending::Failed { cause }, timestamp)) = &facts.ended {
        return Some(JobFailure { attempt: view.attempt.0, cause: cause.clone(), timestamp: *timestamp });
    }
    view.failures.first().map(of_attempt)
}

fn of_attempt((attempt, cause, timestamp): &(Attempt, String, u64)) -> JobFailure {
    JobFailure { attempt: attempt.0, cause: cause.clone(), timestamp: *timestamp }
}

fn process(process: &tidegate_control::cluster::ProcessView) -> JobProcess {
    JobProcess {
        taskmanager: process.taskmanager.to_string(),
        pid: process.pid,
        slots: process.slots.iter().map(|slot| slot.0).collect(),
    }
}

fn counts(view: &JobView) -> CheckpointCounts {
    CheckpointCounts {
        completed: view.completed,
        aborted: view.aborted,
        last_epoch: view.last_epoch.map(|epoch| epoch.0),
    }
}

/// What a cancel may be asked by, as in Flink; any other mode is refused.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Mode {
    /// Only `cancel`, which is the default.
    mode: Option<String>,
}

/// An empty answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Empty {}

/// Ends a job at once, without a last checkpoint.
#[utoipa::path(
    patch,
    path = "/",
    params(OfJob, Mode),
    responses((status = 200, description = "The job is about to end", body = Empty))
)]
pub(super) async fn cancel(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
    Query(Mode { mode }): Query<Mode>,
) -> Answered<Empty> {
    if let Some(other) = mode.filter(|mode| mode != "cancel") {
        return Err(Wrong::invalid(format!("mode={other} is invalid: the only mode is cancel")));
    }
    ask(&state, &of, Request::Cancel).await?;
    Ok(Json(Empty {}))
}

/// Lists the checkpoints of the running attempt of a job.
#[utoipa::path(
    get,
    path = "/checkpoints",
    params(OfJob),
    responses((status = 200, description = "The checkpoints", body = Checkpoints))
)]
pub(super) async fn checkpoints(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
) -> Answered<Checkpoints> {
    let checkpoints = look(&state, &of, |view, _| Checkpoints {
        counts: counts(view),
        in_progress: view.in_flight.as_ref().map(|(epoch, phase, duration, missing)| CheckpointInProgress {
            epoch: epoch.0,
            phase: phase.clone(),
            duration: *duration,
            missing: missing.iter().map(|slot| slot.0).collect(),
        }),
        history: view.checkpoints.iter().map(checkpoint).collect(),
    });
    Ok(Json(checkpoints.await?))
}

fn checkpoint(view: &tidegate_control::cluster::CheckpointView) -> CheckpointSummary {
    CheckpointSummary {
        epoch: view.epoch.0,
        status: if view.failure.is_none() { "COMPLETED" } else { "FAILED" }.to_owned(),
        trigger_timestamp: view.triggered_at_ms,
        duration: view.duration_ms,
        state_size: view.bytes,
        failure: view.failure.clone(),
    }
}

/// Lists the failures of a job.
#[utoipa::path(
    get,
    path = "/exceptions",
    params(OfJob),
    responses((status = 200, description = "The failures", body = JobFailures))
)]
pub(super) async fn exceptions(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
) -> Answered<JobFailures> {
    let exceptions = look(&state, &of, |view, _| view.failures.iter().map(of_attempt).collect());
    Ok(Json(JobFailures { exceptions: exceptions.await? }))
}

fn triggered(answer: &Answer) -> Answered<Triggered> {
    match answer {
        Answer::Operation(number) => Ok(Json(Triggered { request_id: number.to_string() })),
        _ => Err(Error::internal("an operation was asked for").into()),
    }
}

/// Makes a savepoint of a job that runs on.
#[utoipa::path(
    post,
    path = "/savepoints",
    params(OfJob),
    request_body = SavepointRequest,
    responses((status = 200, description = "The savepoint is being made", body = Triggered))
)]
pub(super) async fn savepoint(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
    Json(request): Json<SavepointRequest>,
) -> Answered<Triggered> {
    let directory = request.target_directory.unwrap_or_default();
    check_savepoint_place(&state, directory.clone()).await?;
    triggered(&ask(&state, &of, |job| Request::Savepoint { job, directory }).await?)
}

async fn check_savepoint_place(state: &State, directory: String) -> Result<(), Error> {
    let store = state.store.clone();
    blocking(move || store.check_savepoint_place(&directory)).await
}

/// Ends a job after a last checkpoint.
#[utoipa::path(
    post,
    path = "/stop",
    params(OfJob),
    request_body = StopRequest,
    responses((status = 200, description = "The job is stopping", body = Triggered))
)]
pub(super) async fn stop(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
    Json(request): Json<StopRequest>,
) -> Answered<Triggered> {
    let StopRequest { drain, target_directory: savepoint } = request;
    check_savepoint_place(&state, savepoint.clone().unwrap_or_default()).await?;
    triggered(&ask(&state, &of, |job| Request::Stop { job, drain, savepoint }).await?)
}

/// An operation of a job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfOperation {
    /// The id of the job, 32 hexadecimal digits.
    job: String,
    /// The `request-id` of the answer by which the operation was triggered.
    request: String,
}

/// Says how far a savepoint or a stop is.
#[utoipa::path(
    get,
    path = "/savepoints/{request}",
    params(OfOperation),
    responses((status = 200, description = "The operation", body = Operation))
)]
pub(super) async fn operation(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfOperation>,
) -> Answered<Operation> {
    let id = OfJob { job: of.job }.id()?;
    let none = || {
        Wrong::not_found(format!(
            "job {id} has no operation {}; operations that were under way are forgotten when the jobmanager is started again: \
             ask for it again",
            of.request
        ))
    };
    let number: u64 = of.request.parse().map_err(|_| none())?;
    let found = state.driver.look(move |brain| brain.operation(id, number)).await?;
    let new = |status: &str| Operation {
        status: status.to_owned(),
        waits_for: None,
        location: None,
        failure_cause: None,
    };
    Ok(Json(match found.ok_or_else(none)? {
        OperationView::InProgress(why) => Operation { waits_for: Some(why), ..new("IN_PROGRESS") },
        OperationView::Completed(location) => Operation { location, ..new("COMPLETED") },
        OperationView::Failed(cause) => Operation { failure_cause: Some(cause), ..new("COMPLETED") },
    }))
}

/// Says which parallelism a job has, or is to have.
#[utoipa::path(
    get,
    path = "/resource-requirements",
    params(OfJob),
    responses((status = 200, description = "The parallelism", body = ResourceRequirements))
)]
pub(super) async fn requirements(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
) -> Answered<ResourceRequirements> {
    Ok(Json(
        look(&state, &of, |_, facts| ResourceRequirements {
            parallelism: facts.parallelism,
            auto: facts.auto_parallelism,
        })
        .await?,
    ))
}

/// Stops a job after a checkpoint, and starts it with another parallelism.
#[utoipa::path(
    put,
    path = "/resource-requirements",
    params(OfJob),
    request_body = ResourceRequirements,
    responses((status = 200, description = "The parallelism that it will have", body = ResourceRequirements))
)]
pub(super) async fn rescale(
    Given(state): Given<Arc<State>>,
    Path(of): Path<OfJob>,
    Json(wanted): Json<ResourceRequirements>,
) -> Answered<ResourceRequirements> {
    let ResourceRequirements { parallelism, auto } = wanted;
    ask(&state, &of, |job| Request::Rescale { job, parallelism, auto }).await?;
    Ok(Json(wanted))
}
