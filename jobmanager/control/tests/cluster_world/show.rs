//! Actions and jobs in a short form. `J2[0 1]` are the processes of attempt 2 of job J with the first slots 0 and 1;
//! `a:0+2` is a process on the taskmanager a with the slots 0 and 1.

use tidegate_control::cluster::{
    Answer, Brain, ClusterAction, CopyAction, Ending, JobView, OperationView, Placed, ProcessView, Record,
    StoreAction,
};
use tidegate_protocol::link::Command;
use tidegate_protocol::process::{Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::ToTaskManager;
use tidegate_protocol::{Attempt, Epoch, Error, JobId};

/// Jobs have a letter as their name, which is all bytes of their id.
pub(crate) fn name(job: JobId) -> char {
    char::from(job.0[0])
}

pub(crate) fn actions(actions: &[ClusterAction]) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for action in actions {
        let (what, whom) = part(action);
        match parts.last_mut() {
            Some((last, all)) if !whom.is_empty() && *last == what => *all = format!("{all} {whom}"),
            _ => parts.push((what, whom)),
        }
    }
    let with = |(what, whom): &(String, String)| match whom.as_str() {
        "" => what.clone(),
        whom => what.replace('@', whom),
    };
    let parts: Vec<String> = parts.iter().map(with).collect();
    let text = if parts.is_empty() { "-".to_owned() } else { parts.join("; ") };
    (b'A'..=b'Z')
        .fold(text, |text, byte| text.replace(&JobId([byte; 16]).to_string(), &char::from(byte).to_string()))
}

/// What is done, with an `@` for whom it is done to.
fn part(action: &ClusterAction) -> (String, String) {
    let whole = |text: String| (text, String::new());
    match action {
        ClusterAction::Propose(record) => whole(format!("propose {}", self::record(record))),
        ClusterAction::Send(to, ToTaskManager::Launch { preparation, .. }) => {
            let place = format!("{to}:{}+{}", preparation.first, preparation.workers);
            (format!("launch {} on @", launched(preparation)), place)
        }
        ClusterAction::Send(_, ToTaskManager::ToProcess { process, message }) => {
            let of = format!("{}{}", name(process.job), process.attempt);
            (format!("{of}[@] {}", told(message)), process.first.to_string())
        }
        ClusterAction::Send(to, ToTaskManager::Kill { job, attempt }) => {
            (format!("kill {}{attempt} on @", name(*job)), to.to_string())
        }
        ClusterAction::Send(to, ToTaskManager::Describe { .. }) => whole(format!("{to}: describe")),
        ClusterAction::Send(to, message) => whole(format!("{to}: {message:?}")),
        ClusterAction::Store(job, StoreAction::ReadSnapshot { epoch }) => {
            whole(format!("read {}", snapshot(*job, *epoch)))
        }
        ClusterAction::Store(job, StoreAction::WriteManifest { manifest }) => {
            whole(format!("write {} of attempt {}", snapshot(*job, manifest.epoch), manifest.attempt))
        }
        ClusterAction::Store(job, StoreAction::RemoveLeftovers { attempt, last_epoch }) => {
            whole(format!("tidy {} but {}", attempt_of(*job, *attempt), snapshot(*job, *last_epoch)))
        }
        ClusterAction::Store(job, StoreAction::SetAside { epoch }) => {
            whole(format!("set aside {}", snapshot(*job, *epoch)))
        }
        ClusterAction::Store(job, StoreAction::Discard { epoch, slot, .. }) => {
            (format!("discard {} of slot @", snapshot(*job, *epoch)), slot.to_string())
        }
        ClusterAction::Store(job, StoreAction::NotePublished { epoch }) => {
            whole(format!("note published {}", snapshot(*job, *epoch)))
        }
        ClusterAction::Store(job, StoreAction::Collect { oldest }) => {
            whole(format!("collect before {}", snapshot(*job, *oldest)))
        }
        ClusterAction::Copy(job, CopyAction::WriteSavepoint { operation, epoch, directory }) => {
            whole(format!("savepoint {} to {directory} for {operation}", snapshot(*job, *epoch)))
        }
        ClusterAction::Copy(job, CopyAction::Import { from, .. }) => {
            whole(format!("import {from} for {}", name(*job)))
        }
        ClusterAction::Answer(request, answer) => {
            whole(format!("answer {}: {}", request.0, answered(answer)))
        }
        ClusterAction::Note { warning, text, .. } => {
            whole(format!("{}: {text}", if *warning { "warning" } else { "note" }))
        }
    }
}

fn snapshot(job: JobId, epoch: Epoch) -> String {
    format!("{}/{epoch}", name(job))
}

fn attempt_of(job: JobId, attempt: Attempt) -> String {
    format!("{}{attempt}", name(job))
}

fn record(record: &Record) -> String {
    let job = name(record.job());
    match record {
        Record::Submitted { spec, .. } => format!("job {job} parallelism {}", spec.parallelism),
        Record::AttemptStarted { attempt, placed, restored, .. } => {
            let from = restored.map_or(String::new(), |epoch| format!(" from {epoch}"));
            format!("attempt {job}{attempt}{from} on {}", placement(placed))
        }
        Record::Completed { attempt, epoch, finished, .. } => {
            format!(
                "complete {job}/{epoch} of attempt {attempt}{}",
                if *finished { ", finished" } else { "" }
            )
        }
        Record::Damaged { epoch, .. } => format!("damaged {job}/{epoch}"),
        Record::StopRequested { stop, .. } => {
            let savepoint =
                stop.savepoint.as_ref().map_or(String::new(), |to| format!(", savepoint to {to}"));
            format!("stop {job}{}{savepoint}", if stop.drain { ", drain" } else { "" })
        }
        Record::Rescaled { parallelism, auto, .. } => {
            format!("rescale {job} to {parallelism}{}", if *auto { ", automatic" } else { "" })
        }
        Record::Ended { ending, .. } => format!("end {job}: {}", self::ending(ending)),
    }
}

fn placement(placed: &[Placed]) -> String {
    let show = |p: &Placed| format!("{}:{}+{}", p.taskmanager, p.first, p.workers);
    placed.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Finished { savepoint: None } => "finished".to_owned(),
        Ending::Finished { savepoint: Some(path) } => format!("finished, savepoint {path}"),
        Ending::Canceled => "canceled".to_owned(),
        Ending::Failed { cause } => format!("failed: {cause}"),
    }
}

fn launched(preparation: &Preparation) -> String {
    let Preparation { job, attempt, restored, published, first_epoch, drains, .. } = preparation;
    let from = restored.map_or(String::new(), |epoch| format!(" from {epoch} (published {published})"));
    let drains = if *drains { " draining" } else { "" };
    format!("{}{attempt}{from}{drains} epochs {first_epoch}..", name(*job))
}

fn told(message: &ToJobProcess) -> String {
    match message {
        ToJobProcess::Begin(begin) => {
            let worker = |partitions: &Vec<String>| partitions.join(" ");
            let source = |(uid, workers): (&String, &Vec<Vec<String>>)| {
                format!(" {uid}: {}", workers.iter().map(worker).collect::<Vec<_>>().join(" | "))
            };
            format!("begin{}", begin.assigned.iter().map(source).collect::<String>())
        }
        ToJobProcess::Command(to) => match &to.command {
            Command::Trigger { epoch, last } => {
                format!("trigger {epoch}{}", if *last { " last" } else { "" })
            }
            Command::StopReading => "stop reading".to_owned(),
            Command::Publish(epoch) => format!("publish {epoch}"),
            Command::Completed(epoch) => format!("completed {epoch}"),
            Command::Assigned { source, slot, partitions } => {
                format!("worker {slot} reads {source}: {}", partitions.join(" "))
            }
            Command::Abort => "leave".to_owned(),
        },
        message => format!("{message:?}"),
    }
}

fn answered(answer: &Result<Answer, Error>) -> String {
    match answer {
        Ok(Answer::Plan(plan)) => format!("the plan of {}", plan.job),
        Ok(Answer::Submitted(job)) => format!("submitted {}", name(*job)),
        Ok(Answer::Operation(number)) => format!("operation {number}"),
        Ok(Answer::Done) => "done".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// A job in a line.
pub(crate) fn job(brain: &Brain, id: JobId) -> String {
    let Some(view) = brain.job(id) else { return "no such job".to_owned() };
    let JobView { state, attempt, processes, waits_for, failures, in_flight, last_epoch, .. } = view;
    let show = |p: &ProcessView| {
        format!("{}:{}+{}", p.taskmanager, p.slots.first().map_or(0, |slot| slot.0), p.slots.len())
    };
    let mut text = format!("{} {state} attempt {attempt}", name(id));
    if !processes.is_empty() {
        text += &format!(" on {}", processes.iter().map(show).collect::<Vec<_>>().join(" "));
    }
    text += &last_epoch.map_or(String::new(), |epoch| format!(", newest {epoch}"));
    text += &in_flight.map_or(String::new(), |(epoch, phase, ..)| format!(", {epoch} is {phase}"));
    text += &waits_for.map_or(String::new(), |what| format!(", waits for: {what}"));
    let last = failures.first();
    text += &last.map_or(String::new(), |(attempt, cause, _)| {
        format!(", {} failed, the last: attempt {attempt}, {cause}", failures.len())
    });
    let ended = brain.ledger().jobs.get(&id).and_then(|facts| facts.ended.as_ref());
    text + &ended.map_or(String::new(), |(how, _)| format!(", {}", ending(how)))
}

pub(crate) fn operation(operation: Option<OperationView>) -> String {
    match operation {
        None => "unknown".to_owned(),
        Some(OperationView::InProgress(what)) => format!("in progress, waits for {what}"),
        Some(OperationView::Completed(None)) => "completed".to_owned(),
        Some(OperationView::Completed(Some(path))) => format!("completed, savepoint {path}"),
        Some(OperationView::Failed(why)) => format!("failed: {why}"),
    }
}
