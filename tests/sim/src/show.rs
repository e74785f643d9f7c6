//! Messages, records and actions as short text, for the log.

use tidegate_control::cluster::{ClusterAction, ClusterInput, Record, SnapshotRead, StoreAction};
use tidegate_protocol::JobId;
use tidegate_protocol::link::{Command, Report};
use tidegate_protocol::process::{FromJobProcess, ToJobProcess};
use tidegate_protocol::taskmanager::{FromTaskManager, ProcessId, Registration, ToTaskManager};
use tidegate_taskmanager::supervisor::{Effect, Event};

pub(crate) fn job(job: JobId) -> String {
    format!("j{}", job.0[0])
}

pub(crate) fn process(id: &ProcessId) -> String {
    format!("{}/{}-{}", job(id.job), id.attempt, id.first)
}

pub(crate) fn record(record: &Record) -> String {
    let of = job(record.job());
    match record {
        Record::Submitted { spec, .. } => {
            format!("{of} submitted, parallelism {}, restored {:?}", spec.parallelism, spec.restored)
        }
        Record::AttemptStarted { attempt, placed, restored, .. } => {
            let placed: Vec<String> =
                placed.iter().map(|p| format!("{}:{}+{}", p.taskmanager, p.first, p.workers)).collect();
            format!("{of} attempt {attempt} on {} from {restored:?}", placed.join(" "))
        }
        Record::Completed { attempt, epoch, finished, .. } => {
            format!(
                "{of} completed attempt {attempt} epoch {epoch}{}",
                if *finished { " finished" } else { "" }
            )
        }
        Record::Damaged { epoch, .. } => format!("{of} damaged epoch {epoch}"),
        Record::StopRequested { stop, .. } => format!("{of} stop {stop:?}"),
        Record::Rescaled { parallelism, .. } => format!("{of} rescaled to {parallelism}"),
        Record::Ended { ending, .. } => format!("{of} ended {ending:?}"),
    }
}

fn registration(registration: &Registration) -> String {
    let running = registration.processes.iter().map(|running| {
        let ready = running.ready.len();
        format!(
            "{} (ready {ready}, ended {}, triggered {})",
            process(&running.process),
            running.ended.len(),
            running.triggered
        )
    });
    format!("{} runs [{}]", registration.id, running.collect::<Vec<_>>().join(", "))
}

/// Nothing for an input that is only time.
pub(crate) fn input(input: &ClusterInput) -> String {
    match input {
        ClusterInput::Committed(committed) => format!("committed: {}", record(committed)),
        ClusterInput::Connected(connected) => format!("connected: {}", registration(connected)),
        ClusterInput::Disconnected(id) => format!("disconnected: {id}"),
        ClusterInput::FromTaskManager(id, message) => format!("{id}: {}", from_taskmanager(message)),
        ClusterInput::Request(id, request) => {
            let shown = format!("{request:?}");
            let short: String = shown.chars().take(70).collect();
            format!("request {}: {short}", id.0 % 10_000)
        }
        ClusterInput::SnapshotRead { job: of, epoch, read } => {
            let read = match read {
                SnapshotRead::Read(_, published) => format!("read, published {published}"),
                SnapshotRead::Damaged(why) => format!("damaged: {why}"),
                SnapshotRead::Unavailable(why) => format!("unavailable: {why}"),
            };
            format!("{} snapshot {epoch} {read}", job(*of))
        }
        ClusterInput::ManifestWritten { job: of, epoch, result } => {
            format!("{} manifest {epoch} written: {result:?}", job(*of))
        }
        ClusterInput::SavepointWritten { job: of, operation, result } => {
            format!("{} savepoint {operation} written: {result:?}", job(*of))
        }
        ClusterInput::Imported { job: of, result } => {
            format!("{} imported: {:?}", job(*of), result.as_ref().map(|manifest| manifest.epoch))
        }
        ClusterInput::Tick => String::new(),
    }
}

pub(crate) fn action(action: &ClusterAction) -> String {
    match action {
        ClusterAction::Propose(proposed) => format!("propose {}", record(proposed)),
        ClusterAction::Send(id, message) => format!("{id}: {}", to_taskmanager(message)),
        ClusterAction::Store(of, action) => format!("{} {}", job(*of), store_action(action)),
        ClusterAction::Answer(id, answer) => {
            let shown = format!("{answer:?}");
            let short: String = shown.chars().take(100).collect();
            format!("answer {}: {short}", id.0 % 10_000)
        }
        other => format!("{other:?}"),
    }
}

pub(crate) fn store_action(action: &StoreAction) -> String {
    match action {
        StoreAction::WriteManifest { manifest } => {
            format!("write manifest of attempt {} epoch {}", manifest.attempt, manifest.epoch)
        }
        other => format!("{other:?}"),
    }
}

fn to_taskmanager(message: &ToTaskManager) -> String {
    match message {
        ToTaskManager::Launch { preparation: p, .. } => {
            let id = ProcessId { job: p.job, attempt: p.attempt, first: p.first };
            format!(
                "launch {} with {} of {} workers, restored {:?}, published {}, first epoch {}",
                process(&id),
                p.workers,
                p.parallelism,
                p.restored,
                p.published,
                p.first_epoch
            )
        }
        ToTaskManager::ToProcess { process: id, message } => {
            format!("{} {}", process(id), to_process(message))
        }
        ToTaskManager::Kill { job: of, attempt } => format!("kill {} up to attempt {attempt}", job(*of)),
        ToTaskManager::Describe { request, .. } => format!("describe {request}"),
        other => format!("{other:?}"),
    }
}

fn to_process(message: &ToJobProcess) -> String {
    match message {
        ToJobProcess::Prepare(_) => "prepare".to_owned(),
        ToJobProcess::Begin(begin) => format!("begin {:?}", begin.assigned.get("in")),
        ToJobProcess::Command(to) => match &to.command {
            Command::Assigned { slot, partitions, .. } => format!("assigned to {slot}: {partitions:?}"),
            command => format!("{command:?}").to_lowercase(),
        },
        ToJobProcess::Ping => String::new(),
        ToJobProcess::Metrics | ToJobProcess::Why { .. } => "question".to_owned(),
    }
}

fn from_taskmanager(message: &FromTaskManager) -> String {
    match message {
        FromTaskManager::Register(_) => "register".to_owned(),
        FromTaskManager::Described { request, result } => format!("described {request}: {}", result.is_ok()),
        FromTaskManager::Started { process: id, pid } => format!("{} started as {pid}", process(id)),
        FromTaskManager::FromProcess { process: id, message } => {
            format!("{} {}", process(id), from_process(message))
        }
        FromTaskManager::Exited { process: id, how } => format!("{} exited: {}", process(id), how.text),
        other => format!("{other:?}"),
    }
}

fn from_process(message: &FromJobProcess) -> String {
    match message {
        FromJobProcess::Report(to) => match &to.report {
            Report::Acked { slot, epoch, .. } => format!("acked epoch {epoch} slot {slot}"),
            report => format!("{report:?}").to_lowercase(),
        },
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Nothing for what is only time, or relayed.
pub(crate) fn given(event: &Event) -> String {
    match event {
        Event::Connected => "connected".to_owned(),
        Event::Disconnected => "disconnected".to_owned(),
        Event::Message(message) => to_taskmanager(message),
        Event::Exited { process: id, how } => format!("{} exited: {}", process(id), how.text),
        _ => String::new(),
    }
}

pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Spawn { process: id, .. } => format!("spawn {}", process(id)),
        Effect::Kill(id) => format!("kill {}", process(id)),
        _ => String::new(),
    }
}
