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

use super::description::Description;
use super::discovery::Discovery;
use super::mailbox::{Event, Mailbox};
use super::run::Run;
use super::summary::Summary;
use super::watchdog::{self, Watchdog};
use super::watcher::Watcher;
use crate::checkpoint::publishers::{Publishers, ReportPublished};
use crate::checkpoint::staged_files::StagedFiles;
use crate::dataflow::process::Process;
use crate::dataflow::worker::{BuildGraph, Workers, start};
use crate::link::{Command, Connection, Report, ToDriver, ToProcess};
use crate::metrics::descriptors;
use crate::panics::catch;
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
    process: Arc<Process>,
    /// The connections to the processes: to one, unless the link treats every worker as a process of its own.
    processes: Vec<Connection<ToProcess>>,
    assignment: Assignment,
    publishers: Publishers,
    discovery: Discovery,
    watcher: &'a mut dyn Watcher,
    watchdog: Watchdog,
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
    /// The workers that run, and those that have come to their end.
    ready: BTreeSet<Slot>,
    done: BTreeSet<Slot>,
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
        process: Arc<Process>,
        assignment: Assignment,
        older: Vec<Epoch>,
        mailbox: &Mailbox,
        watcher: &'a mut dyn Watcher,
    ) -> Result<Self> {
        let settings = CheckpointSettings {
            interval_ms: run.interval.map(millis),
            timeout_ms: SLOW_CHECKPOINT_MS,
            retain: run.retain,
            writers: process.setup.settings.parallelism as u32,
        };
        let control = Control::new(settings, process.setup.attempt);
        let checkpoints = process.setup.restored.as_ref().map_or(0, |m| m.checkpoints);
        let (events, files) = (mailbox.sender.clone(), StagedFiles::new(&process.setup.snapshots));
        // If the driver is gone, the attempt has ended.
        let report: ReportPublished = Arc::new(move |report| drop(events.send(Event::Published(report))));
        let publishers = Publishers::start(
            &job.sinks,
            process.workers,
            &files,
            (&process.activities, &run.metrics),
            &report,
        )?;
        let now = Instant::now();
        let connect = |i| {
            let process = process.clone();
            run.link.to_process(Box::new(move |messages| process.driver.receive(i, messages)))
        };
        Ok(Self {
            run,
            job,
            processes: (0..run.link.processes(process.setup.settings.parallelism)).map(connect).collect(),
            process,
            assignment,
            publishers,
            discovery: Discovery::start(&job.sources, &mailbox.sender, &run.metrics)?,
            watcher,
            watchdog: Watchdog::default(),
            control,
            older,
            arrived: None,
            parts: BTreeMap::new(),
            newest: None,
            began: now,
            triggered: now,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            dropped: 0,
            checkpoints,
            exit: None,
        })
    }

    /// Runs the job until its input ends, it is stopped, or it fails.
    pub(crate) fn run(mut self, build: BuildGraph, events: &Receiver<Event>) -> Result<Summary> {
        self.note_start();
        let workers = start(&self.process, build)?;
        // Connectors are called from here, too; whatever they do, the workers must learn of the end.
        let ended = catch(|| self.serve(events));
        self.send(&Command::Abort);
        let until = Instant::now() + LEAVE;
        self.wait_for_workers(workers, events, until);
        self.publishers.close(until);
        self.discovery.close(until);
        ended?;
        match self.exit.take() {
            Some(Exit::Failed { reason }) => {
                return Err(Error::environment(format!(
                    "the last snapshot could not be written: {reason}; nothing of it was published, and the next \
                     start goes on from the snapshot before"
                )));
            }
            Some(Exit::Finished | Exit::Stopped) | None => {}
        }
        let newest = self.newest.ok_or_else(|| Error::internal("the job ended without a snapshot"))?;
        Ok(Summary::of(self.job, &newest, self.began.elapsed()))
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
                self.watchdog.stop();
                self.look();
                self.step(Input::StopRequested)
            }
            Event::Partitions { source, names } => {
                self.assign(&source, names);
                Ok(())
            }
            Event::Published(report) => match self.publishers.take(report)? {
                Some(_) => {
                    let published = self.published()?;
                    self.step(published)
                }
                None => Ok(()),
            },
            Event::Failed(error) => Err(error),
        }
    }

    /// Looks for steps that hang, and updates how long barriers have been under way.
    fn look(&mut self) {
        let process = &self.process;
        process.activities.show_alignments(|slot| process.driver.instructions(slot));
        let found = self.watchdog.look(&process.activities, Instant::now());
        self.run.metrics.set_stuck(found.stuck);
        found.notes.iter().for_each(|note| self.watcher.note(Level::WARN, note));
    }

    /// The report, if it is of a worker of this attempt; those of other attempts are dropped and counted.
    fn ours(&mut self, message: ToDriver) -> Option<Report> {
        let ours = message.attempt == self.process.setup.attempt;
        self.dropped += u64::from(!ours);
        ours.then_some(message.report)
    }

    fn on_report(&mut self, report: Report) -> Result<()> {
        let attempt = self.process.setup.attempt;
        match report {
            Report::Ready(slot) => {
                let news = self.ready.insert(slot);
                self.dropped += u64::from(!news);
                if news && self.ready.len() == self.process.setup.settings.parallelism {
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
            Report::Failed(error) => Err(error),
            Report::Done(slot) => {
                self.dropped += u64::from(!self.done.insert(slot));
                Ok(())
            }
        }
    }

    /// Sends a command to all processes of this attempt.
    fn send(&self, command: &Command) {
        let attempt = self.process.setup.attempt;
        self.processes.iter().for_each(|to| to(ToProcess { attempt, command: command.clone() }));
    }

    /// Sets the metrics of a worker's part of a snapshot: its size and the time that it took.
    fn measure_worker(&self, slot: Slot, part: &SlotSnapshot) {
        let bytes: u64 = part.store.values().map(|file| file.bytes).sum();
        let metrics = &self.run.metrics;
        metrics.set(descriptors::CHECKPOINT_BYTES, Some(slot), bytes as f64);
        metrics.set(
            descriptors::CHECKPOINT_WORKER_SECONDS,
            Some(slot),
            self.triggered.elapsed().as_secs_f64(),
        );
    }

    /// Logs what the attempt starts from, before anything of it can fail.
    fn note_start(&mut self) {
        let restored = self.process.setup.restored.as_ref().map(|m| m.epoch);
        let text = match restored {
            Some(epoch) => format!("attempt {} goes on from epoch {epoch}", self.process.setup.attempt),
            None => format!("attempt {} starts from the beginning", self.process.setup.attempt),
        };
        let workers = self.process.setup.settings.parallelism;
        let plural = if workers == 1 { "" } else { "s" };
        self.watcher.note(Level::INFO, &format!("{text}, with {workers} worker{plural}"));
    }

    fn all_ready(&mut self) -> Result<()> {
        let restored = self.process.setup.restored.as_ref().map(|m| m.epoch);
        let last_epoch = Epoch(self.process.setup.first_epoch.0 - 1);
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
                self.measure_worker(slot, &part);
                self.parts.insert(slot, *part);
            }
            Action::Propose(record) => return self.commit(record).map(Some),
            Action::Publish { .. } => {
                let nothing_new = || Error::internal("nothing to publish");
                let manifest = self.newest.clone().ok_or_else(nothing_new)?;
                if self.publishers.publish(&manifest) {
                    return self.published().map(Some);
                }
            }
            Action::Collect { oldest } => self.process.setup.snapshots.collect(oldest)?,
            Action::Abort { epoch, reason, .. } => {
                self.parts.clear();
                self.watcher.note(
                    Level::WARN,
                    &format!(
                        "the checkpoint of epoch {epoch} was aborted, the next one takes its place: {reason}"
                    ),
                );
            }
            Action::Discard { attempt, epoch, slot } => {
                self.process.setup.snapshots.discard(attempt, epoch, slot)?
            }
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
            parallelism: self.process.setup.settings.parallelism as u32,
            key_groups: self.process.setup.settings.key_groups,
            arguments: self.run.arguments.clone(),
            operators: with_store_ids(&self.job.plan, &self.process.setup.store_ids),
            slots: std::mem::take(&mut self.parts),
        };
        if let Some(uid) = manifest.differing_watermark() {
            return Err(Error::internal(format!(
                "at the barrier of epoch {epoch} the workers have come to different event times in '{uid}'"
            )));
        }
        if let Err(error) = self.process.setup.snapshots.complete(&manifest) {
            // Only a snapshot that is certainly not complete may be aborted.
            match self.process.setup.snapshots.is_complete(epoch) {
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

    /// All output of the newest snapshot has been published.
    fn published(&mut self) -> Result<Input> {
        let nothing_new = || Error::internal("what was published is in no snapshot");
        let manifest = self.newest.clone().ok_or_else(nothing_new)?;
        self.send(&Command::Completed(manifest.epoch));
        self.process.setup.snapshots.set_published(manifest.epoch)?;
        let metrics = &self.run.metrics;
        metrics.set(descriptors::EPOCH, None, manifest.epoch.0 as f64);
        metrics.set(descriptors::CHECKPOINT_SECONDS, None, self.triggered.elapsed().as_secs_f64());
        let dropped = self.dropped + self.control.dropped() + self.process.driver.dropped();
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
    fn wait_for_workers(&mut self, workers: Workers, events: &Receiver<Event>, until: Instant) {
        while self.done.len() < self.process.setup.settings.parallelism {
            match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Message(message)) => {
                    if let Some(Report::Done(slot)) = self.ours(message) {
                        self.done.insert(slot);
                    }
                }
                Ok(_) => {}
                Err(_) => return std::mem::forget(workers),
            }
        }
        drop(workers);
    }
}
