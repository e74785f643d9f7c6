//! `tidegate checkpoints`.

use tidegate_protocol::Result;
use tidegate_rest::jobs::{CheckpointInProgress, CheckpointSummary, Checkpoints};

use super::Session;
use crate::options::JobOption;
use crate::output::{Table, answer, answer_json, bytes, snake_case, span, utc};

/// Shows the checkpoints of a job.
pub(crate) fn checkpoints(session: &Session, job: &JobOption) -> Result<()> {
    let job = session.find(job)?;
    let checkpoints: Checkpoints = session.client.get(&format!("/v1/jobs/{job}/checkpoints"))?;
    if session.is_json() {
        answer_json(&snake_case(&checkpoints)?)?;
        return Ok(());
    }
    let counts = &checkpoints.counts;
    answer(format_args!("{} completed, {} aborted\n", counts.completed, counts.aborted))?;
    if checkpoints.in_progress.is_some() || !checkpoints.history.is_empty() {
        answer(table(&checkpoints))?;
    }
    Ok(())
}

fn table(checkpoints: &Checkpoints) -> Table {
    let mut table = Table::new(["EPOCH", "STATUS", "TRIGGERED", "DURATION", "STATE", "REMARK"]);
    if let Some(CheckpointInProgress { epoch, phase, duration, missing }) = &checkpoints.in_progress {
        let slots: Vec<String> = missing.iter().map(u32::to_string).collect();
        let remark =
            if slots.is_empty() { String::new() } else { format!("waits for workers {}", slots.join(" ")) };
        table.row([
            epoch.to_string(),
            phase.clone(),
            "-".to_owned(),
            span(*duration),
            "-".to_owned(),
            remark,
        ]);
    }
    for checkpoint in &checkpoints.history {
        let CheckpointSummary { epoch, status, trigger_timestamp, duration, state_size, failure } =
            checkpoint;
        table.row([
            epoch.to_string(),
            status.clone(),
            utc(*trigger_timestamp),
            span(*duration),
            bytes(*state_size),
            failure.clone().unwrap_or_default(),
        ]);
    }
    table
}
