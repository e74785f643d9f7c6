//! The metrics of the cluster and its jobs, over HTTP. Those of operators and workers are served by the taskmanagers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tidegate_control::cluster::{Brain, JobFacts, JobView, TaskManagerView};
use tidegate_exposition::{Exposition, Family};
use tidegate_protocol::{ErrorContext, JobState, Result};
use tidegate_transport::Acceptor;

use crate::driver::{Driver, wall_ms};

/// How long the brain may be busy.
const PATIENCE: Duration = Duration::from_secs(5);

const TASKMANAGERS: Family =
    Family::gauge("tidegate_jobmanager_taskmanagers", "Taskmanagers that are connected.");
const SLOTS: Family =
    Family::gauge("tidegate_jobmanager_slots", "Slots of the taskmanagers that are connected.");
const SLOTS_AVAILABLE: Family =
    Family::gauge("tidegate_jobmanager_slots_available", "Those of them without a worker.");
const JOBS: Family = Family::gauge("tidegate_jobs", "Jobs in the state that the label names.");
const ATTEMPT: Family = Family::gauge("tidegate_job_attempt", "The attempt of the job; 0 before the first.");
const RESTARTS: Family =
    Family::counter("tidegate_job_restarts_total", "Attempts of the job after the first.");
const RUNNING: Family = Family::gauge("tidegate_job_running", "1 if all workers of the job run.");
const EPOCH: Family =
    Family::gauge("tidegate_job_epoch", "The last complete epoch. It should grow once an interval.");
const COMPLETED: Family = Family::counter(
    "tidegate_job_checkpoints_completed_total",
    "Checkpoints completed since the job's first start.",
);
const ABORTED: Family = Family::counter(
    "tidegate_job_checkpoints_aborted_total",
    "Checkpoints of the attempt that were aborted, since the start of the jobmanager.",
);
const SECONDS: Family = Family::gauge(
    "tidegate_job_checkpoint_seconds",
    "From the trigger of the last complete checkpoint until its output was visible.",
);
const BYTES: Family =
    Family::gauge("tidegate_job_checkpoint_bytes", "The size of the state in the last complete checkpoint.");
const AGE: Family = Family::gauge(
    "tidegate_job_checkpoint_age_seconds",
    "The time since the output of the last complete checkpoint was visible.",
);
const IN_FLIGHT: Family = Family::gauge(
    "tidegate_job_checkpoint_in_flight_seconds",
    "The time since the trigger of the checkpoint in flight; 0 if there is none.",
);
const PAUSE: Family = Family::gauge(
    "tidegate_job_last_pause_seconds",
    "How long the job did not run the last time, for a restart or a rescale, from when it had stopped to read until all workers ran.",
);

/// Starts to serve.
pub(crate) fn serve(address: SocketAddr, tls: Option<Acceptor>, driver: Driver) -> Result<()> {
    let listener = TcpListener::bind(address).context(|| {
        format!("cannot serve metrics at {address} (--metrics takes an address of this host that is free)")
    })?;
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tidegate_exposition::serve(listener, tls, move || {
        let seen = driver.look_and_wait(PATIENCE, |brain| (brain.taskmanagers(), jobs(brain)));
        seen.map_or_else(String::new, |(taskmanagers, jobs)| text(&taskmanagers, &jobs, wall_ms()))
    })?;
    tracing::info!(target: "tidegate", "metrics are served at {scheme}://{address}/metrics, to everybody who can connect");
    Ok(())
}

/// A job and its name.
struct Job {
    view: JobView,
    name: String,
}

fn jobs(brain: &Brain) -> Vec<Job> {
    let job =
        |(id, facts): (&_, &JobFacts)| Some(Job { view: brain.job(*id)?, name: facts.spec.name.clone() });
    brain.ledger().jobs.iter().filter_map(job).collect()
}

fn text(taskmanagers: &[TaskManagerView], jobs: &[Job], now_ms: u64) -> String {
    let mut all = Exposition::default();
    let connected: Vec<_> = taskmanagers.iter().filter(|t| t.connected).collect();
    let sum = |of: fn(&TaskManagerView) -> u32| connected.iter().map(|t| f64::from(of(t))).sum();
    all.add(TASKMANAGERS, &[], connected.len() as f64);
    all.add(SLOTS, &[], sum(|t| t.slots));
    all.add(SLOTS_AVAILABLE, &[], sum(|t| t.free));
    // All states, so that one without jobs is 0 instead of missing.
    let mut states: BTreeMap<JobState, u32> = JobState::ALL.map(|state| (state, 0)).into();
    jobs.iter().for_each(|job| *states.entry(job.view.state).or_default() += 1);
    for (state, count) in states {
        all.add(JOBS, &[("state", state.as_str())], f64::from(count));
    }
    // A job that is over would stay for ever.
    jobs.iter().filter(|job| !job.view.state.is_over()).for_each(|job| add_job(&mut all, job, now_ms));
    all.to_string()
}

fn add_job(all: &mut Exposition, Job { view, name }: &Job, now_ms: u64) {
    let id = view.job.to_string();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let mut add = |family, value| all.add(family, &[("job", name), ("job_id", &id)], value);
    add(ATTEMPT, f64::from(view.attempt.0));
    add(RESTARTS, f64::from(view.restarts));
    add(RUNNING, f64::from(u8::from(view.state == JobState::Running)));
    add(COMPLETED, view.completed as f64);
    add(ABORTED, view.aborted as f64);
    add(IN_FLIGHT, seconds(view.in_flight.as_ref().map_or(0, |(_, _, ms, _)| *ms)));
    if let Some(ms) = view.last_pause_ms {
        add(PAUSE, seconds(ms));
    }
    if let Some(epoch) = view.last_epoch {
        add(EPOCH, epoch.0 as f64);
    }
    if let Some(last) = view.checkpoints.iter().find(|checkpoint| checkpoint.failure.is_none()) {
        let visible_ms = last.triggered_at_ms.saturating_add(last.duration_ms);
        add(SECONDS, seconds(last.duration_ms));
        add(BYTES, last.bytes as f64);
        add(AGE, seconds(now_ms.saturating_sub(visible_ms)));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_control::cluster::CheckpointView;
    use tidegate_protocol::{Attempt, Epoch, JobId, TaskManagerId};

    use super::*;

    fn job(number: u8, state: JobState) -> Job {
        let checkpoint = |epoch, failure: Option<&str>| CheckpointView {
            epoch: Epoch(epoch),
            failure: failure.map(str::to_owned),
            triggered_at_ms: 10_000,
            duration_ms: 500,
            bytes: 77,
        };
        let view = JobView {
            job: JobId([number; 16]),
            state,
            restarts: 2,
            attempt: Attempt(3),
            parallelism: 2,
            last_pause_ms: Some(420),
            waits_for: None,
            failures: Vec::new(),
            processes: Vec::new(),
            completed: 8,
            snapshot: None,
            aborted: 1,
            last_epoch: Some(Epoch(9)),
            in_flight: Some((Epoch(11), "pending".to_owned(), 250, vec![])),
            checkpoints: vec![checkpoint(10, Some("declined")), checkpoint(9, None)],
        };
        Job { view, name: "a \"b\"".to_owned() }
    }

    #[test]
    fn jobs_that_are_over_are_only_counted() {
        let taskmanager = |name: &str, connected| TaskManagerView {
            id: TaskManagerId(name.to_owned()),
            pid: 1,
            address: "host".to_owned(),
            slots: 4,
            free: 3,
            connected,
        };
        let jobs = [job(1, JobState::Running), job(2, JobState::Failed)];
        let text = text(&[taskmanager("a", true), taskmanager("b", false)], &jobs, 12_500);
        let labels = format!("{{job=\"a \\\"b\\\"\",job_id=\"{}\"}}", "01".repeat(16));
        for line in [
            "tidegate_jobmanager_taskmanagers 1".to_owned(),
            "tidegate_jobmanager_slots_available 3".to_owned(),
            "tidegate_jobs{state=\"FAILED\"} 1".to_owned(),
            "tidegate_jobs{state=\"STOPPING\"} 0".to_owned(),
            format!("tidegate_job_running{labels} 1"),
            format!("tidegate_job_epoch{labels} 9"),
            format!("tidegate_job_restarts_total{labels} 2"),
            format!("tidegate_job_checkpoint_bytes{labels} 77"),
            format!("tidegate_job_checkpoint_age_seconds{labels} 2"),
            format!("tidegate_job_checkpoint_in_flight_seconds{labels} 0.25"),
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
        assert!(!text.contains(&"02".repeat(16)), "{text}");
    }
}
