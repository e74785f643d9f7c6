//! `tidegate savepoint check`.

use tidegate_protocol::{Error, Result};
use tidegate_rest::executables::{CheckReply, CheckRequest};

use super::run::{called, time_for, upload};
use super::{Session, absolute_path};
use crate::options::CheckOptions;
use crate::output::{Table, answer, answer_json, say, snake_case};
use crate::progress::Progress;

/// Says operator by operator whether a job could go on from a snapshot.
pub(crate) fn check(session: Session, options: &CheckOptions) -> Result<()> {
    let session = session.with_timeout(time_for(&options.executable));
    let progress = Progress::new();
    let executable = upload(&session, &options.executable, &progress)?;
    progress.hint("the cluster looks at the job and the snapshot");
    let request = CheckRequest {
        executable: Some(called(&options.executable)),
        directory: Some(absolute_path(".")?),
        arguments: options.arguments.clone(),
        snapshot: absolute_path(&options.snapshot)?,
    };
    let reply: CheckReply =
        session.client.post(&format!("/v1/executables/{}/check", executable.id), &request)?;
    drop(progress);
    if session.is_json() {
        answer_json(&snake_case(&reply)?)?;
    } else {
        answer(table(&reply))?;
        // What is refused changes nothing.
        reply.changes.iter().filter(|_| reply.fits).for_each(say);
    }
    match reply.problem {
        Some(problem) => Err(Error::job(problem)),
        None => Ok(()),
    }
}

fn table(reply: &CheckReply) -> Table {
    let mut table = Table::new(["OPERATOR", "KIND", "FITS", "WITH THE SNAPSHOT"]);
    for operator in &reply.operators {
        let fits = if operator.fits { "yes" } else { "no" };
        table.row([operator.uid.clone(), operator.kind.clone(), fits.to_owned(), operator.outcome.clone()]);
    }
    table
}
