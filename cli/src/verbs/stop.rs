//! `tidegate stop` and `tidegate cancel`.

use serde::de::IgnoredAny;
use tidegate_protocol::{Error, ErrorKind, JobId, Result};
use tidegate_rest::jobs::{JobDetails, JobState, Operation, StopRequest, Triggered};

use super::savepoint::{is_over, reason};
use super::watch::{Watch, show_job};
use super::{Session, absolute_path};
use crate::options::{JobOption, StopOptions};
use crate::output::{answer, answer_json};
use crate::progress::Progress;

/// Stops a job, and waits until it is over.
pub(crate) fn stop(session: &Session, options: &StopOptions) -> Result<()> {
    let target_directory = options.savepoint_path.as_deref().map(absolute_path).transpose()?;
    let job = session.find(&options.job)?;
    let request = StopRequest { drain: options.drain, target_directory };
    let triggered: Triggered = session.client.post(&format!("/v1/jobs/{job}/stop"), &request)?;
    let mut watch = Watch::new();
    let (details, operation) = watch.until(|progress| stopped(session, job, &triggered, progress))?;
    drop(watch);
    if details.summary.state != JobState::Finished {
        return Err(Error::job(unexpected_end(&details)));
    }
    if let Some(cause) = operation.as_ref().and_then(|operation| operation.failure_cause.as_ref()) {
        return Err(Error::job(without_savepoint(&details, cause)));
    }
    let path = operation.and_then(|operation| operation.location);
    if session.is_json() {
        let over = serde_json::json!({"id": job, "state": details.summary.state, "path": path});
        answer_json(&over)?;
    } else if let Some(path) = path {
        answer(format_args!("{path}\n"))?;
    } else {
        answer(format_args!("Job {} ({job}) has finished.\n", details.summary.name))?;
    }
    Ok(())
}

/// The job when it is over, and what has become of the stop. A jobmanager that was restarted meanwhile may know nothing of
/// the stop any more; the job is what counts.
pub(super) fn stopped(
    session: &Session,
    job: JobId,
    triggered: &Triggered,
    progress: &mut Progress,
) -> Result<Option<(JobDetails, Option<Operation>)>> {
    let details = session.details(job)?;
    let operation = match session.operation(job, triggered) {
        Ok(operation) => Some(operation),
        Err(error) if error.kind() == ErrorKind::Job => None,
        Err(error) => return Err(error),
    };
    if details.summary.state.is_over() && operation.as_ref().is_none_or(is_over) {
        return Ok(Some((details, operation)));
    }
    match operation {
        Some(Operation { failure_cause: Some(cause), .. }) => {
            Err(Error::job(format!("the job {} ({job}) was not stopped: {cause}", details.summary.name)))
        }
        Some(operation) => {
            let what = format!("waiting until {} is over", details.summary.name);
            progress.show(&what, &reason(&operation), "");
            Ok(None)
        }
        None => {
            show_job(progress, &details);
            Ok(None)
        }
    }
}

/// Why a job has stopped without the savepoint that was wanted.
fn without_savepoint(details: &JobDetails, cause: &str) -> String {
    let JobDetails { summary, checkpoint_directory: directory, .. } = details;
    format!(
        "the job {} ({}) has stopped, but without a savepoint: {cause}; its last checkpoint is in {directory}, from which -s goes \
         on, too",
        summary.name, summary.jid
    )
}

/// Why a job that was to finish has not.
pub(super) fn unexpected_end(details: &JobDetails) -> String {
    let (name, id) = (&details.summary.name, details.summary.jid);
    match &details.failure {
        Some(failure) if details.summary.state == JobState::Failed => {
            format!("the job {name} ({id}) has failed instead: {}", failure.cause)
        }
        _ => format!("the job {name} ({id}) is {} instead of FINISHED", details.summary.state),
    }
}

/// Ends a job at once, and waits until it is over.
pub(crate) fn cancel(session: &Session, job: &JobOption) -> Result<()> {
    let job = session.find(job)?;
    let details = canceled(session, job)?;
    let summary = &details.summary;
    if session.is_json() {
        answer_json(&serde_json::json!({"id": job, "state": summary.state}))?;
    } else {
        answer(format_args!("Job {} ({job}) is {}.\n", summary.name, summary.state))?;
    }
    Ok(())
}

/// Ends a job at once; the job when it is over.
pub(super) fn canceled(session: &Session, job: JobId) -> Result<JobDetails> {
    let IgnoredAny = session.client.patch(&format!("/v1/jobs/{job}?mode=cancel"), &())?;
    Watch::new().until(|progress| {
        let details = session.details(job)?;
        show_job(progress, &details);
        Ok(details.summary.state.is_over().then_some(details))
    })
}
