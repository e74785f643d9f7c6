//! A job from its record to its end: attempts one after the other, and what users want of it.

mod parallelism;
mod pause;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_protocol::link::{Report, ToDriver};
use tidegate_protocol::process::FromJobProcess;
use tidegate_protocol::taskmanager::{HowEnded, ProcessId, Registration, RunningProcess, ToTaskManager};
use tidegate_protocol::{Attempt, Epoch, Error, JobId, Manifest, Slot, TaskManagerId};

use self::pause::Pause;
use super::action::{Answer, ClusterAction, CopyAction, StoreAction};
use super::attempt::{AttemptRun, Context, Outcome, Past, exited};
use super::auto_parallelism::AutoParallelism;
use super::brain::ClusterSettings;
use super::input::{NotWritten, SnapshotRead};
use super::ledger::JobFacts;
use super::operations::Operations;
use super::placement::{Offer, Placed, Rank, place};
use super::record::{Done, Ending, Record, Stop};
use super::restart::{Failures, Next};
use super::view::OperationView;
use crate::action::Exit;
use crate::time::Time;

/// After a checkpoint store did not answer it is asked again after so many milliseconds.
const STORE_AGAIN_MS: u64 = 1_000;
/// Failures that are remembered.
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
    /// The job has stopped, and the savepoint of this operation is being made.
    Saving { operation: u64 },
    /// The record of the job's end is proposed.
    Ending,
    /// Nothing follows.
    Over,
}

/// A job, and what it is doing.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) phase: Phase,
    /// The newest snapshot, once it was read.
    pub(super) snapshot: Option<Arc<Manifest>>,
    /// Whether the newest snapshot is being read.
    reading: bool,
    /// Why the checkpoint store cannot be read, and when it is asked again.
    store_is_away: Option<(String, Time)>,
    /// The snapshot that is known to be damaged; its record is proposed.
    damaged: Option<Epoch>,
    /// What earlier attempts have done.
    past: Past,
    failures: Failures,
    /// The taskmanagers on which a process has failed before it ran, since the last checkpoint.
    avoided: BTreeSet<TaskManagerId>,
    pub(super) history: Vec<(Attempt, String, u64)>,
    pub(super) operations: Operations,
    pub(super) last_attempt: Option<AttemptRun>,
    /// Whether an attempt has been running.
    has_run: bool,
    /// A stop of the attempt is under way for another parallelism.
    rescaling: bool,
    auto: AutoParallelism,
    /// The most partitions that a source was known to have last.
    partitions: u32,
    pub(super) pause: Pause,
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
        Self {
            id,
            phase,
            snapshot: None,
            reading: false,
            store_is_away: None,
            damaged: None,
            past: Past::default(),
            failures: Failures::default(),
            avoided: BTreeSet::new(),
            history: Vec::new(),
            operations: Operations::new(facts),
            last_attempt: None,
            has_run: facts.restarts() > 0
                || facts.last_epoch > facts.spec.restored.map(|restored| restored.0).unwrap_or_default(),
            rescaling: false,
            auto: AutoParallelism::default(),
            partitions: known_partitions(facts),
            pause: Pause::default(),
        }
    }

    /// The attempt that is being started or runs.
    pub(super) fn active(&self) -> Option<&AttemptRun> {
        match &self.phase {
            Phase::Proposed(attempt) | Phase::Active(attempt) => Some(attempt),
            _ => None,
        }
    }

    /// The slots that it takes of taskmanagers.
    pub(super) fn taken<'a>(&'a self, facts: &'a JobFacts) -> Vec<(&'a TaskManagerId, u32)> {
        match &self.phase {
            Phase::Proposed(attempt) | Phase::Active(attempt) => {
                attempt.processes.values().map(|process| (&process.taskmanager, process.workers)).collect()
            }
            Phase::Adopting { .. } => {
                facts.placed.iter().map(|placed| (&placed.taskmanager, placed.workers)).collect()
            }
            Phase::Waiting { .. } | Phase::Saving { .. } | Phase::Ending | Phase::Over => Vec::new(),
        }
    }

    /// Does what is due, but for starting an attempt.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Adopting { .. } => self.adopt_if_complete(cx),
            Phase::Active(attempt) => {
                let outcome = attempt.tick(cx);
                if matches!(outcome, Outcome::Failed(_)) && !attempt.is_running() {
                    self.avoided.extend(attempt.late_hosts());
                }
                self.follow(cx, outcome);
            }
            // It has nothing to keep: it need not wait for slots.
            Phase::Waiting { .. } if cx.facts.is_stopped_before_its_start() => self.end(cx, None),
            Phase::Waiting { .. }
            | Phase::Proposed(_)
            | Phase::Saving { .. }
            | Phase::Ending
            | Phase::Over => {}
        }
        self.go_on_with_operations(cx);
    }

    /// Whether an attempt is to be started.
    pub(super) fn is_due(&self, now: Time) -> bool {
        matches!(self.phase, Phase::Waiting { due } if due <= now)
    }

    /// When it has to be advanced again. What is overdue waits for another input: an answer, or slots.
    pub(super) fn deadline(&self, now: Time, settings: &ClusterSettings) -> Option<Time> {
        let own = match &self.phase {
            Phase::Waiting { due } => Some(*due),
            Phase::Adopting { until, .. } => Some(*until),
            Phase::Active(attempt) => attempt.deadline(settings),
            Phase::Proposed(_) | Phase::Saving { .. } | Phase::Ending | Phase::Over => None,
        };
        let again = self.store_is_away.as_ref().map(|(_, again)| *again);
        let auto = self.auto.due(self.is_waiting());
        own.into_iter().chain(again).chain(auto).filter(|deadline| *deadline > now).min()
    }

    /// Starts an attempt, if there are enough slots; true if it takes some.
    pub(super) fn start_attempt(&mut self, cx: &mut Context<'_>, offers: &[Offer]) -> bool {
        let Some(restored) = self.newest_snapshot(cx) else { return false };
        if cx.facts.finished && cx.facts.newest() <= Some(self.past.published) {
            self.finish(cx);
            return false;
        }
        let free: u64 = offers.iter().map(|offer| u64::from(offer.free)).sum();
        if free < u64::from(cx.facts.parallelism) {
            return false;
        }
        let mut offers = offers.to_vec();
        let last: BTreeSet<&TaskManagerId> =
            cx.facts.placed.iter().map(|placed| &placed.taskmanager).collect();
        for offer in &mut offers {
            offer.rank = match &offer.taskmanager {
                host if self.avoided.contains(host) => Rank::Avoided,
                host if last.contains(host) => Rank::Preferred,
                _ => Rank::Other,
            };
        }
        let Some(placed) = place(cx.facts.parallelism, &offers) else { return false };
        let attempt = cx.facts.attempt.next();
        let run = self.new_run(cx, attempt, &placed, restored);
        let restored = run.restored_epoch();
        cx.out.push(ClusterAction::Propose(Record::AttemptStarted {
            job: self.id,
            attempt,
            placed,
            restored,
        }));
        self.phase = Phase::Proposed(run);
        true
    }

    fn new_run(
        &self,
        cx: &Context<'_>,
        attempt: Attempt,
        placed: &[Placed],
        restored: Option<Arc<Manifest>>,
    ) -> AttemptRun {
        let past = Past { used: self.past.used.max(cx.facts.last_epoch), ..self.past };
        let mut run = AttemptRun::new((self.id, attempt), placed, restored, cx, past);
        run.pinned = self.operations.pinned();
        run
    }

    /// The newest snapshot; the outer None says that it is still to be read.
    fn newest_snapshot(&mut self, cx: &mut Context<'_>) -> Option<Option<Arc<Manifest>>> {
        let Some(epoch) = cx.facts.newest() else { return Some(None) };
        if let Some(manifest) = self.snapshot.as_ref().filter(|manifest| manifest.epoch == epoch) {
            return Some(Some(manifest.clone()));
        }
        let is_away = self.store_is_away.as_ref().is_some_and(|(_, again)| *again > cx.now.time);
        if !self.reading && !is_away && self.damaged != Some(epoch) {
            self.reading = true;
            cx.out.push(ClusterAction::Store(self.id, StoreAction::ReadSnapshot { epoch }));
        }
        None
    }

    pub(super) fn snapshot_read(&mut self, cx: &mut Context<'_>, epoch: Epoch, read: SnapshotRead) {
        self.reading = false;
        self.store_is_away = None;
        if !matches!(self.phase, Phase::Waiting { .. } | Phase::Adopting { .. }) {
            return;
        }
        match read {
            SnapshotRead::Read(manifest, published) => {
                self.snapshot = Some(manifest);
                self.past.published = self.past.published.max(published);
            }
            SnapshotRead::Damaged(why) => self.is_damaged(cx, epoch, &why),
            SnapshotRead::Unavailable(why) => {
                self.store_is_away = Some((why, cx.now.time.plus_ms(STORE_AGAIN_MS)));
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
            cx.out.push(ClusterAction::Store(job, StoreAction::SetAside { epoch }));
            self.damaged = Some(epoch);
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
        let Phase::Proposed(run) = &self.phase else { return };
        if run.attempt != attempt {
            return;
        }
        if run.restored_epoch() != cx.facts.newest() || run.parallelism != cx.facts.parallelism {
            // While the record was on its way, a snapshot was completed or another parallelism was wanted.
            return self.restart(cx);
        }
        if let Some(host) = run.hosts().into_iter().find(|host| !cx.taskmanagers.is_connected(host)) {
            return self.failed(cx, &Error::environment(format!("the taskmanager {host} is gone")));
        }
        let (job, last_epoch) = (self.id, cx.facts.last_epoch);
        cx.out.push(ClusterAction::Store(job, StoreAction::RemoveLeftovers { attempt, last_epoch }));
        run.launch(cx);
        if let Phase::Proposed(run) = std::mem::replace(&mut self.phase, Phase::Over) {
            self.phase = Phase::Active(run);
        }
    }

    fn completed(&mut self, cx: &mut Context<'_>, attempt: Attempt, epoch: Epoch) {
        let Phase::Active(run) = &mut self.phase else { return };
        if run.attempt != attempt || cx.facts.newest() != Some(epoch) {
            return;
        }
        self.failures.has_progressed();
        self.avoided.clear();
        let outcome = run.completed(cx, epoch);
        self.snapshot.clone_from(&run.newest);
        self.follow(cx, outcome);
    }

    /// Does what an attempt has led to.
    fn follow(&mut self, cx: &mut Context<'_>, outcome: Outcome) {
        match outcome {
            Outcome::GoesOn => self.goes_on(cx.now.time),
            Outcome::Failed(error) => self.failed(cx, &error),
            Outcome::Damaged(epoch, why) if cx.facts.newest() != Some(epoch) => {
                let text = format!("a process finds the snapshot of epoch {epoch} damaged: {why}");
                self.failed(cx, &Error::environment(text));
            }
            Outcome::Damaged(epoch, why) => {
                self.forget_attempt(cx);
                self.snapshot = None;
                self.phase = Phase::Waiting { due: cx.now.time };
                self.is_damaged(cx, epoch, &why);
            }
            Outcome::Exited(exit) => self.exited(cx, exit),
        }
    }

    fn goes_on(&mut self, now: Time) {
        let Some(run) = self.active().filter(|run| run.is_running()) else { return };
        let attempt = run.attempt;
        self.has_run = true;
        self.pause.ends(attempt, now);
    }

    /// The running attempt reads no further.
    fn pauses(&mut self, now: Time) {
        if let Some(run) = self.active().filter(|run| run.is_running()) {
            let attempt = run.attempt;
            self.pause.begins(attempt, now);
        }
    }

    fn exited(&mut self, cx: &mut Context<'_>, exit: Exit) {
        match exit {
            Exit::Failed { reason } => self.failed(cx, &Error::environment(reason)),
            Exit::Stopped if cx.facts.stop.as_ref().is_none_or(|stop| stop.drain) => {
                // It was stopped for another parallelism, or so that the next attempt drains.
                self.dismiss(cx);
                self.phase = Phase::Waiting { due: cx.now.time };
            }
            Exit::Finished | Exit::Stopped => {
                self.dismiss(cx);
                self.finish(cx);
            }
        }
    }

    /// Its input was read to the end, or it was stopped, and all of its output is published.
    fn finish(&mut self, cx: &mut Context<'_>) {
        let savepoint =
            cx.facts.stop.as_ref().and_then(|stop| Some((stop.operation, stop.savepoint.clone()?)));
        let (Some((operation, directory)), Some(epoch)) = (savepoint, cx.facts.newest()) else {
            return self.end(cx, None);
        };
        self.phase = Phase::Saving { operation };
        self.operations.writes_last(operation, epoch);
        cx.out.push(ClusterAction::Copy(self.id, CopyAction::WriteSavepoint { operation, epoch, directory }));
    }

    /// Has the processes end by themselves.
    fn dismiss(&mut self, cx: &mut Context<'_>) {
        self.pauses(cx.now.time);
        if let Phase::Active(run) = std::mem::replace(&mut self.phase, Phase::Ending) {
            run.dismiss(cx);
            self.is_past(run);
        }
    }

    fn forget_attempt(&mut self, cx: &mut Context<'_>) {
        self.pauses(cx.now.time);
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Active(run) | Phase::Proposed(run) => {
                run.kill(cx);
                self.is_past(run);
            }
            Phase::Adopting { running, .. } => {
                let triggered = running.values().map(|process| process.triggered).max();
                self.past.used = self.past.used.max(triggered.unwrap_or_default());
                self.kill_placed(cx);
            }
            Phase::Waiting { .. } | Phase::Saving { .. } | Phase::Ending | Phase::Over => {}
        }
    }

    /// An attempt is over; another one may follow.
    fn is_past(&mut self, run: AttemptRun) {
        self.past = run.past();
        self.last_attempt = Some(run);
        self.rescaling = false;
        self.operations.attempt_is_over();
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
        match self.failures.add(cx.now.time, (self.id, attempt), error, &cx.facts.spec.settings) {
            Next::Restart(delay_ms) => self.phase = Phase::Waiting { due: cx.now.time.plus_ms(delay_ms) },
            Next::Fail(cause) => self.fail(cx, cause),
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
        let record = self.end_of(cx, ending);
        cx.out.push(ClusterAction::Propose(record));
    }

    fn end_of(&self, cx: &Context<'_>, ending: Ending) -> Record {
        let done = self.snapshot.as_deref().map(Done::of).unwrap_or_default();
        Record::Ended { job: self.id, ending, at_ms: cx.now.wall_ms, done }
    }

    fn ended(&mut self, cx: &mut Context<'_>, ending: &Ending) {
        self.forget_attempt(cx);
        self.phase = Phase::Over;
        let stop = cx.facts.stop.as_ref().map(|stop| stop.operation);
        self.operations.job_has_ended(ending, stop);
        // It is remembered for long, and needs none of what may be large.
        self.snapshot = None;
        self.last_attempt.iter_mut().for_each(AttemptRun::forget_manifests);
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
                let here: BTreeSet<Slot> = placed_on(cx.facts, &registration.id).collect();
                running.retain(|first, _| !here.contains(first));
                let current = ours.iter().filter(|process| process.process.attempt == cx.facts.attempt);
                let current = current.filter(|process| here.contains(&process.process.first));
                running.extend(current.map(|process| (process.process.first, process.clone())));
                if here.iter().any(|first| !running.contains_key(first)) {
                    let text =
                        format!("a process on {} ended while the jobmanager was away", registration.id);
                    return self.not_adopted(cx, &Error::environment(text));
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
                self.not_adopted(cx, &Error::environment(text));
            }
            return;
        }
        let has_ended = running.values().all(|process| process.ended.len() >= process.workers as usize);
        if has_ended || cx.facts.is_ending || cx.facts.workers() != cx.facts.parallelism {
            // Which epoch is the last one is not in the ledger, and no barrier follows that one.
            let attempt = cx.facts.attempt;
            let text = format!(
                "attempt {attempt} is followed by another one, as its last checkpoint may be over already"
            );
            cx.out.push(ClusterAction::Note { job: self.id, warning: false, text });
            return self.restart(cx);
        }
        let Some(newest) = self.newest_snapshot(cx) else { return };
        let mut run = self.new_run(cx, cx.facts.attempt, &cx.facts.placed, newest);
        let outcome = run.adopt(cx, &running);
        self.phase = Phase::Active(run);
        self.follow(cx, outcome);
    }

    /// An attempt cannot be adopted: its processes have failed, or have left after the last checkpoint.
    fn not_adopted(&mut self, cx: &mut Context<'_>, error: &Error) {
        if cx.facts.is_ending { self.restart(cx) } else { self.failed(cx, error) }
    }

    /// A taskmanager has not come back.
    pub(super) fn lost(&mut self, cx: &mut Context<'_>, taskmanager: &TaskManagerId) {
        match &mut self.phase {
            Phase::Active(run) if run.hosts().contains(taskmanager) => {
                let text = format!("the taskmanager {taskmanager} does not answer any more");
                self.failed(cx, &Error::environment(text));
            }
            Phase::Adopting { running, .. } => {
                placed_on(cx.facts, taskmanager).for_each(|first| drop(running.remove(&first)));
            }
            _ => {}
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
        let Phase::Active(run) = &mut self.phase else {
            return self.process_to_adopt(cx, process, happened);
        };
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
        if matches!(outcome, Outcome::Failed(_)) && !run.is_running() {
            self.avoided.insert(taskmanager.clone());
        }
        self.follow(cx, outcome);
        self.go_on_with_operations(cx);
    }

    /// Something has happened to a process of an attempt that waits for its other processes, or for its manifest.
    fn process_to_adopt(&mut self, cx: &mut Context<'_>, process: ProcessId, happened: Happened) {
        let Phase::Adopting { running, .. } = &mut self.phase else { return };
        let known = running.get_mut(&process.first).filter(|known| known.process == process);
        let Some(known) = known else { return };
        match happened {
            Happened::Exited(how) => {
                let host = cx.facts.placed.iter().find(|placed| placed.first == process.first);
                let error = exited(Some(known.pid), host.map(|placed| &placed.taskmanager), &how);
                self.not_adopted(cx, &error);
            }
            Happened::Message(message) => match *message {
                FromJobProcess::Report(ToDriver { attempt, report }) if attempt == process.attempt => {
                    match report {
                        Report::Ready(slot) => known.ready.push(slot),
                        Report::SourcesEnded(slot) => known.ended.push(slot),
                        Report::Failed(error) => self.failed(cx, &error),
                        _ => {}
                    }
                }
                _ => {}
            },
            Happened::Started(_) => {}
        }
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
        let record = self.end_of(cx, Ending::Canceled);
        cx.out.push(ClusterAction::Propose(record));
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
        self.operations.add_stop(operation, savepoint.clone())?;
        let stop = Stop { drain, savepoint, operation };
        cx.out.push(ClusterAction::Propose(Record::StopRequested { job: self.id, stop }));
        Ok(Answer::Operation(operation))
    }

    fn stop(&mut self, cx: &mut Context<'_>, stop: &Stop) {
        let Phase::Active(run) = &mut self.phase else { return };
        if run.is_running() {
            // Also to drain. The present end of the input is that of the partitions that there are now, and only an attempt
            // that begins lists them before it reads; so this one stops, and the next one drains.
            let outcome = run.stop(cx);
            self.follow(cx, outcome);
        } else if stop.drain {
            // An attempt that is being started has been told that the job does not drain.
            self.restart(cx);
        }
    }

    /// Starts the attempt anew, though it has not failed.
    fn restart(&mut self, cx: &mut Context<'_>) {
        self.forget_attempt(cx);
        self.phase = Phase::Waiting { due: cx.now.time };
    }

    pub(super) fn request_savepoint(
        &mut self,
        cx: &mut Context<'_>,
        operation: u64,
        directory: String,
    ) -> Result<Answer, Error> {
        self.refuse_if_over(cx)?;
        self.operations.add_savepoint(operation, directory)?;
        self.go_on_with_operations(cx);
        Ok(Answer::Operation(operation))
    }

    pub(super) fn savepoint_written(
        &mut self,
        cx: &mut Context<'_>,
        operation: u64,
        result: Result<String, Error>,
    ) {
        let is_last = matches!(self.phase, Phase::Saving { operation: last } if last == operation);
        match &result {
            // The operation is over when the record of the job's end is committed, also if another stop has come meanwhile.
            Ok(_) if is_last => self.operations.is_written(operation),
            Ok(path) => {
                self.operations.finish(operation, OperationView::Completed(Some(path.clone())));
            }
            Err(error) => self.operations.finish(operation, OperationView::Failed(error.to_string())),
        }
        self.pin();
        if is_last {
            // Without a savepoint, too, the job has stopped, with its last snapshot in its own directory.
            self.end(cx, result.ok());
        }
    }

    /// The attempt keeps the snapshot that a savepoint is being made of.
    fn pin(&mut self) {
        if let Phase::Proposed(run) | Phase::Active(run) = &mut self.phase {
            run.pinned = self.operations.pinned();
        }
    }

    /// Requests checkpoints for savepoints that are wanted, and writes those whose checkpoint is published, one after the
    /// other.
    fn go_on_with_operations(&mut self, cx: &mut Context<'_>) {
        let Phase::Active(run) = &mut self.phase else { return };
        if !run.is_running() || !self.operations.is_any_waiting() {
            return;
        }
        if self.operations.want_checkpoint() {
            self.operations.checkpoint_requested(run.request_checkpoint(cx));
        }
        // A savepoint holds no staged output: what its snapshot has staged must be visible.
        let Some(epoch) = run.newest_published() else { return };
        if let Some((operation, directory)) = self.operations.next_to_write(epoch) {
            let write = CopyAction::WriteSavepoint { operation, epoch, directory };
            cx.out.push(ClusterAction::Copy(self.id, write));
            self.pin();
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
}

/// The most partitions that a source must have. A job that was started may have found others since, and has got workers for them.
fn known_partitions(facts: &JobFacts) -> u32 {
    let described = facts.spec.plan.widest_source().map_or(0, |(_, partitions)| partitions);
    if facts.was_started() { described.max(facts.parallelism) } else { described }
}

/// What has happened to a process.
pub(super) enum Happened {
    Started(u32),
    Exited(HowEnded),
    Message(Box<FromJobProcess>),
}

/// The first slots of the processes that the ledger has placed on a taskmanager.
fn placed_on(facts: &JobFacts, taskmanager: &TaskManagerId) -> impl Iterator<Item = Slot> {
    facts.placed.iter().filter(|placed| placed.taskmanager == *taskmanager).map(|placed| placed.first)
}
