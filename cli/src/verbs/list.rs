//! `tidegate list`.

use tidegate_protocol::Result;
use tidegate_rest::jobs::{JobState, JobSummary, Jobs};

use super::{JobInList, Session};
use crate::options::ListOptions;
use crate::output::{Table, answer, answer_json, say, span, utc};

/// Lists jobs.
pub(crate) fn list(session: &Session, options: &ListOptions) -> Result<()> {
    let mut jobs: Jobs = session.client.get("/v1/jobs/overview")?;
    let number = jobs.jobs.len();
    jobs.jobs.retain(|job| is_shown(options, job));
    if session.is_json() {
        answer_json(&jobs.jobs.iter().map(JobInList::from).collect::<Vec<_>>())?;
        return Ok(());
    }
    if !jobs.jobs.is_empty() {
        answer(table(&jobs.jobs))?;
    } else if number > 0 {
        say(format_args!(
            "No job {}; 'tidegate list -a' lists {number} more.",
            if options.running { "runs" } else { "runs or waits" }
        ));
    } else {
        say("No job was submitted yet; 'tidegate run' submits one.");
    }
    Ok(())
}

fn is_shown(options: &ListOptions, job: &JobSummary) -> bool {
    if options.running { job.state == JobState::Running } else { options.all || !job.state.is_over() }
}

fn table(jobs: &[JobSummary]) -> Table {
    let mut table = Table::new(["ID", "NAME", "STATE", "WORKERS", "ATTEMPT", "SUBMITTED", "DURATION"]);
    for job in jobs {
        table.row([
            job.jid.to_string(),
            job.name.clone(),
            job.state.to_string(),
            job.parallelism.to_string(),
            job.attempt.to_string(),
            utc(job.start_time),
            span(job.duration),
        ]);
    }
    table
}
