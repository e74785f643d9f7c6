//! A job from its record to its end: attempts one after the other, and what users want of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_protocol::taskmanager::{ProcessId, Registration, RunningProcess, ToTaskManager};
use tidegate_protocol::{Attempt, Epoch, Error, JobId, Manifest, Slot, TaskManagerId};

use super::action::{Answer, ClusterAction};
use super::attempt::{AttemptRun, Context, Outcome};
use super::brain::ClusterSettings;
use super::input::{NotWritten, SnapshotRead};
use super::ledger::JobFacts;
use super::placement::{Offer, place};
use super::record::{Ending, Record, Stop};
use super::restart::{Failures, Next};
use super::view::OperationView;
use crate::action::Exit;
use crate::time::Time;

/// After a checkpoint store did not answer it is asked again after so many milliseconds.
const STORE_AGAIN_MS: u64 = 1_000;
/// Operations and failures that are remembered.
const REMEMBERED: usize = 50;

/// What a job is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// The next attempt starts when it is due, its snapshot is read and there are enough slots.
    Waiting { due: Time },
    /// An attempt was running when the brain began: its processes are being reported.
    Adopting { until: Time, running: BTreeMap<Slot, RunningProcess> },
    /// The record of an attempt is proposed.
    Proposed(AttemptRun),
    /// An attempt is being started, or runs.
    Active(AttemptRun),
    /// The job is over: its savepoint is being made, or the record of that is proposed.
    Ending,
    /// Nothing follows.
    Over,
}

/// A job, and what it is doing.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) phase: Phase,
    /// The newest snapshot, once it was read, and the last epoch that is noted as published.
    snapshot: Option<(Arc<Manifest>, Epoch)>,
    /// Whether the newest snapshot is being read.
    reading: bool,
    /// Why the checkpoint store cannot be read.
    store_is_away: Option<String>,
    failures: Failures,
    pub(super) history: Vec<(Attempt, String, u64)>,
    pub(super) operations: BTreeMap<u64, Operation>,
    pub(super) last_attempt: Option<AttemptRun>,
    /// Whether an attempt has been running.
    has_run: bool,
    /// A stop of the attempt is under way for another parallelism.
    rescaling: bool,
}

/// A savepoint or a stop.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The directory of a savepoint.
    directory: Option<String>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// A checkpoint is to be requested once the job runs.
    Wanted,
    /// A checkpoint is requested, and the first one after this epoch is the savepoint.
    After(Epoch),
    /// The savepoint is being written.
    Writing,
    /// The job is to stop.
    Stopping,
    Over(OperationView),
}

impl Job {
    /// A job that the ledger has.
    pub(super) fn new(id: JobId, facts: &JobFacts, cx_now: Time, settings: &ClusterSettings) -> Self {
        let phase = if facts.ended.is_some() {
            Phase::Over
        } else if facts.was_started() {
            Phase::Adopting { until: cx_now.plus_ms(settings.adoption_ms), running: BTreeMap::new() }
        } else {
            Phase::Waiting { due: cx_now }
        };
        let mut operations = BTreeMap::new();
        if let (Some(stop), None) = (&facts.stop, &facts.ended) {
            operations.insert(
                stop.operation,
                Operation { directory: stop.savepoint.clone(), state: State::Stopping },
            );
        }
        Self {
            id,
            phase,
            snapshot: None,
            reading: false,
            store_is_away: None,
            failures: Failures::default(),
            history: Vec::new(),
            operations,
            last_attempt: None,
            has_run: facts.was_started()
                && facts.last_epoch > facts.spec.restored.map(|r| r.0).unwrap_or_default(),
            rescaling: false,
        }
    }

    /// The attempt that is being started or runs.
    pub(super) fn active(&self) -> Option<&AttemptRun> {
        match &self.phase {
            Phase::Proposed(attempt) | Phase::Active(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// The slots that it takes of a taskmanager.
    pub(super) fn used(&self, taskmanager: &TaskManagerId, facts: &JobFacts) -> u32 {
        match &self.phase {
            Phase::Proposed(attempt) | Phase::Active(attempt) => {
                let here = attempt.processes.values().filter(|process| process.taskmanager == *taskmanager);
                here.map(|process| process.workers).sum()
            }
            Phase::Adopting { .. } => {
                let here = facts.placed.iter().filter(|placed| placed.taskmanager == *taskmanager);
                here.map(|placed| placed.workers).sum()
            }
            Phase::Waiting { .. } | Phase::Ending | Phase::Over => 0,
        }
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>, offers: impl FnOnce() -> Vec<Offer>) {
        match &mut self.phase {
            Phase::Waiting { due } if *due <= cx.now.time => self.start_attempt(cx, offers),
            Phase::Adopting { .. } => self.adopt_if_complete(cx),
            Phase::Active(attempt) => {
                let outcome = attempt.tick(cx);
                self.follow(cx, outcome);
            }
            Phase::Waiting { .. } | Phase::Proposed(_) | Phase::Ending | Phase::Over => {}
        }
        self.go_on_with_operations(cx);
    }

    /// When it has to be advanced again.
    pub(super) fn deadline(&self, settings: &ClusterSettings) -> Option<Time> {
        match &self.phase {
            Phase::Waiting { due } => Some(*due),
            Phase::Adopting { until, .. } => Some(*until),
            Phase::Active(attempt) => attempt.deadline(settings),
            Phase::Proposed(_) | Phase::Ending | Phase::Over => None,
        }
    }

    fn start_attempt(&mut self, cx: &mut Context<'_>, offers: impl FnOnce() -> Vec<Offer>) {
        if cx.facts.finished {
            return self.end(cx, None);
        }
        let Some(restored) = self.newest_snapshot(cx) else { return };
        let mut offers = offers();
        let last: BTreeSet<&TaskManagerId> =
            cx.facts.placed.iter().map(|placed| &placed.taskmanager).collect();
        offers.iter_mut().for_each(|offer| offer.preferred = last.contains(&offer.taskmanager));
        let Some(placed) = place(cx.facts.parallelism, &offers) else { return };
        let attempt = cx.facts.attempt.next();
        let run = AttemptRun::new(self.id, attempt, &placed, restored, cx.facts, cx.now.time);
        let restored = run.restored.as_ref().map(|manifest| manifest.epoch);
        cx.out.push(ClusterAction::Propose(Record::AttemptStarted {
            job: self.id,
            attempt,
            placed,
            restored,
        }));
        self.phase = Phase::Proposed(run);
    }

    /// The newest snapshot; the outer None says that it is still to be read.
    fn newest_snapshot(&mut self, cx: &mut Context<'_>) -> Option<Option<Arc<Manifest>>> {
        let Some(epoch) = cx.facts.newest() else { return Some(None) };
        if let Some((manifest, _)) = self.snapshot.as_ref().filter(|(manifest, _)| manifest.epoch == epoch) {
            return Some(Some(manifest.clone()));
        }
        if !self.reading {
            self.reading = true;
            cx.out.push(ClusterAction::ReadSnapshot { job: self.id, epoch });
        }
        None
    }

    pub(super) fn snapshot_read(&mut self, cx: &mut Context<'_>, epoch: Epoch, read: SnapshotRead) {
        self.reading = false;
        self.store_is_away = None;
        match read {
            SnapshotRead::Read(manifest, published) => self.snapshot = Some((manifest, published)),
            SnapshotRead::Damaged(why) => self.is_damaged(cx, epoch, &why),
            SnapshotRead::Unavailable(why) => {
                if let Phase::Waiting { due } = &mut self.phase {
                    *due = cx.now.time.plus_ms(STORE_AGAIN_MS);
                }
                self.store_is_away = Some(why);
            }
        }
    }

    /// A snapshot is not whole: an older one is restored, if there is one.
    fn is_damaged(&mut self, cx: &mut Context<'_>, epoch: Epoch, why: &str) {
        let job = self.id;
        let text = format!("the snapshot of epoch {epoch} is not used: {why}");
        cx.out.push(ClusterAction::Note { job, warning: true, text: text.clone() });
        if cx.facts.snapshots.len() > 1 {
            cx.out.push(ClusterAction::Propose(Record::Damaged { job, epoch }));
            cx.out.push(ClusterAction::SetAside { job, epoch });
        } else if cx.facts.newest() == Some(epoch) {
            self.fail(cx, format!("{text}; there is no older one to go on from"));
        }
    }

    /// A record about this job is committed; `facts` of the context have it.
    pub(super) fn committed(&mut self, cx: &mut Context<'_>, record: &Record) {
        match record {
            Record::AttemptStarted { attempt, .. } => self.launch(cx, *attempt),
            Record::Completed { attempt, epoch, .. } => self.completed(cx, *attempt, *epoch),
            Record::StopRequested { stop, .. } => self.stop(cx, stop),
            Record::Rescaled { .. } => self.rescale(cx),
            Record::Ended { ending, .. } => self.ended(cx, ending),
            Record::Submitted { .. } | Record::Damaged { .. } => {}
        }
    }

    fn launch(&mut self, cx: &mut Context<'_>, attempt: Attempt) {
        let Phase::Proposed(run) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        if run.attempt != attempt {
            self.phase = Phase::Proposed(run);
            return;
        }
        let (job, last_epoch) = (self.id, cx.facts.last_epoch);
        cx.out.push(ClusterAction::RemoveLeftovers { job, attempt, last_epoch });
        let published = self.snapshot.as_ref().map_or(Epoch(0), |(_, published)| *published);
        run.launch(cx, published);
        let lost = run.hosts().into_iter().find(|host| !cx.taskmanagers.is_connected(host));
        self.phase = Phase::Active(run);
        if let Some(host) = lost {
            self.failed(cx, &Error::environment(format!("the taskmanager {host} is gone")));
        } else if cx.facts.ended.is_some() {
            self.dismiss(cx);
        }
    }

    fn completed(&mut self, cx: &mut Context<'_>, attempt: Attempt, epoch: Epoch) {
        let Phase::Active(run) = &mut self.phase else { return };
        if run.attempt != attempt || cx.facts.newest() != Some(epoch) {
            return;
        }
        self.failures.has_progressed();
        let outcome = run.completed(cx, epoch);
        if let Some(manifest) = run.newest.clone() {
            // The note of what is published comes when it is; until then a restart publishes it again.
            let published = self.snapshot.as_ref().map_or(Epoch(0), |(_, published)| *published);
            self.snapshot = Some((manifest, published));
        }
        self.follow(cx, outcome);
    }

    /// Does what an attempt has led to.
    fn follow(&mut self, cx: &mut Context<'_>, outcome: Outcome) {
        match outcome {
            Outcome::GoesOn => self.has_run |= self.active().is_some_and(AttemptRun::is_running),
            Outcome::Failed(error) => self.failed(cx, &error),
            Outcome::Damaged(epoch, why) => {
                self.forget_attempt(cx);
                self.snapshot = None;
                self.phase = Phase::Waiting { due: cx.now.time };
                self.is_damaged(cx, epoch, &why);
            }
            Outcome::Exited(exit) => self.exited(cx, exit),
        }
    }

    fn exited(&mut self, cx: &mut Context<'_>, exit: Exit) {
        match exit {
            Exit::Failed { reason } => {
                let text = format!("the last snapshot could not be written: {reason}");
                self.failed(cx, &Error::environment(text));
            }
            Exit::Stopped if cx.facts.stop.is_none() => {
                // It was stopped for another parallelism.
                self.dismiss(cx);
                self.rescaling = false;
                self.phase = Phase::Waiting { due: cx.now.time };
            }
            Exit::Finished | Exit::Stopped => {
                self.dismiss(cx);
                let epoch = self.last_attempt.as_ref().and_then(|run| run.newest.as_ref()).map(|m| m.epoch);
                let stop = cx.facts.stop.clone();
                let savepoint = stop.and_then(|stop| Some((stop.operation, stop.savepoint?)));
                match (savepoint, epoch) {
                    (Some((operation, directory)), Some(epoch)) => {
                        self.phase = Phase::Ending;
                        cx.out.push(ClusterAction::WriteSavepoint {
                            job: self.id,
                            operation,
                            epoch,
                            directory,
                        });
                        self.set_operation(operation, State::Writing);
                    }
                    _ => self.end(cx, None),
                }
            }
        }
    }

    /// Has the processes end by themselves.
    fn dismiss(&mut self, cx: &mut Context<'_>) {
        if let Phase::Active(run) = std::mem::replace(&mut self.phase, Phase::Ending) {
            run.dismiss(cx);
            self.last_attempt = Some(run);
        }
    }

    fn forget_attempt(&mut self, cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Active(run) | Phase::Proposed(run) => {
                run.kill(cx);
                self.last_attempt = Some(run);
            }
            Phase::Adopting { .. } => self.kill_placed(cx),
            Phase::Waiting { .. } | Phase::Ending | Phase::Over => {}
        }
        self.rescaling = false;
        for operation in self.operations.values_mut() {
            if let State::After(_) = operation.state {
                operation.state = State::Wanted;
            }
        }
    }

    /// Ends the processes that the ledger has placed.
    fn kill_placed(&self, cx: &mut Context<'_>) {
        let hosts: BTreeSet<&TaskManagerId> =
            cx.facts.placed.iter().map(|placed| &placed.taskmanager).collect();
        for host in hosts {
            let kill = ToTaskManager::Kill { job: self.id, attempt: cx.facts.attempt };
            cx.out.push(ClusterAction::Send(host.clone(), kill));
        }
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, cx: &mut Context<'_>, error: &Error) {
        let attempt = cx.facts.attempt;
        self.forget_attempt(cx);
        let text = format!("attempt {attempt} has failed: {error}");
        cx.out.push(ClusterAction::Note { job: self.id, warning: true, text });
        self.history.insert(0, (attempt, error.to_string(), cx.now.wall_ms));
        self.history.truncate(REMEMBERED);
        match self.failures.add((self.id, attempt), error, cx.facts.spec.settings.restart_limit) {
            Next::Restart(delay_ms) => self.phase = Phase::Waiting { due: cx.now.time.plus_ms(delay_ms) },
            Next::GiveUp(cause) => self.fail(cx, cause),
        }
    }

    /// The job has failed for good.
    fn fail(&mut self, cx: &mut Context<'_>, cause: String) {
        self.forget_attempt(cx);
        self.propose_end(cx, Ending::Failed { cause });
    }

    fn end(&mut self, cx: &mut Context<'_>, savepoint: Option<String>) {
        self.propose_end(cx, Ending::Finished { savepoint });
    }

    fn propose_end(&mut self, cx: &mut Context<'_>, ending: Ending) {
        self.phase = Phase::Ending;
        let (job, at_ms) = (self.id, cx.now.wall_ms);
        cx.out.push(ClusterAction::Propose(Record::Ended { job, ending, at_ms }));
    }

    fn ended(&mut self, cx: &mut Context<'_>, ending: &Ending) {
        self.forget_attempt(cx);
        self.phase = Phase::Over;
        let over = match ending {
            Ending::Finished { savepoint } => OperationView::Completed(savepoint.clone()),
            Ending::Canceled => OperationView::Failed("the job was cancelled".to_owned()),
            Ending::Failed { cause } => OperationView::Failed(format!("the job has failed: {cause}")),
        };
        for operation in self.operations.values_mut() {
            match (&operation.state, &over) {
                (State::Over(_), _) => {}
                (State::Wanted | State::After(_), OperationView::Completed(_)) => {
                    let text = "the job ended before the savepoint was made".to_owned();
                    operation.state = State::Over(OperationView::Failed(text));
                }
                _ => operation.state = State::Over(over.clone()),
            }
        }
    }

    /// A taskmanager has connected.
    pub(super) fn connected(&mut self, cx: &mut Context<'_>, registration: &Registration) {
        let ours = registration.processes.iter().filter(|running| running.process.job == self.id);
        let ours: Vec<RunningProcess> = ours.cloned().collect();
        match &mut self.phase {
            Phase::Active(run) if run.hosts().contains(&registration.id) => {
                let outcome = run.reconnected(cx, &ours, &registration.id);
                self.follow(cx, outcome);
            }
            Phase::Adopting { running, .. } => {
                let current = ours.iter().filter(|process| process.process.attempt == cx.facts.attempt);
                running.extend(current.map(|process| (process.process.first, process.clone())));
                let here = cx.facts.placed.iter().filter(|placed| placed.taskmanager == registration.id);
                if here.clone().any(|placed| !running.contains_key(&placed.first)) {
                    let text =
                        format!("a process on {} ended while the jobmanager was away", registration.id);
                    return self.failed(cx, &Error::environment(text));
                }
                self.adopt_if_complete(cx);
            }
            _ => {}
        }
        let current = self.active().map(|run| run.attempt);
        let is_adopting = matches!(self.phase, Phase::Adopting { .. });
        let old = ours.iter().map(|running| running.process.attempt);
        let old =
            old.filter(|attempt| Some(*attempt) != current && !(is_adopting && *attempt == cx.facts.attempt));
        if let Some(attempt) = old.max() {
            let kill = ToTaskManager::Kill { job: self.id, attempt };
            cx.out.push(ClusterAction::Send(registration.id.clone(), kill));
        }
    }

    fn adopt_if_complete(&mut self, cx: &mut Context<'_>) {
        let Phase::Adopting { until, running } = &self.phase else { return };
        let (until, running) = (*until, running.clone());
        if running.len() < cx.facts.placed.len() {
            if until <= cx.now.time {
                let text = "not all of its taskmanagers have come back to the jobmanager, which was away";
                self.failed(cx, &Error::environment(text));
            }
            return;
        }
        let Some(newest) = self.newest_snapshot(cx) else { return };
        let mut run =
            AttemptRun::new(self.id, cx.facts.attempt, &cx.facts.placed, newest, cx.facts, cx.now.time);
        let outcome = run.adopt(cx, &running);
        self.phase = Phase::Active(run);
        self.follow(cx, outcome);
    }

    /// A taskmanager has not come back.
    pub(super) fn lost(&mut self, cx: &mut Context<'_>, taskmanager: &TaskManagerId) {
        if self.active().is_some_and(|run| run.hosts().contains(taskmanager)) {
            let text = format!("the taskmanager {taskmanager} does not answer any more");
            self.failed(cx, &Error::environment(text));
        }
    }

    /// Something has happened to one of its processes.
    pub(super) fn process(
        &mut self,
        cx: &mut Context<'_>,
        (taskmanager, process): (&TaskManagerId, ProcessId),
        happened: Happened,
    ) {
        let is_current = self.active().is_some_and(|run| {
            run.attempt == process.attempt
                && run.processes.get(&process.first).is_some_and(|ours| ours.taskmanager == *taskmanager)
        });
        let Phase::Active(run) = &mut self.phase else { return };
        if !is_current {
            return;
        }
        let outcome = match happened {
            Happened::Started(pid) => {
                run.started(process.first, pid);
                Outcome::GoesOn
            }
            Happened::Exited(how) => run.exited(process.first, &how),
            Happened::Message(message) => run.take(cx, process.first, *message),
        };
        self.follow(cx, outcome);
        self.go_on_with_operations(cx);
    }

    pub(super) fn manifest_written(
        &mut self,
        cx: &mut Context<'_>,
        epoch: Epoch,
        result: Result<(), NotWritten>,
    ) {
        let Phase::Active(run) = &mut self.phase else { return };
        let outcome = run.manifest_written(cx, epoch, result);
        self.follow(cx, outcome);
    }

    // ---- what users want ----

    pub(super) fn request_cancel(&mut self, cx: &mut Context<'_>) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        let (job, at_ms) = (self.id, cx.now.wall_ms);
        cx.out.push(ClusterAction::Propose(Record::Ended { job, ending: Ending::Canceled, at_ms }));
        Ok(Answer::Done)
    }

    pub(super) fn request_stop(
        &mut self,
        cx: &mut Context<'_>,
        operation: u64,
        drain: bool,
        savepoint: Option<String>,
    ) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        self.add_operation(operation, savepoint.clone(), State::Stopping);
        let stop = Stop { drain, savepoint, operation };
        cx.out.push(ClusterAction::Propose(Record::StopRequested { job: self.id, stop }));
        Ok(Answer::Operation(operation))
    }

    fn stop(&mut self, cx: &mut Context<'_>, stop: &Stop) {
        if let Phase::Active(run) = &mut self.phase
            && run.is_running()
        {
            let outcome = run.stop(cx, stop.drain);
            self.follow(cx, outcome);
        } else if stop.drain && matches!(self.phase, Phase::Active(_)) {
            // An attempt that is being started has been told that the job does not drain.
            self.restart(cx);
        }
    }

    /// Starts the attempt anew, though it has not failed.
    fn restart(&mut self, cx: &mut Context<'_>) {
        self.forget_attempt(cx);
        self.phase = Phase::Waiting { due: cx.now.time };
    }

    pub(super) fn request_rescale(
        &mut self,
        cx: &mut Context<'_>,
        parallelism: u32,
    ) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        let most = u32::from(cx.facts.spec.key_groups.count);
        if parallelism == 0 || parallelism > most {
            return Err(Error::job(format!(
                "a parallelism of {parallelism} is invalid: it must be at least 1 and at most {most}, the number of the job's                  key groups (--max-parallelism of its first start)"
            )));
        }
        if parallelism != cx.facts.parallelism {
            cx.out.push(ClusterAction::Propose(Record::Rescaled { job: self.id, parallelism }));
        }
        Ok(Answer::Done)
    }

    fn rescale(&mut self, cx: &mut Context<'_>) {
        let Phase::Active(run) = &mut self.phase else { return };
        let is_stopping = self.rescaling || cx.facts.stop.is_some();
        if is_stopping || run.parallelism == cx.facts.parallelism {
            return;
        }
        if !run.is_running() {
            return self.restart(cx);
        }
        self.rescaling = true;
        let outcome = run.stop(cx, false);
        self.follow(cx, outcome);
    }

    pub(super) fn request_savepoint(
        &mut self,
        cx: &mut Context<'_>,
        operation: u64,
        directory: String,
    ) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        self.add_operation(operation, Some(directory), State::Wanted);
        self.go_on_with_operations(cx);
        Ok(Answer::Operation(operation))
    }

    pub(super) fn savepoint_written(
        &mut self,
        cx: &mut Context<'_>,
        operation: u64,
        result: Result<String, Error>,
    ) {
        if let Phase::Active(run) = &mut self.phase {
            run.pinned = None;
        }
        let is_last = matches!(self.phase, Phase::Ending);
        match (result, is_last) {
            (Ok(path), true) => self.end(cx, Some(path)),
            (Ok(path), false) => {
                self.set_operation(operation, State::Over(OperationView::Completed(Some(path))))
            }
            (Err(error), is_last) => {
                self.set_operation(operation, State::Over(OperationView::Failed(error.to_string())));
                if is_last {
                    // The job has stopped, with its last snapshot in its own directory.
                    self.end(cx, None);
                }
            }
        }
    }

    /// Requests checkpoints for savepoints that are wanted, and writes those whose checkpoint is published.
    fn go_on_with_operations(&mut self, cx: &mut Context<'_>) {
        let Phase::Active(run) = &mut self.phase else { return };
        if !run.is_running() || !self.operations.values().any(|operation| operation.is_waiting()) {
            return;
        }
        if self.operations.values().any(|operation| matches!(operation.state, State::Wanted)) {
            let after = run.request_checkpoint(cx);
            let wanted = self.operations.values_mut().filter(|o| matches!(o.state, State::Wanted));
            wanted.for_each(|operation| operation.state = State::After(after));
        }
        let newest = run.newest.as_ref().map_or(Epoch(0), |manifest| manifest.epoch);
        for (number, operation) in &mut self.operations {
            if let (State::After(after), Some(directory)) = (&operation.state, &operation.directory)
                && newest > *after
                && run.pinned.is_none()
            {
                run.pinned = Some(newest);
                let (job, directory) = (self.id, directory.clone());
                cx.out.push(ClusterAction::WriteSavepoint {
                    job,
                    operation: *number,
                    epoch: newest,
                    directory,
                });
                operation.state = State::Writing;
            }
        }
    }

    fn add_operation(&mut self, number: u64, directory: Option<String>, state: State) {
        self.operations.insert(number, Operation { directory, state });
        while self.operations.len() > REMEMBERED {
            self.operations.pop_first();
        }
    }

    fn set_operation(&mut self, number: u64, state: State) {
        if let Some(operation) = self.operations.get_mut(&number) {
            operation.state = state;
        }
    }

    fn refuse_if_over(&self, cx: &Context<'_>) -> Result<(), Error> {
        match &cx.facts.ended {
            None => Ok(()),
            Some((ending, _)) => Err(Error::job(format!(
                "job {} is over: {}",
                self.id,
                match ending {
                    Ending::Finished { .. } => "it has finished".to_owned(),
                    Ending::Canceled => "it was cancelled".to_owned(),
                    Ending::Failed { cause } => format!("it has failed: {cause}"),
                }
            ))),
        }
    }

    /// How far an operation is.
    pub(super) fn operation(&self, number: u64) -> Option<OperationView> {
        let operation = self.operations.get(&number)?;
        Some(match &operation.state {
            State::Wanted => OperationView::InProgress("the job is not running yet".to_owned()),
            State::After(epoch) => OperationView::InProgress(format!("a checkpoint after epoch {epoch}")),
            State::Writing => OperationView::InProgress("the savepoint is being written".to_owned()),
            State::Stopping => OperationView::InProgress("the last checkpoint".to_owned()),
            State::Over(view) => view.clone(),
        })
    }

    /// What it waits for, as a sentence.
    pub(super) fn waits_for(&self, cx_now: Time, facts: &JobFacts, free: u32) -> Option<String> {
        match &self.phase {
            Phase::Waiting { .. } if self.store_is_away.is_some() => {
                self.store_is_away.as_ref().map(|why| format!("the checkpoint store does not answer: {why}"))
            }
            Phase::Waiting { due } if *due > cx_now => {
                Some(format!("the next attempt starts in {:.1} s", due.since_ms(cx_now) as f64 / 1_000.0))
            }
            Phase::Waiting { .. } if self.reading => {
                Some("the manifest of the last snapshot is being read".to_owned())
            }
            Phase::Waiting { .. } => {
                let needed = facts.parallelism;
                Some(format!(
                    "slots: {needed} are needed, {free} are free; start another taskmanager, or rescale the job"
                ))
            }
            Phase::Adopting { .. } => {
                Some("its taskmanagers are to connect to the jobmanager again".to_owned())
            }
            Phase::Proposed(_) => Some("the start of the attempt is being recorded".to_owned()),
            Phase::Active(run) => run.waits_for(),
            Phase::Ending => Some("the end of the job is being recorded".to_owned()),
            Phase::Over => None,
        }
    }

    /// What it is doing, in one word.
    pub(super) fn state(&self, facts: &JobFacts) -> &'static str {
        match (&facts.ended, &self.phase) {
            (Some((Ending::Finished { .. }, _)), _) => "FINISHED",
            (Some((Ending::Canceled, _)), _) => "CANCELED",
            (Some((Ending::Failed { .. }, _)), _) => "FAILED",
            (None, _) if facts.stop.is_some() => "STOPPING",
            (None, Phase::Active(run)) if run.is_running() && !self.rescaling => "RUNNING",
            // It runs on while the jobmanager finds its processes again.
            (None, _) if !self.has_run => "CREATED",
            (None, _) => "RESTARTING",
        }
    }
}

impl Operation {
    fn is_waiting(&self) -> bool {
        matches!(self.state, State::Wanted | State::After(_))
    }
}

/// What has happened to a process.
pub(super) enum Happened {
    Started(u32),
    Exited(String),
    Message(Box<tidegate_protocol::process::FromJobProcess>),
}
