//! The state machine of one running attempt of one job.
//!
//! At most one checkpoint is in flight. The next one is due an interval after the trigger of the one before it, but not
//! before that one is published, so that a slow checkpoint store or a slow sink makes checkpoints rare rather than many.
//! The first checkpoint after a restart is due after a quarter of the interval.
//!
//! The last checkpoint follows the one in flight, whether it is due or not. If the input has ended *and* the job is asked
//! to stop before the last checkpoint is triggered, that checkpoint is a finish: nothing is left to process, and a stop
//! would only leave the finish to the next start. A last checkpoint that is aborted ends the attempt, because sources that
//! have read their last record emit no further barrier.
//!
//! Messages may be repeated, late, or from another attempt, and those of different workers may overtake each other. A part
//! of a snapshot counts when its acknowledgement is accepted here, and not when it arrives ([`Action::Accept`]); a message
//! that does not fit is dropped and counted. If a worker answers for an epoch after it was aborted, the files that it has
//! written are discarded, like those of the workers that had answered before.

use std::collections::BTreeSet;

use tidegate_protocol::{Attempt, Epoch, Slot};

use crate::action::{Action, Exit, Last};
use crate::checkpoint::{Checkpoint, CheckpointPhase};
use crate::input::{Input, LedgerEntry};
use crate::invariants;
use crate::progress::Progress;
use crate::settings::CheckpointSettings;
use crate::time::Time;
use crate::violation::Violation;

/// The checkpoints of one running attempt.
#[derive(Clone, Debug)]
pub struct Control {
    pub(crate) settings: CheckpointSettings,
    pub(crate) attempt: Attempt,
    pub(crate) now: Time,
    pub(crate) life: Life,
    pub(crate) in_flight: Option<Checkpoint>,
    pub(crate) progress: Progress,
    /// When the next checkpoint is due if it is not the last; None without an interval.
    due: Option<Time>,
    /// Epochs aborted since the last completed one: a worker that has not answered for them may still do so. Once a later
    /// epoch is complete all workers have answered, because a worker answers in order.
    pub(crate) aborted: BTreeSet<Epoch>,
    /// The workers whose sources have ended.
    ended: BTreeSet<Slot>,
    pub(crate) stop_requested: bool,
    /// A checkpoint is wanted before it is due.
    checkpoint_requested: bool,
    /// Checkpoints that have failed since the last one that was completed.
    pub(crate) failures: u32,
    dropped: u64,
}

/// The states of an attempt, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Starting,
    Running,
    Exited,
}

/// The message does not fit what is in flight: too late, twice, or from another attempt.
struct Stale;

impl Control {
    /// The state machine of an attempt whose workers are being built.
    pub fn new(settings: CheckpointSettings, attempt: Attempt) -> Self {
        Self {
            settings: settings.at_least_one(),
            attempt,
            now: Time::default(),
            life: Life::Starting,
            in_flight: None,
            progress: Progress::default(),
            due: None,
            aborted: BTreeSet::new(),
            ended: BTreeSet::new(),
            stop_requested: false,
            checkpoint_requested: false,
            failures: 0,
            dropped: 0,
        }
    }

    /// Takes one input and appends the actions that follow from it, and from the time that has passed.
    ///
    /// Never fails: an input that does not fit is dropped and counted.
    pub fn step(&mut self, now: Time, input: Input, out: &mut Vec<Action>) {
        let before = cfg!(debug_assertions).then(|| (self.clone(), input.clone(), out.len()));
        self.now = self.now.max(now);
        if self.take(input, out).is_err() {
            self.dropped += 1;
        }
        self.advance(out);
        if let Some((before, input, old)) = before {
            let held = invariants::check_step(&before, &input, &out[old..], self);
            debug_assert_eq!(held, Ok(()), "after {input:?}");
        }
    }

    /// The time by which [`Control::step`] has to be called, with [`Input::Tick`] if nothing else has happened; always
    /// later than the last step. None if it need not be called before the next input.
    pub fn deadline(&self) -> Option<Time> {
        match (&self.in_flight, self.life) {
            (_, Life::Starting | Life::Exited) => None,
            (Some(checkpoint), Life::Running) => {
                let times_out_at = checkpoint.times_out_at(self.settings.timeout_ms);
                times_out_at.into_iter().chain([checkpoint.slow_at]).min()
            }
            (None, Life::Running) => self.due,
        }
    }

    /// The phase of the checkpoint in flight; None when idle.
    pub fn phase(&self) -> Option<CheckpointPhase> {
        self.in_flight.as_ref().map(|checkpoint| checkpoint.phase)
    }

    /// The epoch of the checkpoint in flight, when it was triggered, and the slots whose part is missing.
    pub fn in_flight_since(&self) -> Option<(Epoch, Time, Vec<Slot>)> {
        let checkpoint = self.in_flight.as_ref()?;
        let missing = (0..self.settings.writers).map(Slot).filter(|slot| !checkpoint.acked.contains(slot));
        Some((checkpoint.epoch, checkpoint.triggered_at, missing.collect()))
    }

    /// The last epoch that was triggered, whether it was completed or not.
    pub fn triggered(&self) -> Epoch {
        self.progress.triggered
    }

    /// The number of checkpoints that have failed since the last one that was completed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The number of messages dropped so far: repeated, too late, of another attempt or epoch, or of a slot that is not
    /// there.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether all invariants hold in this state; see [`invariants`].
    ///
    /// # Errors
    /// The invariant that does not hold: a bug of this crate, whatever came in.
    pub fn check(&self) -> Result<(), Violation> {
        invariants::check(self)
    }

    fn take(&mut self, input: Input, out: &mut Vec<Action>) -> Result<(), Stale> {
        match input {
            Input::Started { restored, older, last_epoch } => self.started(restored, older, last_epoch),
            Input::Acked { attempt, epoch, slot } => self.acked(attempt, epoch, slot, out),
            Input::Declined { attempt, epoch, slot, reason } => {
                self.declined(attempt, epoch, slot, reason, out)
            }
            Input::Committed(record) => self.committed(record, out),
            Input::Refused { record, reason } => self.refused(record, reason, out),
            Input::Published { attempt, epoch } => self.published(attempt, epoch, out),
            Input::SourcesEnded { attempt, slot } => self.sources_ended(attempt, slot),
            Input::CheckpointRequested => self.request_checkpoint(),
            Input::MessagesLost { reason } => self.messages_lost(reason, out),
            Input::StopRequested => self.stop(out),
            Input::Tick => Ok(()),
        }
    }

    fn started(
        &mut self,
        restored: Option<Epoch>,
        older: Vec<Epoch>,
        last_epoch: Epoch,
    ) -> Result<(), Stale> {
        if self.life != Life::Starting {
            return Err(Stale);
        }
        self.life = Life::Running;
        self.due = self.first_due(restored.is_some());
        self.progress = Progress::new(restored, older, last_epoch, self.settings.retain);
        Ok(())
    }

    fn acked(
        &mut self,
        attempt: Attempt,
        epoch: Epoch,
        slot: Slot,
        out: &mut Vec<Action>,
    ) -> Result<(), Stale> {
        self.known(slot)?;
        self.discard_late(attempt, epoch, slot, out)?;
        let writers = self.settings.writers as usize;
        let checkpoint = self.in_phase(CheckpointPhase::Pending, attempt, epoch)?;
        if !checkpoint.acked.insert(slot) {
            return Err(Stale);
        }
        out.push(Action::Accept { attempt, epoch, slot });
        if checkpoint.acked.len() == writers {
            checkpoint.phase = CheckpointPhase::Completing;
            out.push(Action::Propose(checkpoint.record(attempt)));
        }
        Ok(())
    }

    fn declined(
        &mut self,
        attempt: Attempt,
        epoch: Epoch,
        slot: Slot,
        reason: String,
        out: &mut Vec<Action>,
    ) -> Result<(), Stale> {
        self.known(slot)?;
        self.discard_late(attempt, epoch, slot, out)?;
        let checkpoint = self.in_phase(CheckpointPhase::Pending, attempt, epoch)?;
        let mut answered = checkpoint.acked.clone();
        answered.insert(slot);
        self.fail(epoch, reason, answered, out);
        Ok(())
    }

    /// Discards what a worker wrote for an epoch that was aborted before the worker answered.
    fn discard_late(
        &self,
        attempt: Attempt,
        epoch: Epoch,
        slot: Slot,
        out: &mut Vec<Action>,
    ) -> Result<(), Stale> {
        if attempt != self.attempt || self.life != Life::Running || !self.aborted.contains(&epoch) {
            return Ok(());
        }
        out.push(Action::Discard { attempt, epoch, slot });
        Err(Stale)
    }

    fn committed(&mut self, record: LedgerEntry, out: &mut Vec<Action>) -> Result<(), Stale> {
        let checkpoint = self.proposed(record)?;
        checkpoint.phase = CheckpointPhase::Publishing;
        let epoch = checkpoint.epoch;
        self.progress.snapshots.push(epoch);
        self.aborted.clear();
        self.failures = 0;
        out.push(Action::Publish { attempt: self.attempt, epoch });
        Ok(())
    }

    fn refused(&mut self, record: LedgerEntry, reason: String, out: &mut Vec<Action>) -> Result<(), Stale> {
        let checkpoint = self.proposed(record)?;
        let (epoch, answered) = (checkpoint.epoch, checkpoint.acked.clone());
        self.fail(epoch, reason, answered, out);
        Ok(())
    }

    fn published(&mut self, attempt: Attempt, epoch: Epoch, out: &mut Vec<Action>) -> Result<(), Stale> {
        let last = self.in_phase(CheckpointPhase::Publishing, attempt, epoch)?.last;
        self.in_flight = None;
        self.pause();
        self.progress.published = Some(epoch);
        let oldest = self.progress.collect(self.settings.retain);
        out.extend(oldest.map(|oldest| Action::Collect { oldest }));
        if let Some(last) = last {
            self.exit(last.exit(), out);
        }
        Ok(())
    }

    /// The sources of a worker may end before all workers are known to run, so this counts while starting, too.
    fn sources_ended(&mut self, attempt: Attempt, slot: Slot) -> Result<(), Stale> {
        self.known(slot)?;
        if attempt != self.attempt || self.life == Life::Exited {
            return Err(Stale);
        }
        if self.ended.insert(slot) { Ok(()) } else { Err(Stale) }
    }

    /// A request that comes before the workers run counts as soon as they do.
    fn request_checkpoint(&mut self) -> Result<(), Stale> {
        if self.life == Life::Exited {
            return Err(Stale);
        }
        self.checkpoint_requested = true;
        Ok(())
    }

    /// The workers that have not answered may have done so. A checkpoint that is complete is not affected: whoever has lost
    /// the command to publish it is told again.
    fn messages_lost(&mut self, reason: String, out: &mut Vec<Action>) -> Result<(), Stale> {
        let checkpoint =
            self.in_flight.as_ref().filter(|c| c.phase == CheckpointPhase::Pending).ok_or(Stale)?;
        let (epoch, answered) = (checkpoint.epoch, checkpoint.acked.clone());
        self.abort(epoch, reason, answered, out);
        Ok(())
    }

    /// The workers may still be built: the command reaches them before they read anything.
    fn stop(&mut self, out: &mut Vec<Action>) -> Result<(), Stale> {
        if self.life == Life::Exited || std::mem::replace(&mut self.stop_requested, true) {
            return Err(Stale);
        }
        out.push(Action::StopReading { attempt: self.attempt });
        Ok(())
    }

    /// Does what is due: a trigger when idle, a line for the log or the end of a checkpoint that takes too long when not.
    fn advance(&mut self, out: &mut Vec<Action>) {
        if self.life == Life::Running {
            self.time_out(out);
        }
        if self.life != Life::Running {
            return;
        }
        if let Some(checkpoint) = &mut self.in_flight {
            let slow = checkpoint.slow(self.now, self.settings.slow_ms);
            let (epoch, phase) = (checkpoint.epoch, checkpoint.phase);
            out.extend(slow.map(|waited_ms| Action::Slow { epoch, phase, waited_ms }));
            return;
        }
        let last = self.last();
        let is_due = self.checkpoint_requested || self.due.is_some_and(|due| due <= self.now);
        if last.is_some() || is_due {
            self.trigger(last, out);
        }
    }

    /// Aborts a checkpoint for which workers have not answered in time.
    fn time_out(&mut self, out: &mut Vec<Action>) {
        let Some(checkpoint) = &self.in_flight else { return };
        if checkpoint.times_out_at(self.settings.timeout_ms).is_none_or(|at| at > self.now) {
            return;
        }
        let (epoch, answered) = (checkpoint.epoch, checkpoint.acked.clone());
        let silent = (0..self.settings.writers).map(Slot).filter(|slot| !answered.contains(slot));
        let silent: Vec<String> = silent.map(|slot| slot.to_string()).collect();
        let waited_ms = self.now.since_ms(checkpoint.triggered_at);
        let reason = format!("no answer of slot {} after {waited_ms} ms", silent.join(", "));
        self.fail(epoch, reason, answered, out);
    }

    /// Why the next checkpoint is the last one, if it is.
    pub(crate) fn last(&self) -> Option<Last> {
        if self.ended.len() == self.settings.writers as usize {
            Some(Last::Finish)
        } else {
            self.stop_requested.then_some(Last::Stop)
        }
    }

    fn trigger(&mut self, last: Option<Last>, out: &mut Vec<Action>) {
        self.checkpoint_requested = false;
        let epoch = self.progress.trigger();
        self.in_flight = Some(Checkpoint::new(epoch, last, self.now, self.settings.slow_ms));
        self.due = self.an_interval_later();
        out.push(Action::Trigger { attempt: self.attempt, epoch, last });
    }

    /// Aborts a checkpoint that could not be taken, and ends the attempt if there were too many of them.
    fn fail(&mut self, epoch: Epoch, reason: String, answered: BTreeSet<Slot>, out: &mut Vec<Action>) {
        self.failures += 1;
        self.abort(epoch, reason.clone(), answered, out);
        if self.life == Life::Running && self.has_failed_too_often() {
            let failures = self.failures;
            let reason =
                format!("{failures} checkpoints in a row have failed, the last one because: {reason}");
            self.exit(Exit::Failed { reason }, out);
        }
    }

    pub(crate) fn has_failed_too_often(&self) -> bool {
        self.settings.tolerable_failures.is_some_and(|tolerable| self.failures > tolerable)
    }

    fn abort(&mut self, epoch: Epoch, reason: String, answered: BTreeSet<Slot>, out: &mut Vec<Action>) {
        let attempt = self.attempt;
        let last = self.in_flight.take().and_then(|checkpoint| checkpoint.last);
        self.aborted.insert(epoch);
        out.push(Action::Abort { attempt, epoch, reason: reason.clone() });
        out.extend(answered.into_iter().map(|slot| Action::Discard { attempt, epoch, slot }));
        if last.is_some() {
            let reason = format!("the last snapshot could not be written: {reason}");
            self.exit(Exit::Failed { reason }, out);
        } else if self.due.is_some_and(|due| due <= self.now) {
            // The next checkpoint is overdue, but the cause of the failure probably persists: it is not triggered at once.
            self.due = self.an_interval_later();
        }
        self.pause();
    }

    /// A checkpoint has ended: the next one has to wait a little.
    fn pause(&mut self) {
        let earliest = self.now.plus_ms(self.settings.min_pause_ms);
        self.due = self.due.map(|due| due.max(earliest));
    }

    fn exit(&mut self, exit: Exit, out: &mut Vec<Action>) {
        self.life = Life::Exited;
        out.push(Action::Exit(exit));
    }

    /// When the first checkpoint is due. After a restart the output of the job is delayed already, so it is due after a
    /// quarter of the interval instead of a whole one.
    fn first_due(&self, come_back: bool) -> Option<Time> {
        let part = if come_back { 4 } else { 1 };
        self.settings.interval_ms.map(|ms| self.now.plus_ms(ms.div_ceil(part)))
    }

    fn an_interval_later(&self) -> Option<Time> {
        self.settings.interval_ms.map(|ms| self.now.plus_ms(ms))
    }

    fn known(&self, slot: Slot) -> Result<(), Stale> {
        if slot.0 < self.settings.writers { Ok(()) } else { Err(Stale) }
    }

    /// The checkpoint in flight, if it has this attempt and epoch.
    fn in_flight(&mut self, attempt: Attempt, epoch: Epoch) -> Result<&mut Checkpoint, Stale> {
        let current = attempt == self.attempt;
        self.in_flight.as_mut().filter(|checkpoint| current && checkpoint.epoch == epoch).ok_or(Stale)
    }

    /// The same, if it is in the phase that the message belongs to.
    fn in_phase(
        &mut self,
        phase: CheckpointPhase,
        attempt: Attempt,
        epoch: Epoch,
    ) -> Result<&mut Checkpoint, Stale> {
        let checkpoint = self.in_flight(attempt, epoch)?;
        if checkpoint.phase == phase { Ok(checkpoint) } else { Err(Stale) }
    }

    /// The checkpoint in flight, if this very record was proposed for it.
    fn proposed(&mut self, record: LedgerEntry) -> Result<&mut Checkpoint, Stale> {
        let LedgerEntry::Completed { attempt, epoch, .. } = record;
        let checkpoint = self.in_phase(CheckpointPhase::Completing, attempt, epoch)?;
        if checkpoint.record(attempt) == record { Ok(checkpoint) } else { Err(Stale) }
    }
}
