//! The driver of a job in one process: passes events to the control brain as inputs, and carries out its actions.
//!
//! It communicates with the workers by messages alone. It checks which attempt a message belongs to, and keeps which workers are
//! ready and done; what a message means for a checkpoint is decided by the brain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tidegate_control::rules::{Assigned, Assignment, with_store_ids};
use tidegate_control::{Action, CheckpointSettings, Control, Exit, Input, LedgerEntry, Time};
use tidegate_protocol::manifest::{FORMAT_VERSION, SlotSnapshot};
use tidegate_protocol::{Epoch, Manifest, Slot};

use super::mailbox::Event;
use super::run::Run;
use super::summary::Summary;
use super::watcher::Watcher;
use crate::attempt::AttemptSetup;
use crate::dataflow::process::Process;
use crate::dataflow::sockets::Sockets;
use crate::dataflow::worker::BuildGraph;
use crate::job_process::description::Description;
use crate::job_process::running::RunningProcess;
use crate::job_process::watchdog;
use crate::link::{Command, Connection, Report, ToDriver, ToProcess};
use crate::metrics::descriptors;
use crate::panics::catch;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, Result};
use tracing::Level;

#[cfg(test)]
mod tests;

/// A checkpoint that takes longer than this is reported in the log.
const SLOW_CHECKPOINT_MS: u64 = 30_000;
/// How long all threads of an attempt may take to come to their end.
const LEAVE: Duration = Duration::from_secs(5);

/// An interval in whole milliseconds, at most the largest that the brain can represent.
fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}

/// Runs one attempt of a job.
pub(crate) struct Driver<'a> {
    run: &'a Run,
    job: &'a Description,
    setup: AttemptSetup,
    /// The processes of the attempt, and the connection to each.
    processes: Vec<(Arc<Process>, Connection<ToProcess>)>,
    /// The same, once their threads run.
    running: Vec<RunningProcess>,
    assignment: Assignment,
    watcher: &'a mut dyn Watcher,
    control: Control,
    /// Complete snapshots before the restored one.
    older: Vec<Epoch>,
    /// The part that came with the acknowledgement which the brain is judging.
    arrived: Option<Box<SlotSnapshot>>,
    /// The parts of the pending snapshot: those of the acknowledgements that the brain has accepted.
    parts: BTreeMap<Slot, SlotSnapshot>,
    /// The last complete snapshot of this run.
    newest: Option<Arc<Manifest>>,
    began: Instant,
    triggered: Instant,
    /// The workers that run, those that have come to their end, and those whose output of the newest snapshot is published.
    ready: BTreeSet<Slot>,
    done: BTreeSet<Slot>,
    published: BTreeSet<Slot>,
    /// The number of messages that were dropped here: those of other attempts, and repeated ones that do not reach the
    /// brain.
    dropped: u64,
    /// Snapshots completed since the job's first start.
    checkpoints: u64,
    exit: Option<Exit>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        run: &'a Run,
        job: &'a Description,
        processes: Vec<Arc<Process>>,
        assignment: Assignment,
        older: Vec<Epoch>,
        watcher: &'a mut dyn Watcher,
    ) -> Self {
        let setup = processes[0].setup.clone();
        let settings = CheckpointSettings {
            interval_ms: run.interval.map(millis),
            slow_ms: SLOW_CHECKPOINT_MS,
            retain: run.retain,
            writers: setup.settings.parallelism as u32,
            ..CheckpointSettings::default()
        };
        let control = Control::new(settings, setup.attempt);
        let checkpoints = setup.restored.as_ref().map_or(0, |m| m.checkpoints);
        let now = Instant::now();
        let connect = |process: Arc<Process>| {
            let receiver = process.clone();
            let inbox = Box::new(move |messages| receiver.driver.receive(messages));
            (process, run.link.to_process(inbox))
        };
        Self {
            run,
            job,
            setup,
            processes: processes.into_iter().map(connect).collect(),
            running: Vec::new(),
            assignment,
            watcher,
            control,
            older,
            arrived: None,
            parts: BTreeMap::new(),
            newest: None,
            began: now,
            triggered: now,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            published: BTreeSet::new(),
            dropped: 0,
            checkpoints,
            exit: None,
        }
    }

    /// Runs the job until its input ends, it is stopped, or it fails.
    pub(crate) fn run(mut self, build: BuildGraph, events: &Receiver<Event>) -> Result<Summary> {
        self.note_start();
        let ended = self.start(&build).and_then(|()| catch(|| self.serve(events)));
        self.send(&Command::Abort);
        let until = Instant::now() + LEAVE;
        self.wait_for_workers(events, until);
        ended?;
        match self.exit.take() {
            Some(Exit::Failed { reason }) => {
                return Err(Error::environment(format!(
                    "{reason}; nothing of it was published, and the next start goes on from the snapshot before"
                )));
            }
            Some(Exit::Finished | Exit::Stopped) | None => {}
        }
        let newest = self.newest.ok_or_else(|| Error::internal("the job ended without a snapshot"))?;
        Ok(Summary::of(self.job, &newest, self.began.elapsed()))
    }

    /// Starts the threads of all processes.
    fn start(&mut self, build: &BuildGraph) -> Result<()> {
        let failed = |e| Error::environment("cannot connect the processes").caused_by(e);
        let sockets = Sockets::within(self.processes.len()).map_err(failed)?;
        for ((process, _), sockets) in self.processes.iter().zip(sockets) {
            self.running.push(RunningProcess::start(process, self.job, sockets, build.clone())?);
        }
        Ok(())
    }

    fn serve(&mut self, events: &Receiver<Event>) -> Result<()> {
        let mut next_progress = Instant::now() + self.watcher.every();
        let mut next_look = Instant::now() + watchdog::EVERY;
        while self.exit.is_none() {
            let now = Instant::now();
            let until = next_progress.min(next_look).min(self.deadline(now));
            match events.recv_timeout(until.saturating_duration_since(now)) {
                Ok(event) => self.on_event(event)?,
                Err(RecvTimeoutError::Timeout) => self.step(Input::Tick)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("all event senders are gone"));
                }
            }
            let now = Instant::now();
            if now >= next_progress {
                next_progress = now + self.watcher.every();
                let epoch = self.newest.as_ref().map_or(Epoch(0), |m| m.epoch);
                self.watcher.progress(&self.run.metrics, epoch);
            }
            if now >= next_look {
                next_look = now + watchdog::EVERY;
                self.look();
            }
        }
        Ok(())
    }

    /// When the brain has to be called again, even if nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        match self.control.deadline() {
            Some(Time(at)) => self.began + Duration::from_millis(at),
            None => now + Duration::from_secs(3600),
        }
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Message(message) => match self.ours(message) {
                Some(report) => self.on_report(report),
                None => Ok(()),
            },
            Event::StopRequested => {
                self.watcher.note(Level::INFO, "stopping: a last snapshot, then everything is published");
                self.running.iter_mut().for_each(RunningProcess::is_stopping);
                self.look();
                self.step(Input::StopRequested)
            }
            Event::Failed(error) => Err(error),
        }
    }

    /// Looks for steps that hang, and updates how long barriers have been under way.
    fn look(&mut self) {
        let notes: Vec<String> = self.running.iter_mut().flat_map(RunningProcess::look).collect();
        notes.iter().for_each(|note| self.watcher.note(Level::WARN, note));
    }

    /// The report, if it is of a worker of this attempt; those of other attempts are dropped and counted.
    fn ours(&mut self, message: ToDriver) -> Option<Report> {
        let ours = message.attempt == self.setup.attempt;
        self.dropped += u64::from(!ours);
        ours.then_some(message.report)
    }

    fn on_report(&mut self, report: Report) -> Result<()> {
        let attempt = self.setup.attempt;
        match report {
            Report::Ready(slot) => {
                let news = self.ready.insert(slot);
                self.dropped += u64::from(!news);
                if news && self.ready.len() == self.setup.settings.parallelism {
                    self.all_ready()
                } else {
                    Ok(())
                }
            }
            Report::SourcesEnded(slot) => self.step(Input::SourcesEnded { attempt, slot }),
            Report::Acked { slot, epoch, part } => {
                self.arrived = Some(part);
                let stepped = self.step(Input::Acked { attempt, epoch, slot });
                self.arrived = None;
                stepped
            }
            Report::Declined { slot, epoch, reason } => {
                self.step(Input::Declined { attempt, epoch, slot, reason })
            }
            Report::Published { slot, epoch } => self.on_published(slot, epoch),
            Report::Partitions { source, names } => {
                self.assign(&source, names);
                Ok(())
            }
            Report::Failed(error) => Err(error),
            Report::Done(slot) => {
                self.dropped += u64::from(!self.done.insert(slot));
                Ok(())
            }
        }
    }

    /// Sends a command to all processes of this attempt.
    fn send(&self, command: &Command) {
        let attempt = self.setup.attempt;
        self.processes.iter().for_each(|(_, to)| to(ToProcess { attempt, command: command.clone() }));
    }

    /// Logs what the attempt starts from, before anything of it can fail.
    fn note_start(&mut self) {
        let restored = self.setup.restored.as_ref().map(|m| m.epoch);
        let text = match restored {
            Some(epoch) => format!("attempt {} goes on from epoch {epoch}", self.setup.attempt),
            None => format!("attempt {} starts from the beginning", self.setup.attempt),
        };
        let workers = self.setup.settings.parallelism;
        let plural = if workers == 1 { "" } else { "s" };
        self.watcher.note(Level::INFO, &format!("{text}, with {workers} worker{plural}"));
    }

    fn all_ready(&mut self) -> Result<()> {
        let restored = self.setup.restored.as_ref().map(|m| m.epoch);
        let last_epoch = Epoch(self.setup.first_epoch.0 - 1);
        self.step(Input::Started { restored, older: self.older.clone(), last_epoch })
    }

    /// Gives an input to the brain and carries out its actions, and those that follow from their outcomes, until none is
    /// left.
    fn step(&mut self, input: Input) -> Result<()> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut actions = Vec::new();
            let now = Time(self.began.elapsed().as_millis() as u64);
            self.control.step(now, input, &mut actions);
            for action in actions {
                inputs.extend(self.act(action)?);
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<Option<Input>> {
        match action {
            Action::Trigger { epoch, last, .. } => {
                self.parts.clear();
                self.triggered = Instant::now();
                self.send(&Command::Trigger { epoch, last: last.is_some() });
            }
            Action::StopReading { .. } => self.send(&Command::StopReading),
            Action::Accept { slot, .. } => {
                let part = self.arrived.take();
                let part = part.ok_or_else(|| Error::internal(format!("no part came from slot {slot}")))?;
                self.parts.insert(slot, *part);
            }
            Action::Propose(record) => return self.commit(record).map(Some),
            Action::Publish { epoch, .. } => {
                self.published.clear();
                self.send(&Command::Publish(epoch));
            }
            Action::Collect { oldest } => self.setup.snapshots.collect(oldest)?,
            Action::Abort { epoch, reason, .. } => {
                self.parts.clear();
                self.watcher.note(
                    Level::WARN,
                    &format!(
                        "the checkpoint of epoch {epoch} was aborted, the next one takes its place: {reason}"
                    ),
                );
            }
            Action::Discard { attempt, epoch, slot } => self.setup.snapshots.discard(attempt, epoch, slot)?,
            Action::Slow { epoch, waited_ms, .. } => self.watcher.note(
                Level::WARN,
                &format!(
                    "the snapshot of epoch {epoch} has been under way for {:.0} s",
                    waited_ms as f64 / 1000.0
                ),
            ),
            Action::Exit(exit) => self.exit = Some(exit),
        }
        Ok(None)
    }

    /// Makes a record durable: for a job in one process, the manifest is the record.
    fn commit(&mut self, record: LedgerEntry) -> Result<Input> {
        let LedgerEntry::Completed { attempt, epoch, finished } = record;
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            job: self.run.job.clone(),
            attempt,
            epoch,
            finished,
            checkpoints: self.checkpoints + 1,
            completed_at_ms: self.run.clock.now_ms().max(0) as u64,
            parallelism: self.setup.settings.parallelism as u32,
            key_groups: self.setup.settings.key_groups,
            arguments: self.run.arguments.clone(),
            operators: with_store_ids(&self.job.plan, &self.setup.store_ids),
            slots: std::mem::take(&mut self.parts),
        };
        if let Some(uid) = manifest.differing_watermark() {
            return Err(Error::internal(format!(
                "at the barrier of epoch {epoch} the workers have come to different event times in '{uid}'"
            )));
        }
        if let Err(error) = self.setup.snapshots.complete(&manifest) {
            // Only a snapshot that is certainly not complete may be aborted.
            match self.setup.snapshots.is_complete(epoch) {
                Ok(false) => {}
                Ok(true) => return Err(error),
                Err(unknown) => return Err(error.context(unknown.to_string())),
            }
            return Ok(Input::Refused { record, reason: error.to_string() });
        }
        self.checkpoints = manifest.checkpoints;
        self.newest = Some(Arc::new(manifest));
        Ok(Input::Committed(record))
    }

    /// A worker's output of an epoch is published. The next checkpoint waits for the last one.
    fn on_published(&mut self, slot: Slot, epoch: Epoch) -> Result<()> {
        let is_newest = self.newest.as_ref().is_some_and(|manifest| manifest.epoch == epoch);
        let news = is_newest && self.published.insert(slot);
        self.dropped += u64::from(!news);
        if news && self.published.len() == self.setup.settings.parallelism {
            point("publish.after");
            let published = self.all_published()?;
            return self.step(published);
        }
        Ok(())
    }

    /// All output of the newest snapshot has been published.
    fn all_published(&mut self) -> Result<Input> {
        let nothing_new = || Error::internal("what was published is in no snapshot");
        let manifest = self.newest.clone().ok_or_else(nothing_new)?;
        self.send(&Command::Completed(manifest.epoch));
        self.setup.snapshots.set_published(manifest.epoch)?;
        let metrics = &self.run.metrics;
        metrics.set(descriptors::EPOCH, None, manifest.epoch.0 as f64);
        metrics.set(descriptors::CHECKPOINT_SECONDS, None, self.triggered.elapsed().as_secs_f64());
        let dropped = self.dropped
            + self.control.dropped()
            + self.processes.iter().map(|(process, _)| process.driver.dropped()).sum::<u64>();
        metrics.set(descriptors::MESSAGES_DROPPED, None, dropped as f64);
        self.watcher.published(self.job, &manifest);
        Ok(Input::Published { attempt: manifest.attempt, epoch: manifest.epoch })
    }

    /// Assigns those of a source's partitions that no worker has yet.
    fn assign(&mut self, source: &str, partitions: Vec<String>) {
        for Assigned { source, slot, partitions } in self.assignment.add(source, partitions) {
            self.send(&Command::Assigned { source, slot, partitions });
        }
    }

    /// Waits until the workers have left their loops; one that does not runs until the process ends.
    fn wait_for_workers(&mut self, events: &Receiver<Event>, until: Instant) {
        let all = self.running.len() * self.processes[0].0.workers.count;
        let mut have_ended = true;
        while have_ended && self.done.len() < all {
            match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Message(message)) => {
                    if let Some(Report::Done(slot)) = self.ours(message) {
                        self.done.insert(slot);
                    }
                }
                Ok(_) => {}
                Err(_) => have_ended = false,
            }
        }
        self.running.drain(..).for_each(|running| running.close(have_ended, until));
    }
}
