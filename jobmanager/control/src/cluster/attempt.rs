//! One attempt of a job: its processes on their way to running, and its checkpoints.

mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_protocol::link::{Command, Report, ToProcess};
use tidegate_protocol::manifest::{FORMAT_VERSION, SlotSnapshot};
use tidegate_protocol::process::{Begin, FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::{HowEnded, ProcessId, RunningProcess, ToTaskManager};
use tidegate_protocol::{Attempt, Epoch, Error, ErrorKind, JobId, Manifest, Slot, TaskManagerId};

use super::action::{ClusterAction, StoreAction};
use super::brain::ClusterSettings;
use super::input::{NotWritten, Now};
use super::ledger::JobFacts;
use super::placement::Placed;
use super::record::Record;
use super::taskmanagers::TaskManagers;
use super::view::CheckpointView;
use crate::action::{Action, Exit};
use crate::checkpoint::CheckpointPhase;
use crate::control::Control;
use crate::input::{Input, LedgerEntry};
use crate::rules::{Assigned, Assignment, store_ids, with_store_ids};
use crate::settings::CheckpointSettings;
use crate::time::Time;

/// After so many milliseconds a checkpoint in flight is named in the log.
const SLOW_CHECKPOINT_MS: u64 = 30_000;
/// Checkpoints after an adoption until it is known from their manifests which worker reads which partitions.
const CHECKPOINTS_UNTIL_ASSIGNED: u32 = 2;

/// After a process has reported an error of the environment, so many milliseconds may pass until its cause is heard of.
const CAUSE_MS: u64 = 200;

/// What an attempt works with during a step.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a ClusterSettings,
    pub(super) taskmanagers: &'a TaskManagers,
    pub(super) facts: &'a JobFacts,
    pub(super) out: &'a mut Vec<ClusterAction>,
}

/// What a step of an attempt has led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    GoesOn,
    /// It cannot go on.
    Failed(Error),
    /// The snapshot that it was to restore is damaged.
    Damaged(Epoch, String),
    /// Its last checkpoint is published.
    Exited(Exit),
}

/// What the attempts of a job have done so far, as far as this brain knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// The highest epoch that was complete or triggered. The next attempt begins with the one after it, so that an answer
    /// about an epoch is never taken for one about the same epoch of a later attempt.
    pub(super) used: Epoch,
    /// The last epoch that is known to be published. It is not published again: its readers may have taken it away.
    pub(super) published: Epoch,
}

/// An error that a process has reported, and that may only be the consequence of another one: a process whose peer is
/// killed reports a broken connection, often before the end of its peer is known.
#[derive(Clone, Debug)]
struct Symptom {
    error: Error,
    /// Until when a better cause is waited for.
    until: Time,
    /// The processes that have reported an error.
    of: BTreeSet<Slot>,
}

/// A process of the attempt.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) taskmanager: TaskManagerId,
    pub(super) workers: u32,
    pub(super) pid: Option<u32>,
    /// Where the others can connect to it.
    address: Option<String>,
}

/// An attempt from its record to its end.
#[derive(Clone, Debug)]
pub(super) struct AttemptRun {
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    pub(super) parallelism: u32,
    /// By the slot of the first worker.
    pub(super) processes: BTreeMap<Slot, Process>,
    pub(super) restored: Option<Arc<Manifest>>,
    pub(super) since: Time,
    past: Past,
    /// The partitions that the first process has found.
    prepared: Option<BTreeMap<String, Vec<String>>>,
    /// None until it is known.
    assignment: Option<Assignment>,
    /// The last epoch that is known to be triggered, from an adoption until its newest snapshot is published.
    adopted: Option<Epoch>,
    /// Checkpoints since an adoption.
    since_adoption: u32,
    begun: bool,
    ready: BTreeSet<Slot>,
    control: Control,
    arrived: Option<Box<SlotSnapshot>>,
    parts: BTreeMap<Slot, SlotSnapshot>,
    published: BTreeSet<Slot>,
    /// The last complete snapshot.
    pub(super) newest: Option<Arc<Manifest>>,
    /// The manifest that is being written, or whose record is.
    writing: Option<Arc<Manifest>>,
    /// Epochs before this one must not be collected: a savepoint is being made of it.
    pub(super) pinned: Option<Epoch>,
    triggered_at_ms: u64,
    pub(super) checkpoints: Vec<CheckpointView>,
    pub(super) aborted: u64,
    exit: Option<Exit>,
    failed: Option<Error>,
    symptom: Option<Symptom>,
}

impl AttemptRun {
    pub(super) fn new(
        (job, attempt): (JobId, Attempt),
        placed: &[Placed],
        restored: Option<Arc<Manifest>>,
        cx: &Context<'_>,
        past: Past,
    ) -> Self {
        let parallelism = placed.iter().map(|placed| placed.workers).sum();
        let process = |placed: &Placed| {
            let Placed { taskmanager, first, workers } = placed.clone();
            (first, Process { taskmanager, workers, pid: None, address: None })
        };
        let of_job = &cx.facts.spec.settings;
        let settings = CheckpointSettings {
            interval_ms: Some(of_job.interval_ms),
            slow_ms: SLOW_CHECKPOINT_MS,
            timeout_ms: Some(of_job.timeout_ms),
            min_pause_ms: of_job.min_pause_ms,
            tolerable_failures: of_job.tolerable_failures,
            retain: of_job.retain,
            writers: parallelism,
        };
        Self {
            job,
            attempt,
            parallelism,
            processes: placed.iter().map(process).collect(),
            newest: restored.clone(),
            restored,
            since: cx.now.time,
            past,
            prepared: None,
            assignment: None,
            adopted: None,
            since_adoption: 0,
            begun: false,
            ready: BTreeSet::new(),
            control: Control::new(settings, attempt),
            arrived: None,
            parts: BTreeMap::new(),
            published: BTreeSet::new(),
            writing: None,
            pinned: None,
            triggered_at_ms: 0,
            checkpoints: Vec::new(),
            aborted: 0,
            exit: None,
            failed: None,
            symptom: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.ready.len() == self.parallelism as usize
    }

    /// The snapshot that it goes on from.
    pub(super) fn restored_epoch(&self) -> Option<Epoch> {
        self.restored.as_ref().map(|manifest| manifest.epoch)
    }

    /// What this attempt and those before it have done.
    pub(super) fn past(&self) -> Past {
        let triggered = self.control.triggered().max(self.adopted.unwrap_or_default());
        Past { used: self.past.used.max(triggered), ..self.past }
    }

    /// The newest complete epoch, if its output is published.
    pub(super) fn newest_published(&self) -> Option<Epoch> {
        let is_published =
            self.adopted.is_none() && self.control.phase() != Some(CheckpointPhase::Publishing);
        self.newest.as_ref().filter(|_| is_published).map(|manifest| manifest.epoch)
    }

    /// The taskmanagers that run its processes.
    pub(super) fn hosts(&self) -> BTreeSet<TaskManagerId> {
        self.processes.values().map(|process| process.taskmanager.clone()).collect()
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    fn send(&self, cx: &mut Context<'_>, first: Slot, message: ToJobProcess) {
        if let Some(process) = self.processes.get(&first) {
            let id = ProcessId { job: self.job, attempt: self.attempt, first };
            let message = ToTaskManager::ToProcess { process: id, message: Box::new(message) };
            cx.out.push(ClusterAction::Send(process.taskmanager.clone(), message));
        }
    }

    fn command_all(&self, cx: &mut Context<'_>, command: &Command) {
        for first in self.processes.keys() {
            self.command(cx, *first, command);
        }
    }

    fn command(&self, cx: &mut Context<'_>, first: Slot, command: &Command) {
        let message = ToProcess { attempt: self.attempt, command: command.clone() };
        self.send(cx, first, ToJobProcess::Command(message));
    }

    /// The process that has a worker.
    fn process_of(&self, slot: Slot) -> Option<Slot> {
        self.processes.range(..=slot).next_back().map(|(first, _)| *first)
    }

    /// Has the taskmanagers start the processes: the attempt's record is committed.
    pub(super) fn launch(&self, cx: &mut Context<'_>) {
        let spec = &cx.facts.spec;
        for (first, process) in &self.processes {
            let preparation = Preparation {
                job: self.job,
                attempt: self.attempt,
                parallelism: self.parallelism,
                first: *first,
                workers: process.workers,
                key_groups: spec.key_groups,
                memory: spec.settings.memory,
                store: cx.settings.directory_of(self.job),
                restored: self.restored_epoch(),
                published: self.past.published,
                first_epoch: self.past.used.next(),
                store_ids: self.store_ids(cx),
                drains: cx.facts.drains(),
                // The rest is filled in by the driver and the taskmanager.
                working: Default::default(),
                copies: Default::default(),
                secret: String::new(),
                listen: String::new(),
                tls: None,
                silence_ms: 0,
            };
            let launch =
                ToTaskManager::Launch { program: spec.program.clone(), preparation: Box::new(preparation) };
            cx.out.push(ClusterAction::Send(process.taskmanager.clone(), launch));
        }
    }

    fn store_ids(&self, cx: &Context<'_>) -> BTreeMap<String, u16> {
        store_ids(&cx.facts.spec.plan, self.restored.as_deref())
    }

    /// The hosts of the processes for which an attempt does not run yet: those that have failed, or else those that it waits
    /// for.
    pub(super) fn late_hosts(&self) -> BTreeSet<TaskManagerId> {
        if let Some(symptom) = &self.symptom {
            let failed = symptom.of.iter().filter_map(|first| self.processes.get(first));
            return failed.map(|process| process.taskmanager.clone()).collect();
        }
        let listens = |process: &Process| process.address.is_some();
        let all_listen = self.processes.values().all(listens);
        let is_ready = |first: &Slot, process: &Process| {
            (first.0..first.0 + process.workers).all(|slot| self.ready.contains(&Slot(slot)))
        };
        let is_late = |first: &Slot, process: &Process| match all_listen {
            true => !is_ready(first, process),
            false => !listens(process),
        };
        let late = self.processes.iter().filter(|(first, process)| is_late(first, process));
        late.map(|(_, process)| process.taskmanager.clone()).collect()
    }

    /// Forgets what may be large: the attempt is only looked at any more.
    pub(super) fn forget_manifests(&mut self) {
        (self.restored, self.writing, self.assignment, self.prepared) = (None, None, None, None);
        self.newest = None;
        self.parts.clear();
    }

    /// Ends the processes.
    pub(super) fn kill(&self, cx: &mut Context<'_>) {
        for taskmanager in self.hosts() {
            cx.out.push(ClusterAction::Send(
                taskmanager,
                ToTaskManager::Kill { job: self.job, attempt: self.attempt },
            ));
        }
    }

    /// Has the processes end by themselves.
    pub(super) fn dismiss(&self, cx: &mut Context<'_>) {
        self.command_all(cx, &Command::Abort);
    }

    /// Goes on with an attempt that runs already. All of its processes have been reported.
    pub(super) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        running: &BTreeMap<Slot, RunningProcess>,
    ) -> Outcome {
        for (first, process) in running {
            if let Some(ours) = self.processes.get_mut(first) {
                ours.pid = Some(process.pid);
            }
            self.ready.extend(&process.ready);
        }
        self.begun = true;
        if !self.is_running() {
            return Outcome::Failed(Error::environment(
                "the jobmanager was started again while the attempt was being started",
            ));
        }
        let triggered = running.values().map(|process| process.triggered).max().unwrap_or_default();
        self.adopted = Some(triggered.max(cx.facts.last_epoch));
        for slot in running.values().flat_map(|process| &process.ended) {
            self.step(cx, Input::SourcesEnded { attempt: self.attempt, slot: *slot });
        }
        match cx.facts.newest() {
            // Some workers may have published it; they are only asked again.
            Some(epoch) if cx.facts.restored != Some(epoch) && epoch > self.past.published => {
                self.command_all(cx, &Command::Publish(epoch));
            }
            newest => {
                if let Some(epoch) = newest {
                    self.command_all(cx, &Command::Completed(epoch));
                }
                self.go_on_after_adoption(cx);
            }
        }
        self.outcome()
    }

    /// The newest snapshot of an adopted attempt is published: checkpoints go on.
    fn go_on_after_adoption(&mut self, cx: &mut Context<'_>) {
        let Some(last_epoch) = self.adopted.take() else { return };
        self.start_control(cx, last_epoch);
        if cx.facts.is_ending {
            self.step(cx, Input::StopRequested);
        }
    }

    fn start_control(&mut self, cx: &mut Context<'_>, last_epoch: Epoch) {
        let restored = cx.facts.newest();
        let older = cx.facts.snapshots.iter().copied().filter(|epoch| Some(*epoch) != restored).collect();
        self.step(cx, Input::Started { restored, older, last_epoch });
    }

    /// A last checkpoint is taken, and its output published.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>) -> Outcome {
        self.step(cx, Input::StopRequested);
        self.outcome()
    }

    /// A checkpoint is wanted. Returns the last epoch that does not count: the wanted one is a later one.
    pub(super) fn request_checkpoint(&mut self, cx: &mut Context<'_>) -> Epoch {
        let before = self.adopted.unwrap_or(self.control.triggered());
        self.step(cx, Input::CheckpointRequested);
        before
    }

    /// A taskmanager has connected again, with its processes as they were: what was on its way to or from them is lost.
    pub(super) fn reconnected(
        &mut self,
        cx: &mut Context<'_>,
        running: &[RunningProcess],
        host: &TaskManagerId,
    ) -> Outcome {
        let (job, attempt) = (self.job, self.attempt);
        let ours = |first: Slot| {
            let process = ProcessId { job, attempt, first };
            running.iter().find(|running| running.process == process)
        };
        let firsts: Vec<Slot> =
            self.processes.iter().filter(|(_, p)| p.taskmanager == *host).map(|(first, _)| *first).collect();
        for first in &firsts {
            let Some(process) = ours(*first) else {
                return Outcome::Failed(Error::environment(format!("a process on {host} is gone")));
            };
            self.started(*first, process.pid);
        }
        if !self.is_running() {
            // Of an attempt that is being started too much may be lost; a restart costs little.
            return Outcome::Failed(Error::environment(format!(
                "the connection to the taskmanager {host} broke while the attempt was being started"
            )));
        }
        // A trigger may follow from what comes after this, and must not come before it.
        firsts.iter().for_each(|first| self.tell_again(cx, *first));
        let reason = format!("the connection to the taskmanager {host} broke");
        self.step(cx, Input::MessagesLost { reason });
        for slot in firsts.iter().filter_map(|first| ours(*first)).flat_map(|process| &process.ended) {
            self.step(cx, Input::SourcesEnded { attempt, slot: *slot });
        }
        self.outcome()
    }

    fn tell_again(&self, cx: &mut Context<'_>, first: Slot) {
        let assigned = self.assignment.iter().flat_map(Assignment::all);
        for assigned in assigned.filter(|assigned| self.process_of(assigned.slot) == Some(first)) {
            self.command(cx, first, &assigned_command(assigned));
        }
        if let Some(epoch) = self.newest.as_ref().map(|manifest| manifest.epoch) {
            let is_publishing =
                self.adopted.is_some() || self.control.phase() == Some(CheckpointPhase::Publishing);
            let command = if is_publishing { Command::Publish(epoch) } else { Command::Completed(epoch) };
            self.command(cx, first, &command);
        }
        if cx.facts.is_ending {
            self.command(cx, first, &Command::StopReading);
        }
    }

    /// A process was started.
    pub(super) fn started(&mut self, first: Slot, pid: u32) {
        if let Some(process) = self.processes.get_mut(&first) {
            process.pid = Some(pid);
        }
    }

    /// A process has ended.
    pub(super) fn exited(&self, first: Slot, how: &HowEnded) -> Outcome {
        if self.symptom.as_ref().is_some_and(|symptom| symptom.of.contains(&first)) {
            // It has said why, and ends for that reason.
            return Outcome::GoesOn;
        }
        let process = self.processes.get(&first);
        Outcome::Failed(exited(process.and_then(|p| p.pid), process.map(|p| &p.taskmanager), how))
    }

    /// A process has reported an error.
    fn process_failed(&mut self, cx: &Context<'_>, first: Slot, error: Error) -> Outcome {
        if error.kind() != ErrorKind::Environment {
            return Outcome::Failed(error);
        }
        let until = cx.now.time.plus_ms(CAUSE_MS);
        let symptom = self.symptom.get_or_insert(Symptom { error, until, of: BTreeSet::new() });
        symptom.of.insert(first);
        if symptom.of.len() < self.processes.len() {
            return Outcome::GoesOn;
        }
        Outcome::Failed(symptom.error.clone())
    }

    /// A message of a process.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, first: Slot, message: FromJobProcess) -> Outcome {
        match message {
            FromJobProcess::Listening { port } => {
                let Some(process) = self.processes.get_mut(&first) else { return Outcome::GoesOn };
                let host = cx.taskmanagers.connected(&process.taskmanager).map(|t| t.address.clone());
                process.address = host.map(|host| address(&host, port));
                self.begin_if_prepared(cx);
            }
            // A taskmanager repeats it after a registration. For an adopted attempt it says nothing: it is about the snapshot
            // that the attempt began with, which may be older than the newest.
            FromJobProcess::Prepared { .. } if self.begun || self.prepared.is_some() => {}
            FromJobProcess::Prepared { partitions } => {
                self.prepared = Some(partitions);
                if let Some(epoch) = self.restored_epoch().filter(|epoch| *epoch > self.past.published) {
                    self.is_published(cx, epoch);
                }
                if cx.facts.finished {
                    // It has only had to publish the last output.
                    self.exit = Some(Exit::Finished);
                } else {
                    self.begin_if_prepared(cx);
                }
            }
            FromJobProcess::Damaged { epoch, why } => return Outcome::Damaged(epoch, why),
            FromJobProcess::Report(message) if message.attempt == self.attempt => {
                return self.report(cx, first, message.report);
            }
            FromJobProcess::Note { warning, text } => {
                cx.out.push(ClusterAction::Note { job: self.job, warning, text });
            }
            FromJobProcess::Report(_) | FromJobProcess::Pong | FromJobProcess::Metrics(_) => {}
        }
        self.outcome()
    }

    fn begin_if_prepared(&mut self, cx: &mut Context<'_>) {
        let addresses: Option<Vec<String>> = self.processes.values().map(|p| p.address.clone()).collect();
        let (Some(addresses), Some(partitions), false) = (addresses, &self.prepared, self.begun) else {
            return;
        };
        self.begun = true;
        let mut plan = cx.facts.spec.plan.clone();
        for (uid, source) in &mut plan.sources {
            source.partitions = partitions.get(uid).cloned().unwrap_or_default();
        }
        let assignment = Assignment::new(&plan, self.restored.as_deref(), self.parallelism as usize);
        let begin = Begin { addresses, assigned: assignment.by_worker().clone() };
        self.assignment = Some(assignment);
        for first in self.processes.keys() {
            self.send(cx, *first, ToJobProcess::Begin(Box::new(begin.clone())));
        }
    }

    fn report(&mut self, cx: &mut Context<'_>, first: Slot, report: Report) -> Outcome {
        let attempt = self.attempt;
        match report {
            Report::Ready(slot) => {
                if slot.0 < self.parallelism && self.ready.insert(slot) && self.is_running() {
                    self.start_control(cx, self.past.used);
                    if cx.facts.is_ending {
                        self.step(cx, Input::StopRequested);
                    }
                }
            }
            Report::SourcesEnded(slot) => self.step(cx, Input::SourcesEnded { attempt, slot }),
            Report::Acked { slot, epoch, part } => {
                self.arrived = Some(part);
                self.step(cx, Input::Acked { attempt, epoch, slot });
                self.arrived = None;
            }
            Report::Declined { slot, epoch, reason } => {
                self.step(cx, Input::Declined { attempt, epoch, slot, reason });
            }
            Report::Published { slot, epoch } => self.slot_published(cx, slot, epoch),
            Report::Partitions { source, names } => self.assign(cx, &source, names),
            Report::Failed(error) => return self.process_failed(cx, first, error),
            Report::Done(_) => {}
        }
        self.outcome()
    }

    /// How many partitions the source has that has the most, once that is known.
    pub(super) fn most_partitions(&self) -> Option<u32> {
        let most = self.assignment.as_ref()?.most_partitions();
        Some(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Assigns those of a source's partitions that no worker has yet.
    fn assign(&mut self, cx: &mut Context<'_>, source: &str, names: Vec<String>) {
        let Some(assignment) = &mut self.assignment else { return };
        for assigned in assignment.add(source, names) {
            if let Some(first) = self.process_of(assigned.slot) {
                self.command(cx, first, &assigned_command(assigned));
            }
        }
    }

    fn slot_published(&mut self, cx: &mut Context<'_>, slot: Slot, epoch: Epoch) {
        let is_newest = self.newest.as_ref().is_some_and(|manifest| manifest.epoch == epoch);
        if !is_newest || epoch <= self.past.published || slot.0 >= self.parallelism {
            return;
        }
        self.published.insert(slot);
        if self.published.len() < self.parallelism as usize {
            return;
        }
        self.command_all(cx, &Command::Completed(epoch));
        self.is_published(cx, epoch);
        if self.adopted.is_some() {
            return self.go_on_after_adoption(cx);
        }
        self.remember(cx, epoch, None);
        self.step(cx, Input::Published { attempt: self.attempt, epoch });
    }

    fn is_published(&mut self, cx: &mut Context<'_>, epoch: Epoch) {
        self.past.published = epoch;
        cx.out.push(ClusterAction::Store(self.job, StoreAction::NotePublished { epoch }));
    }

    fn remember(&mut self, cx: &Context<'_>, epoch: Epoch, failure: Option<String>) {
        let manifest = self.newest.as_ref().filter(|manifest| manifest.epoch == epoch);
        let bytes = manifest.map_or(0, |m| m.store_files().map(|file| file.bytes).sum());
        let triggered_at_ms = self.triggered_at_ms;
        let duration_ms = cx.now.wall_ms.saturating_sub(triggered_at_ms);
        self.checkpoints.insert(0, CheckpointView { epoch, failure, triggered_at_ms, duration_ms, bytes });
        self.checkpoints.truncate(20);
    }

    /// The manifest of the checkpoint in flight is written, or not.
    pub(super) fn manifest_written(
        &mut self,
        cx: &mut Context<'_>,
        epoch: Epoch,
        result: Result<(), NotWritten>,
    ) -> Outcome {
        let Some(manifest) = self.writing.clone().filter(|manifest| manifest.epoch == epoch) else {
            return Outcome::GoesOn;
        };
        let (job, attempt, finished) = (self.job, self.attempt, manifest.finished);
        match result {
            Ok(()) => {
                cx.out.push(ClusterAction::Propose(Record::Completed { job, attempt, epoch, finished }))
            }
            Err(NotWritten { reason, is_certain: true }) => {
                self.writing = None;
                let record = LedgerEntry::Completed { attempt, epoch, finished };
                self.step(cx, Input::Refused { record, reason });
            }
            Err(NotWritten { reason, .. }) => {
                return Outcome::Failed(Error::environment(format!(
                    "the manifest of epoch {epoch} could not be written: {reason}"
                )));
            }
        }
        self.outcome()
    }

    /// The record of the checkpoint in flight is committed.
    pub(super) fn completed(&mut self, cx: &mut Context<'_>, epoch: Epoch) -> Outcome {
        let Some(manifest) = self.writing.take().filter(|manifest| manifest.epoch == epoch) else {
            return Outcome::GoesOn;
        };
        let record = LedgerEntry::Completed { attempt: self.attempt, epoch, finished: manifest.finished };
        self.learn_assignment(&manifest);
        self.newest = Some(manifest);
        self.step(cx, Input::Committed(record));
        self.outcome()
    }

    /// After an adoption, which worker reads which partitions is known from what the workers have written.
    fn learn_assignment(&mut self, manifest: &Manifest) {
        if self.assignment.is_none() {
            self.since_adoption += 1;
            if self.since_adoption >= CHECKPOINTS_UNTIL_ASSIGNED {
                self.assignment = Some(Assignment::of(manifest));
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) -> Outcome {
        if !self.is_running() && cx.now.time.since_ms(self.since) >= cx.settings.start_timeout_ms {
            let waits = self.waits_for().unwrap_or_default();
            return Outcome::Failed(Error::environment(format!(
                "the attempt was not running after {} s: {waits}",
                cx.settings.start_timeout_ms / 1_000
            )));
        }
        if let Some(symptom) = self.symptom.as_ref().filter(|symptom| symptom.until <= cx.now.time) {
            return Outcome::Failed(symptom.error.clone());
        }
        self.step(cx, Input::Tick);
        self.outcome()
    }

    /// When it has to be called again.
    pub(super) fn deadline(&self, settings: &ClusterSettings) -> Option<Time> {
        let start = self.since.plus_ms(settings.start_timeout_ms);
        let own = if self.is_running() { self.control.deadline() } else { Some(start) };
        own.into_iter().chain(self.symptom.as_ref().map(|symptom| symptom.until)).min()
    }

    fn outcome(&mut self) -> Outcome {
        match (self.failed.take(), self.exit.take()) {
            (Some(error), _) => Outcome::Failed(error),
            (None, Some(exit)) => Outcome::Exited(exit),
            (None, None) => Outcome::GoesOn,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>, input: Input) {
        let mut actions = Vec::new();
        self.control.step(cx.now.time, input, &mut actions);
        for action in actions {
            self.act(cx, action);
        }
    }

    fn act(&mut self, cx: &mut Context<'_>, action: Action) {
        let job = self.job;
        match action {
            Action::Trigger { epoch, last, .. } => {
                self.parts.clear();
                self.triggered_at_ms = cx.now.wall_ms;
                self.command_all(cx, &Command::Trigger { epoch, last: last.is_some() });
            }
            Action::StopReading { .. } => self.command_all(cx, &Command::StopReading),
            Action::Accept { slot, .. } => {
                if let Some(part) = self.arrived.take() {
                    self.parts.insert(slot, *part);
                }
            }
            Action::Propose(record) => self.write_manifest(cx, record),
            Action::Publish { epoch, .. } => {
                self.published.clear();
                self.command_all(cx, &Command::Publish(epoch));
            }
            Action::Collect { oldest } => {
                let oldest = self.pinned.map_or(oldest, |pinned| pinned.min(oldest));
                cx.out.push(ClusterAction::Store(job, StoreAction::Collect { oldest }));
            }
            Action::Abort { epoch, reason, .. } => {
                self.parts.clear();
                self.aborted += 1;
                self.remember(cx, epoch, Some(reason.clone()));
                self.note_aborted(cx, epoch, &reason);
            }
            Action::Discard { attempt, epoch, slot } => {
                cx.out.push(ClusterAction::Store(job, StoreAction::Discard { attempt, epoch, slot }));
            }
            Action::Slow { epoch, phase, waited_ms } => {
                let seconds = waited_ms as f64 / 1_000.0;
                let text = format!("the snapshot of epoch {epoch} has been {phase} for {seconds:.0} s");
                cx.out.push(ClusterAction::Note { job, warning: true, text });
            }
            Action::Exit(exit) => self.exit = Some(exit),
        }
    }

    /// Says that a checkpoint was aborted. If one after the other is, the log has the 1st, 2nd, 4th, 8th and so on.
    fn note_aborted(&self, cx: &mut Context<'_>, epoch: Epoch, reason: &str) {
        let failures = self.control.failures();
        if failures > 1 && !failures.is_power_of_two() {
            return;
        }
        let in_a_row = if failures > 1 { format!(" ({failures} in a row)") } else { String::new() };
        let text = format!(
            "the checkpoint of epoch {epoch} was aborted{in_a_row}, the next one takes its place: {reason}"
        );
        cx.out.push(ClusterAction::Note { job: self.job, warning: true, text });
    }

    fn write_manifest(&mut self, cx: &mut Context<'_>, record: LedgerEntry) {
        let LedgerEntry::Completed { attempt, epoch, finished } = record;
        let spec = &cx.facts.spec;
        let checkpoints = self.newest.as_ref().map_or(0, |manifest| manifest.checkpoints);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            job: spec.plan.job.clone(),
            attempt,
            epoch,
            finished,
            checkpoints: checkpoints + 1,
            completed_at_ms: cx.now.wall_ms,
            parallelism: self.parallelism,
            key_groups: spec.key_groups,
            arguments: spec.plan.arguments.clone(),
            operators: with_store_ids(&spec.plan, &self.store_ids(cx)),
            slots: std::mem::take(&mut self.parts),
        };
        if let Some(uid) = manifest.differing_watermark() {
            self.failed = Some(Error::internal(format!(
                "at the barrier of epoch {epoch} the workers have come to different event times in '{uid}'"
            )));
            return;
        }
        let manifest = Arc::new(manifest);
        self.writing = Some(manifest.clone());
        cx.out.push(ClusterAction::Store(self.job, StoreAction::WriteManifest { manifest }));
    }
}

/// The error that the end of a process is. What its own code has done is told without what is another one in every attempt: the
/// same error again and again ends the job.
pub(super) fn exited(pid: Option<u32>, host: Option<&TaskManagerId>, how: &HowEnded) -> Error {
    if how.by_itself {
        return Error::job(format!("a process of the job {}", how.text));
    }
    let pid = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
    let host = host.map(|host| format!(" on {host}")).unwrap_or_default();
    Error::environment(format!("process{pid}{host} {}", how.text))
}

fn assigned_command(assigned: Assigned) -> Command {
    let Assigned { source, slot, partitions } = assigned;
    Command::Assigned { source, slot, partitions }
}

/// An address with a port; one of IPv6 needs brackets.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
