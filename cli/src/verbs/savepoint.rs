//! `tidegate savepoint`, and how an operation of the jobmanager is asked for.

use tidegate_protocol::{Error, JobId, Result};
use tidegate_rest::jobs::{Operation, SavepointRequest, Triggered};

use super::check::check;
use super::watch::Watch;
use super::{Session, absolute_path};
use crate::options::{SavepointOptions, SavepointVerb};
use crate::output::{answer, answer_json};

/// Makes a savepoint, waits for it and prints its path.
pub(crate) fn savepoint(session: Session, options: &SavepointOptions) -> Result<()> {
    match &options.verb {
        Some(SavepointVerb::Check(options)) => check(session, options),
        None => make(&session, options),
    }
}

fn make(session: &Session, options: &SavepointOptions) -> Result<()> {
    let target_directory = options.directory.as_deref().map(absolute_path).transpose()?;
    // Without a subcommand there is a job: the command line has been checked.
    let job = session.find_called(options.job.as_deref().unwrap_or_default())?;
    let request = SavepointRequest { target_directory };
    let triggered: Triggered = session.client.post(&format!("/v1/jobs/{job}/savepoints"), &request)?;
    let operation = Watch::new().until(|progress| {
        let operation = session.operation(job, &triggered)?;
        let is_over = is_over(&operation);
        if !is_over {
            progress.show("waiting for the savepoint", &reason(&operation), "");
        }
        Ok(is_over.then_some(operation))
    })?;
    if let Some(cause) = operation.failure_cause {
        return Err(Error::job(format!("no savepoint of the job {job} was made: {cause}")));
    }
    let Some(path) = operation.location else {
        return Err(Error::internal(format!("the savepoint of the job {job} is complete but has no path")));
    };
    if session.is_json() {
        answer_json(&serde_json::json!({"path": path}))?;
    } else {
        answer(format_args!("{path}\n"))?;
    }
    Ok(())
}

impl Session {
    /// How far a savepoint or a stop is.
    pub(super) fn operation(&self, job: JobId, triggered: &Triggered) -> Result<Operation> {
        self.client.get(&format!("/v1/jobs/{job}/savepoints/{}", triggered.request_id))
    }
}

pub(super) fn is_over(operation: &Operation) -> bool {
    operation.status == "COMPLETED"
}

/// What an operation waits for, behind a colon.
pub(super) fn reason(operation: &Operation) -> String {
    operation.waits_for.as_ref().map_or_else(String::new, |what| format!(": {what}"))
}
