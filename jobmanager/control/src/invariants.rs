//! The invariants, which hold for every sequence of inputs. They are asserted after every step of a debug build, and used
//! by every test.
//!
//! [`check`] checks a state. [`check_step`] checks the input and the actions of one step, and so finds actions that are
//! requested without, or before, the input that justifies them.
//!
//! - published <= completed <= triggered, and none of them ever goes back;
//! - at most one checkpoint in flight, and its epoch's number is new;
//! - a part of a snapshot is accepted on the first ack of its worker for the epoch in flight, and on nothing else: a
//!   message that is repeated, late or from another attempt does not count, and its part is not accepted;
//! - a record is proposed on the last ack, an epoch published on its committed record, and on nothing else;
//! - a completed epoch is never aborted; only files that were written for an aborted epoch are discarded, and only those of
//!   workers that have answered for it;
//! - the newest `retain` snapshots are never collected, nor any before a newer one is complete and published;
//! - sources are told to read no further once, when the stop is requested;
//! - only the current attempt triggers, proposes and publishes;
//! - no epoch follows a last one, published or aborted;
//! - nothing follows an exit, and a good exit leaves nothing unpublished;
//! - no action is overdue: the deadline is in the future, and an idle machine has no last checkpoint to trigger.

use tidegate_protocol::{Attempt, Epoch, Slot};

use crate::action::{Action, Exit, Last};
use crate::checkpoint::{Checkpoint, CheckpointPhase};
use crate::control::{Control, Life};
use crate::input::{Input, LedgerEntry};
use crate::violation::Violation;

/// Checks the invariants of a state.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(state: &Control) -> Result<(), Violation> {
    order(state)?;
    snapshots(state)?;
    aborted(state)?;
    match &state.in_flight {
        Some(checkpoint) => in_flight(state, checkpoint)?,
        None => idle(state)?,
    }
    hold(state.deadline().is_none_or(|deadline| deadline > state.now), || Violation::Late)
}

/// Checks a step: the state before it, the input, the actions, and the state after it.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check_step(
    before: &Control,
    input: &Input,
    actions: &[Action],
    after: &Control,
) -> Result<(), Violation> {
    check(after)?;
    let (old, new) = (&before.progress, &after.progress);
    let forward = old.triggered <= new.triggered
        && old.completed() <= new.completed()
        && old.published <= new.published
        && before.now <= after.now;
    hold(forward, || Violation::WentBack)?;
    let mut step = Step::new(before, input, after);
    actions.iter().try_for_each(|action| step.action(action))?;
    step.counts_what_it_accepts()
}

fn hold(holds: bool, violation: impl FnOnce() -> Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation()) }
}

fn order(state: &Control) -> Result<(), Violation> {
    let progress = &state.progress;
    let (published, completed, triggered) = (progress.published, progress.completed(), progress.triggered);
    let holds = published <= completed && completed.is_none_or(|completed| completed <= triggered);
    hold(holds, || Violation::Order { published, completed, triggered })
}

/// There may be one more snapshot than the retained ones: the newest, while it is being published.
fn snapshots(state: &Control) -> Result<(), Violation> {
    let epochs = &state.progress.snapshots;
    let room =
        state.settings.retain.saturating_add(usize::from(state.phase() == Some(CheckpointPhase::Publishing)));
    let holds = epochs.is_sorted_by(|a, b| a < b) && epochs.len() <= room;
    hold(holds, || Violation::Snapshots(epochs.clone()))
}

/// Aborted epochs are kept until a later epoch is complete.
fn aborted(state: &Control) -> Result<(), Violation> {
    let progress = &state.progress;
    let flying = state.in_flight.as_ref().map(|checkpoint| checkpoint.epoch);
    let mut epochs = state.aborted.iter();
    let holds = epochs.all(|epoch| {
        progress.completed() < Some(*epoch) && *epoch <= progress.triggered && flying != Some(*epoch)
    });
    hold(holds, || Violation::Aborted(state.aborted.iter().copied().collect()))
}

fn in_flight(state: &Control, checkpoint: &Checkpoint) -> Result<(), Violation> {
    let progress = &state.progress;
    hold(state.life == Life::Running, || Violation::ExitInFlight)?;
    let &Checkpoint { epoch, phase, .. } = checkpoint;
    let all_acked = checkpoint.acked.len() == state.settings.writers as usize;
    let holds = epoch == progress.triggered
        && all_acked == (phase != CheckpointPhase::Pending)
        && checkpoint.acked.iter().all(|slot| slot.0 < state.settings.writers)
        && (progress.completed() == Some(epoch)) == (phase == CheckpointPhase::Publishing)
        && progress.published < Some(epoch);
    hold(holds, || Violation::Phase { epoch, phase })
}

fn idle(state: &Control) -> Result<(), Violation> {
    let (completed, published) = (state.progress.completed(), state.progress.published);
    hold(completed == published, || Violation::Unpublished { completed, published })?;
    hold(state.life != Life::Running || state.last().is_none(), || Violation::Late)
}

/// One step, seen action by action.
struct Step<'a> {
    before: &'a Control,
    input: &'a Input,
    after: &'a Control,
    exited: bool,
    /// The epoch in flight at this point of the step.
    open: Option<Epoch>,
    /// The worker whose part was accepted in this step.
    accepted: Option<Slot>,
}

impl<'a> Step<'a> {
    fn new(before: &'a Control, input: &'a Input, after: &'a Control) -> Self {
        let exited = before.life == Life::Exited;
        let mut step = Self { before, input, after, exited, open: None, accepted: None };
        step.open = step.flying().map(|checkpoint| checkpoint.epoch).filter(|_| step.publishes().is_none());
        step
    }

    fn action(&mut self, action: &Action) -> Result<(), Violation> {
        hold(!self.exited, || Violation::AfterExit(action.clone()))?;
        let ours = attempt_of(action).is_none_or(|attempt| attempt == self.after.attempt);
        hold(ours, || Violation::OtherAttempt(action.clone()))?;
        hold(self.justified(action), || Violation::Unjustified(action.clone()))?;
        self.follow(action);
        Ok(())
    }

    /// Whether the input and the state justify an action.
    fn justified(&self, action: &Action) -> bool {
        let newest = self.after.progress.completed();
        match action {
            Action::Trigger { epoch, .. } => {
                let after_last = self.flying().is_some_and(|checkpoint| checkpoint.last.is_some());
                self.open.is_none() && !after_last && *epoch > self.before.progress.triggered
            }
            Action::StopReading { .. } => *self.input == Input::StopRequested && !self.before.stop_requested,
            Action::Accept { attempt, epoch, slot } => {
                self.accepted.is_none() && self.is_first_ack(*attempt, *epoch, *slot)
            }
            Action::Propose(record) => self.accepted.is_some() && self.is_last_ack_of(*record),
            Action::Publish { attempt, epoch } => self.commits(*attempt, *epoch),
            Action::Collect { oldest } => self.publishes().is_some() && *oldest <= self.oldest_retained(),
            Action::Abort { epoch, .. } => self.open == Some(*epoch) && self.fails() && Some(*epoch) > newest,
            Action::Discard { epoch, slot, .. } => {
                self.after.aborted.contains(epoch) && self.has_answered(*epoch, *slot)
            }
            Action::Slow { epoch, .. } => self.open == Some(*epoch),
            Action::Exit(Exit::Finished) => self.publishes() == Some(Some(Last::Finish)),
            Action::Exit(Exit::Stopped) => self.publishes() == Some(Some(Last::Stop)),
            Action::Exit(Exit::Failed { .. }) => {
                self.fails()
                    && (self.flying().is_some_and(|c| c.last.is_some()) || self.after.has_failed_too_often())
            }
        }
    }

    fn follow(&mut self, action: &Action) {
        match action {
            Action::Trigger { epoch, .. } => self.open = Some(*epoch),
            Action::Accept { slot, .. } => self.accepted = Some(*slot),
            Action::Abort { .. } => self.open = None,
            Action::Exit(_) => self.exited = true,
            Action::Propose(_)
            | Action::Publish { .. }
            | Action::Collect { .. }
            | Action::Discard { .. }
            | Action::StopReading { .. }
            | Action::Slow { .. } => {}
        }
    }

    /// The acknowledgements that count are those from before, and the one whose part was accepted.
    fn counts_what_it_accepts(&self) -> Result<(), Violation> {
        let Some(now) = &self.after.in_flight else { return Ok(()) };
        let before = self.flying().filter(|checkpoint| checkpoint.epoch == now.epoch);
        let mut counted = before.map(|checkpoint| checkpoint.acked.clone()).unwrap_or_default();
        counted.extend(self.accepted);
        hold(counted == now.acked, || Violation::Unaccepted(now.epoch))
    }

    /// The checkpoint in flight before the step.
    fn flying(&self) -> Option<&Checkpoint> {
        self.before.in_flight.as_ref()
    }

    /// The checkpoint that was in flight, if this attempt's input is about it and it was in that phase.
    fn about(&self, phase: CheckpointPhase, attempt: Attempt, epoch: Epoch) -> Option<&Checkpoint> {
        self.flying().filter(|c| attempt == self.before.attempt && c.epoch == epoch && c.phase == phase)
    }

    fn is_first_ack(&self, attempt: Attempt, epoch: Epoch, slot: Slot) -> bool {
        let acks = matches!(*self.input, Input::Acked { attempt: a, epoch: e, slot: s }
            if (a, e, s) == (attempt, epoch, slot));
        let checkpoint = self.about(CheckpointPhase::Pending, attempt, epoch);
        acks && slot.0 < self.before.settings.writers && checkpoint.is_some_and(|c| !c.acked.contains(&slot))
    }

    /// Whether a worker has answered for an epoch, by this input or before.
    fn has_answered(&self, epoch: Epoch, slot: Slot) -> bool {
        let before = self.flying().is_some_and(|c| c.epoch == epoch && c.acked.contains(&slot));
        before
            || match *self.input {
                Input::Acked { attempt, epoch: e, slot: s }
                | Input::Declined { attempt, epoch: e, slot: s, .. } => {
                    (attempt, e, s) == (self.before.attempt, epoch, slot)
                }
                _ => false,
            }
    }

    fn is_last_ack_of(&self, record: LedgerEntry) -> bool {
        let Input::Acked { attempt, epoch, slot } = *self.input else { return false };
        let Some(checkpoint) = self.about(CheckpointPhase::Pending, attempt, epoch) else { return false };
        let acked = &checkpoint.acked;
        let missing = self.before.settings.writers as usize - acked.len();
        let finished = checkpoint.last == Some(Last::Finish);
        missing == 1
            && !acked.contains(&slot)
            && record == LedgerEntry::Completed { attempt, epoch, finished }
    }

    fn commits(&self, attempt: Attempt, epoch: Epoch) -> bool {
        let Input::Committed(record) = *self.input else { return false };
        let checkpoint = self.about(CheckpointPhase::Completing, attempt, epoch);
        checkpoint.is_some_and(|checkpoint| record == checkpoint.record(attempt))
    }

    /// Whether the checkpoint in flight fails, by the input or because it takes too long.
    fn fails(&self) -> bool {
        self.times_out()
            || match *self.input {
                Input::Declined { attempt, epoch, .. } => {
                    self.about(CheckpointPhase::Pending, attempt, epoch).is_some()
                }
                Input::Refused { record: LedgerEntry::Completed { attempt, epoch, .. }, .. } => {
                    self.about(CheckpointPhase::Completing, attempt, epoch).is_some()
                }
                Input::MessagesLost { .. } => {
                    self.flying().is_some_and(|checkpoint| checkpoint.phase == CheckpointPhase::Pending)
                }
                _ => false,
            }
    }

    fn times_out(&self) -> bool {
        let timeout_ms = self.before.settings.timeout_ms;
        let at = self.flying().and_then(|checkpoint| checkpoint.times_out_at(timeout_ms));
        at.is_some_and(|at| at <= self.after.now)
    }

    /// If the input says that the epoch in flight is visible: whether and why that was the last one.
    fn publishes(&self) -> Option<Option<Last>> {
        let Input::Published { attempt, epoch } = *self.input else { return None };
        self.about(CheckpointPhase::Publishing, attempt, epoch).map(|checkpoint| checkpoint.last)
    }

    /// The oldest of the newest `retain` snapshots, or the oldest at all if there are fewer.
    fn oldest_retained(&self) -> Epoch {
        let snapshots = &self.before.progress.snapshots;
        let retained = snapshots.len().saturating_sub(self.before.settings.retain);
        snapshots.get(retained).copied().unwrap_or_default()
    }
}

fn attempt_of(action: &Action) -> Option<Attempt> {
    match action {
        Action::Trigger { attempt, .. }
        | Action::StopReading { attempt }
        | Action::Accept { attempt, .. }
        | Action::Discard { attempt, .. }
        | Action::Propose(LedgerEntry::Completed { attempt, .. })
        | Action::Publish { attempt, .. }
        | Action::Abort { attempt, .. } => Some(*attempt),
        Action::Collect { .. } | Action::Slow { .. } | Action::Exit(_) => None,
    }
}
