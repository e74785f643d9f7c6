//! `tidegate rescale`.

use serde::de::IgnoredAny;
use tidegate_protocol::{Error, Result};
use tidegate_rest::jobs::{JobDetails, JobState, ResourceRequirements};

use super::Session;
use super::watch::{Watch, show_job};
use crate::options::RescaleOptions;
use crate::output::{answer, answer_json};
use crate::parse::Parallelism;

/// Changes the parallelism of a job, and waits until it runs with it.
pub(crate) fn rescale(session: &Session, options: &RescaleOptions) -> Result<()> {
    let job = session.find(&options.job)?;
    let target = format!("/v1/jobs/{job}/resource-requirements");
    let (parallelism, auto) = match options.parallelism {
        Parallelism::Of(parallelism) => (parallelism, false),
        // It begins with the number of now.
        Parallelism::Auto => (session.client.get::<ResourceRequirements>(&target)?.parallelism, true),
    };
    let IgnoredAny = session.client.put(&target, &ResourceRequirements { parallelism, auto })?;
    if auto {
        return is_automatic(session, &session.details(job)?);
    }
    let details = if options.detached {
        session.details(job)?
    } else {
        Watch::new().until(|progress| {
            let details = session.details(job)?;
            show_job(progress, &details);
            if details.summary.state.is_over() {
                return Err(over(&details));
            }
            let wanted: ResourceRequirements = session.client.get(&target)?;
            if wanted.parallelism != parallelism {
                return Err(superseded(&details, wanted.parallelism));
            }
            Ok(runs_with(&details, parallelism).then_some(details))
        })?
    };
    let (name, attempt) = (&details.summary.name, details.summary.attempt);
    if session.is_json() {
        answer_json(
            &serde_json::json!({"id": job, "parallelism": parallelism, "state": details.summary.state}),
        )?;
    } else if options.detached {
        answer(format_args!("Job {name} ({job}) is to run with parallelism {parallelism}.\n"))?;
    } else {
        answer(format_args!("Job {name} ({job}) runs with parallelism {parallelism}, attempt {attempt}.\n"))?;
    }
    Ok(())
}

/// Nothing has to be waited for: the job goes on, and is rescaled when another number suits it.
fn is_automatic(session: &Session, details: &JobDetails) -> Result<()> {
    let summary = &details.summary;
    if session.is_json() {
        let (id, parallelism, state) = (summary.jid, summary.parallelism, summary.state);
        return answer_json(
            &serde_json::json!({"id": id, "parallelism": parallelism, "auto": true, "state": state}),
        )
        .map(drop);
    }
    answer(format_args!(
        "Job {} ({}) has parallelism {}, which follows its partitions and the slots there are from now on.\n",
        summary.name, summary.jid, summary.parallelism
    ))
    .map(drop)
}

/// Whether the workers that run are as many as asked for. The attempt before the change may still be shown.
fn runs_with(details: &JobDetails, parallelism: u32) -> bool {
    let workers: usize = details.processes.iter().map(|process| process.slots.len()).sum();
    details.summary.state == JobState::Running
        && details.summary.parallelism == parallelism
        && workers == parallelism as usize
}

fn superseded(details: &JobDetails, wanted: u32) -> Error {
    let summary = &details.summary;
    Error::job(format!(
        "another command has changed the parallelism of the job {} ({}) to {wanted} meanwhile",
        summary.name, summary.jid
    ))
}

fn over(details: &JobDetails) -> Error {
    let cause = details.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.cause));
    let summary = &details.summary;
    Error::job(format!("the job {} ({}) is {}{cause}", summary.name, summary.jid, summary.state))
}
