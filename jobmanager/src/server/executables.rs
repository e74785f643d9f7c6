//! Executables: how they are uploaded, described and run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State as Given};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tidegate_access::Accepted;
use tidegate_control::cluster::{Answer, Brain, JobFacts, JobSettings, Request as Asked, RunJob};
use tidegate_control::rules::{changes, check_fits, check_unfinished, operators_fit};
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Error, ErrorContext, JobId, Plan};
use tidegate_rest::executables::{
    CheckReply, CheckRequest, Executable, OperatorCheck, PlanRequest, RunReply, RunRequest,
};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::answer::{Answered, Wrong};
use super::auth::with_proof;
use super::extract::{Json, Path, Query};

/// A job's name is a cell of a table.
const NAME_CHARS_MAX: usize = 128;

/// The greatest length of an executable.
const EXECUTABLE_BYTES_MAX: u64 = 2 << 30;

/// How long an upload may take, whatever its length, and the bytes a second that it must have after that.
const GRACE: Duration = Duration::from_secs(30);
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// What the client says of the executable before it sends it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Announced {
    /// The SHA-256 of the executable, 64 hexadecimal digits.
    sha256: String,
}

/// Uploads an executable, which is the body.
#[utoipa::path(
    post,
    path = "/executables",
    params(Announced),
    request_body(content = inline(Content), content_type = "application/octet-stream"),
    responses((status = 200, description = "The executable is in the checkpoint store", body = Executable))
)]
pub(super) async fn upload(
    Given(state): Given<Arc<State>>,
    Query(announced): Query<Announced>,
    request: Request,
) -> Result<Response, Wrong> {
    let (parts, body) = request.into_parts();
    // Nothing is read of what a stranger sends.
    let Accepted { proof, body_sha256 } = state.auth.check(&parts)?;
    // Whoever has sent the executable is to believe what has gone wrong, too.
    let received = receive(&state, announced.sha256.to_lowercase(), body_sha256, body).await;
    Ok(with_proof(received.map(Json).into_response(), &proof))
}

/// Receives an executable with this id, the text of its hash, whose body was signed with that hash.
async fn receive(state: &State, id: String, signed: [u8; 32], body: Body) -> Result<Executable, Wrong> {
    let expected = digest(&id).ok_or_else(|| {
        Wrong::invalid("sha256 must be 64 hexadecimal digits, the SHA-256 of the executable")
    })?;
    if expected != signed {
        return Err(Wrong::invalid(
            "sha256 is another one than that of the body in the Authorization header",
        ));
    }
    check_length(body.size_hint().lower())?;
    let unfinished = Unfinished(part(state, &id));
    let part = &unfinished.0;
    let mut file = tokio::fs::File::create(part).await.context(|| format!("write {}", part.display()))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut pieces = body.into_data_stream();
    let began = Instant::now();
    loop {
        let until = began + GRACE + Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND_MIN);
        let Ok(piece) = timeout_at(until, pieces.next()).await else {
            let text = format!(
                "the executable comes too slowly: after {bytes} bytes there were fewer than {} KB a second",
                UPLOAD_BYTES_PER_SECOND_MIN >> 10
            );
            return Err(Wrong::new(StatusCode::REQUEST_TIMEOUT, text));
        };
        let Some(piece) = piece else { break };
        let piece = piece
            .map_err(|e| Wrong::invalid(format!("the executable was cut off after {bytes} bytes: {e}")))?;
        bytes += piece.len() as u64;
        check_length(bytes)?;
        hash.update(&piece);
        file.write_all(&piece).await.context(|| format!("write {}", part.display()))?;
    }
    file.sync_all().await.context(|| format!("write {}", part.display()))?;
    if hash.finalize()[..] != expected {
        return Err(Wrong::invalid("the executable is another one than its SHA-256 says; send it again"));
    }
    let (store, kept) = (state.store.clone(), id.clone());
    blocking(move || store.keep_executable(&unfinished.0, &kept)).await?;
    Ok(Executable { id, bytes })
}

fn check_length(bytes: u64) -> Result<(), Wrong> {
    if bytes <= EXECUTABLE_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "the upload is larger than {} MB, the limit of an executable: build it without debug information, or remove that \
         with 'strip'",
        EXECUTABLE_BYTES_MAX >> 20
    );
    Err(Wrong::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}

/// The file of an upload, which goes with it if it does not come to its end: the client may also be gone in the middle of it.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more if it was kept.
        drop(std::fs::remove_file(&self.0));
    }
}

/// The body of an upload, in the document.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
struct Content(#[allow(dead_code, reason = "it is only described")] Vec<u8>);

/// Where an executable is written until it is whole.
fn part(state: &State, id: &str) -> PathBuf {
    let number = state.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    state.store.upload(id, number)
}

/// Does something that waits for the checkpoint store.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(e.to_string()))?
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(digest)
}

/// An executable that was uploaded, with arguments.
async fn program(
    state: &State,
    id: &str,
    (name, directory): (Option<String>, Option<String>),
    arguments: Vec<String>,
) -> Result<Program, Wrong> {
    let unknown = || {
        Wrong::not_found(format!("there is no executable '{id}'; upload it first, with POST /v1/executables"))
    };
    digest(id).ok_or_else(unknown)?;
    let (store, kept) = (state.store.clone(), id.to_owned());
    if !blocking(move || store.has_executable(&kept)).await? {
        return Err(unknown());
    }
    let name = name.unwrap_or_else(|| "the executable".to_owned());
    Ok(Program { name, sha256: id.to_owned(), path: state.store.executable(id), arguments, directory })
}

/// The executable that a path names.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OfExecutable {
    /// The SHA-256 of the executable, 64 hexadecimal digits.
    id: String,
}

/// Has an executable describe its job.
#[utoipa::path(
    post,
    path = "/executables/{id}/plan",
    params(OfExecutable),
    request_body = PlanRequest,
    responses((status = 200, description = "The plan", body = Plan))
)]
pub(super) async fn plan(
    Given(state): Given<Arc<State>>,
    Path(OfExecutable { id }): Path<OfExecutable>,
    Json(request): Json<PlanRequest>,
) -> Answered<Plan> {
    let program = program(&state, &id, (request.executable, request.directory), request.arguments).await?;
    Ok(Json(describe(&state, program).await?))
}

async fn describe(state: &State, program: Program) -> Result<Plan, Error> {
    match state.driver.request(Asked::Describe(program)).await? {
        Answer::Plan(plan) => Ok(*plan),
        _ => Err(Error::internal("a plan was asked for")),
    }
}

/// Says whether a job could go on from a snapshot.
#[utoipa::path(
    post,
    path = "/executables/{id}/check",
    params(OfExecutable),
    request_body = CheckRequest,
    responses((status = 200, description = "Whether it fits", body = CheckReply))
)]
pub(super) async fn check(
    Given(state): Given<Arc<State>>,
    Path(OfExecutable { id }): Path<OfExecutable>,
    Json(request): Json<CheckRequest>,
) -> Answered<CheckReply> {
    let program = program(&state, &id, (request.executable, request.directory), request.arguments).await?;
    let plan = describe(&state, program).await?;
    let store = state.store.clone();
    let manifest = blocking(move || tidegate_snapshots::newest(&store.named(&request.snapshot)?)).await?;
    let fits = check_fits(&plan, &manifest).and_then(|()| check_unfinished(&manifest));
    let problem = fits.err().map(|error| error.to_string());
    let operators = operators_fit(&plan, &manifest).into_iter().map(|fit| OperatorCheck {
        uid: fit.uid,
        kind: fit.kind,
        fits: fit.outcome.is_ok(),
        outcome: fit.outcome.map_or_else(|error| error.to_string(), str::to_owned),
    });
    Ok(Json(CheckReply {
        fits: problem.is_none(),
        problem,
        epoch: manifest.epoch.0,
        operators: operators.collect(),
        changes: changes(&plan, &manifest),
    }))
}

/// Starts a job.
#[utoipa::path(
    post,
    path = "/executables/{id}/run",
    params(OfExecutable),
    request_body = RunRequest,
    responses((status = 200, description = "The job was accepted", body = RunReply))
)]
pub(super) async fn run(
    Given(state): Given<Arc<State>>,
    Path(OfExecutable { id }): Path<OfExecutable>,
    Json(request): Json<RunRequest>,
) -> Answered<RunReply> {
    let set = state.defaults.with(&request.settings)?;
    if request.parallelism == Some(0) {
        return Err(Wrong::invalid("a parallelism of 0 is invalid: it must be at least 1"));
    }
    let is_name = |name: &String| {
        (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control)
    };
    if request.name.as_ref().is_some_and(|name| !is_name(name)) {
        return Err(Wrong::invalid(format!(
            "the name of the job is invalid: it must have 1 to {NAME_CHARS_MAX} characters, and none of them may be a control \
             character"
        )));
    }
    let program = program(&state, &id, (request.executable, request.directory), request.arguments).await?;
    let (store, jobid) = (state.store.clone(), request.jobid);
    let is_known = state.driver.look(move |brain: &Brain| brain.ledger().jobs.contains_key(&jobid)).await?;
    let begins_anew = request.snapshot.is_none() && !is_known;
    blocking(move || store.create(jobid, begins_anew)).await?;
    let run = RunJob {
        job: request.jobid,
        program,
        parallelism: request.parallelism,
        snapshot: request.snapshot,
        allow_non_restored_state: request.allow_non_restored_state,
        name: request.name,
        interval_ms: set.interval_ms,
        retain: set.retain,
        settings: JobSettings { auto_parallelism: request.auto_parallelism, ..set.settings },
    };
    state.driver.request(Asked::Run(Box::new(run))).await?;
    let warnings = state.driver.look(move |brain: &Brain| warnings(brain, jobid)).await?;
    Ok(Json(RunReply { jobid, warnings }))
}

/// What the user of a job that was accepted should know.
fn warnings(brain: &Brain, job: JobId) -> Vec<String> {
    let jobs = &brain.ledger().jobs;
    let Some(facts) = jobs.get(&job) else { return Vec::new() };
    let mut warnings = facts.spec.plan.settings.warnings.clone();
    let slots: u32 = brain.taskmanagers().iter().filter(|t| t.connected).map(|t| t.slots).sum();
    let wanted = facts.parallelism;
    if wanted > slots {
        warnings.push(format!(
            "the job needs {wanted} slots and the cluster has {slots}: it waits until there are taskmanagers enough, or \
             'tidegate rescale' gives it another parallelism"
        ));
    }
    let widest = facts.spec.plan.widest_source();
    if let Some((uid, partitions)) = widest.filter(|(_, partitions)| wanted > (*partitions).max(1)) {
        let idle = wanted - partitions.max(1);
        warnings.push(format!(
            "the job has {wanted} workers, and its source with the most partitions, '{uid}', has {partitions}: {idle} of the workers \
             read nothing, and only take part in what follows a key_by or rebalance"
        ));
    }
    let name = &facts.spec.name;
    let is_another =
        |(id, other): &(&JobId, &JobFacts)| **id != job && other.ended.is_none() && other.spec.name == *name;
    if let Some((id, _)) = jobs.iter().find(is_another) {
        warnings
            .push(format!("another job is called {name}, too: {id}; --name gives a job a name of its own"));
    }
    warnings
}
