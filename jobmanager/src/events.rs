//! What the log of the jobmanager says about what happens to jobs, beside failures and checkpoints, of which the brain itself
//! tells.

use std::collections::BTreeSet;

use tidegate_control::cluster::{ClusterInput, Ending, Ledger, Record};

/// Writes a line about an input of the brain, if it is one that people look for. The ledger is as it is before the input.
pub(crate) fn log(input: &ClusterInput, ledger: &Ledger) {
    // What is committed about a job that is over changes nothing.
    let is_over = |job| ledger.jobs.get(job).is_some_and(|facts| facts.ended.is_some());
    let (job, text) = match input {
        ClusterInput::Committed(record) if !is_over(&record.job()) => (record.job(), of_record(record)),
        ClusterInput::SavepointWritten { job, result, .. } => (*job, Some(of_savepoint(result))),
        _ => return,
    };
    if let Some(text) = text {
        tracing::info!(target: "tidegate", "job {job}: {text}");
    }
}

fn of_record(record: &Record) -> Option<String> {
    Some(match record {
        Record::Submitted { spec, .. } => {
            let from = spec.restored.map_or_else(String::new, |(epoch, _)| {
                format!(", and goes on from a snapshot of epoch {epoch}")
            });
            format!("was submitted as {} with parallelism {}{from}", spec.name, spec.parallelism)
        }
        Record::AttemptStarted { attempt, placed, restored, .. } => {
            let workers: u32 = placed.iter().map(|placed| placed.workers).sum();
            let hosts: BTreeSet<&str> = placed.iter().map(|placed| &*placed.taskmanager.0).collect();
            let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
            let from = match restored {
                Some(epoch) => format!("from the snapshot of epoch {epoch}"),
                None => "without a snapshot".to_owned(),
            };
            format!("attempt {attempt} begins with parallelism {workers} on {hosts}, {from}")
        }
        Record::StopRequested { stop, .. } => {
            let what =
                if stop.drain { "is to read its input to the present end and stop" } else { "is to stop" };
            let savepoint = stop.savepoint.as_ref().map(|_| ", with a savepoint").unwrap_or_default();
            format!("{what}{savepoint}")
        }
        Record::Rescaled { parallelism, auto, .. } => {
            let auto = if *auto { ", which is automatic" } else { "" };
            format!("is to run with parallelism {parallelism}{auto}")
        }
        Record::Ended { ending: Ending::Finished { .. }, .. } => "has finished".to_owned(),
        Record::Ended { ending: Ending::Canceled, .. } => "was cancelled".to_owned(),
        Record::Ended { ending: Ending::Failed { cause }, .. } => format!("has failed for good: {cause}"),
        // One comes every second, or less.
        Record::Completed { .. } => return None,
        // The brain has said why.
        Record::Damaged { .. } => return None,
    })
}

fn of_savepoint(result: &Result<String, tidegate_protocol::Error>) -> String {
    match result {
        Ok(place) => format!("the savepoint {place} is complete"),
        Err(error) => format!("a savepoint could not be made: {error}"),
    }
}
