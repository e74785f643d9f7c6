//! Random storms: a small world of workers, a record store and an outside answers in any order, twice, late, with refusals,
//! with lies that a machine can see through, and through crashes; a message may come again as one of the attempt or the
//! epoch before. The invariants hold after every step; once the storm is over and the world answers everything, the machine
//! settles, and what was written for epochs that were aborted is gone.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_control::invariants::check_step;
use tidegate_control::{Action, CheckpointSettings, Control, Exit, Input, Last, LedgerEntry, Time};
use tidegate_protocol::{Attempt, Epoch, Slot};

/// One gust.
#[derive(Clone, Debug)]
enum Op {
    /// One of the messages under way arrives.
    Deliver(usize),
    /// One arrives and will arrive again.
    Duplicate(usize),
    /// One arrives as the attempt before would have sent it, or as it would have been sent for the epoch before.
    Stale(usize, bool),
    /// One turns into its refusal, then arrives.
    Refuse(usize),
    Wait(u64),
    End(u32),
    Stop,
    /// A message that nobody should have sent.
    Stray(Input),
    Crash(Crash),
}

/// The process dies and is started again.
#[derive(Clone, Debug)]
struct Crash {
    /// The record under way has landed.
    landed: bool,
    /// The newest snapshot cannot be read any more.
    damaged: bool,
    /// The number of workers of the next attempt.
    writers: u32,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        20 => any::<usize>().prop_map(Op::Deliver),
        3 => any::<usize>().prop_map(Op::Duplicate),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, attempt)| Op::Stale(which, attempt)),
        2 => any::<usize>().prop_map(Op::Refuse),
        6 => (0u64..3_000).prop_map(Op::Wait),
        1 => (0u32..4).prop_map(Op::End),
        1 => Just(Op::Stop),
        4 => stray().prop_map(Op::Stray),
        1 => crash().prop_map(Op::Crash),
    ];
    prop::collection::vec(op, 0..120)
}

fn crash() -> impl Strategy<Value = Crash> {
    (any::<bool>(), prop::bool::weighted(0.2), 1u32..4).prop_map(|(landed, damaged, writers)| Crash {
        landed,
        damaged,
        writers,
    })
}

fn stray() -> impl Strategy<Value = Input> {
    let reason = || "a stray".to_owned();
    (0u32..4, 0u64..12, 0u32..5, any::<bool>(), 0..10).prop_map(
        move |(attempt, epoch, slot, finished, kind)| {
            let (attempt, epoch, slot) = (Attempt(attempt), Epoch(epoch), Slot(slot));
            let record = LedgerEntry::Completed { attempt, epoch, finished };
            match kind {
                0 => Input::Started { restored: Some(epoch), older: vec![], last_epoch: epoch },
                1 => Input::Acked { attempt, epoch, slot },
                2 => Input::Declined { attempt, epoch, slot, reason: reason() },
                3 => Input::Committed(record),
                4 => Input::Refused { record, reason: reason() },
                5 => Input::Published { attempt, epoch },
                6 => Input::SourcesEnded { attempt, slot },
                7 => Input::CheckpointRequested,
                8 => Input::MessagesLost { reason: reason() },
                _ => Input::Tick,
            }
        },
    )
}

fn settings() -> impl Strategy<Value = CheckpointSettings> {
    let times = (prop::option::of(0u64..2_000), 0u64..4_000, prop::option::of(0u64..4_000), 0u64..1_000);
    (times, prop::option::of(0u32..4), 0usize..4, 0u32..4).prop_map(
        |((interval_ms, slow_ms, timeout_ms, min_pause_ms), tolerable_failures, retain, writers)| {
            CheckpointSettings {
                interval_ms,
                slow_ms,
                timeout_ms,
                min_pause_ms,
                tolerable_failures,
                retain,
                writers,
            }
        },
    )
}

/// Everything outside the machine, and the truth about it.
struct World {
    control: Control,
    settings: CheckpointSettings,
    attempt: Attempt,
    now: u64,
    started: bool,
    exited: Option<Exit>,
    /// The workers of this attempt whose sources have ended.
    ended: BTreeSet<Slot>,
    stopped: bool,
    /// Messages under way.
    mail: Vec<Input>,
    /// The workers whose part was accepted for the epoch in flight.
    parts: BTreeSet<Slot>,
    /// The state files of epochs that were not completed, as long as nobody has deleted them.
    files: BTreeSet<(Epoch, Slot)>,
    /// What the workers of this attempt have answered for.
    answered: BTreeSet<(Epoch, Slot)>,
    /// The epochs that this attempt has aborted.
    aborted: BTreeSet<Epoch>,
    /// The record that is proposed and has no answer.
    proposed: Option<LedgerEntry>,
    /// Every number that an epoch ever had.
    used: BTreeSet<Epoch>,
    /// The complete snapshots in the store.
    store: BTreeSet<Epoch>,
    published: Option<Epoch>,
}

impl World {
    fn new(settings: CheckpointSettings) -> Self {
        let attempt = Attempt(1);
        let control = Control::new(settings.clone(), attempt);
        let mut world = Self {
            control,
            settings,
            attempt,
            now: 0,
            started: false,
            exited: None,
            ended: BTreeSet::new(),
            stopped: false,
            mail: Vec::new(),
            parts: BTreeSet::new(),
            files: BTreeSet::new(),
            answered: BTreeSet::new(),
            aborted: BTreeSet::new(),
            proposed: None,
            used: BTreeSet::new(),
            store: BTreeSet::new(),
            published: None,
        };
        world.build();
        world
    }

    /// Recovery: publishes what the newest snapshot has staged, then builds the workers.
    fn build(&mut self) {
        self.published = self.store.last().copied();
        let last_epoch = self.used.last().copied().unwrap_or_default();
        let older = self.store.iter().rev().skip(1).copied().collect();
        self.mail.push(Input::Started { restored: self.published, older, last_epoch });
    }

    fn crash(&mut self, crash: Crash) {
        if self.exited == Some(Exit::Finished) {
            return;
        }
        self.exited = None;
        if let Some(LedgerEntry::Completed { epoch, .. }) = self.proposed.take().filter(|_| crash.landed) {
            self.store.insert(epoch);
        }
        if crash.damaged {
            self.store.pop_last();
        }
        self.mail.retain(|input| !matches!(input, Input::Started { .. }));
        self.attempt = self.attempt.next();
        self.settings.writers = crash.writers;
        self.control = Control::new(self.settings.clone(), self.attempt);
        self.started = false;
        self.ended.clear();
        self.stopped = false;
        self.answered.clear();
        self.aborted.clear();
        self.build();
    }

    fn gust(&mut self, op: Op) {
        match op {
            Op::Deliver(which) => self.deliver(which, |input| input),
            Op::Refuse(which) => self.deliver(which, refusal),
            Op::Duplicate(which) => {
                let copy = self.pick(which).map(|which| self.mail[which].clone());
                self.deliver(which, |input| input);
                self.mail.extend(copy.filter(|copy| !matches!(copy, Input::Started { .. })));
            }
            Op::Stale(which, of_attempt) => {
                let copy = self.pick(which).map(|which| self.mail[which].clone());
                if let Some(copy) = copy.filter(|copy| !matches!(copy, Input::Started { .. })) {
                    self.step(stale(copy, of_attempt));
                }
            }
            Op::Wait(ms) => {
                self.now += ms;
                self.step(Input::Tick);
            }
            Op::End(slot) => {
                self.mail.push(Input::SourcesEnded { attempt: self.attempt, slot: Slot(slot) });
            }
            Op::Stop => self.step(Input::StopRequested),
            Op::Stray(Input::Started { .. }) if !self.started => {}
            Op::Stray(input) => self.step(input),
            Op::Crash(crash) => self.crash(crash),
        }
    }

    fn pick(&self, which: usize) -> Option<usize> {
        which.checked_rem(self.mail.len())
    }

    fn deliver(&mut self, which: usize, turn: impl Fn(Input) -> Input) {
        if let Some(which) = self.pick(which) {
            let input = self.mail.swap_remove(which);
            self.step(turn(input));
        }
    }

    fn step(&mut self, input: Input) {
        self.happens(&input);
        let (before, mut actions) = (self.control.clone(), Vec::new());
        self.control.step(Time(self.now), input.clone(), &mut actions);
        if let Err(violation) = check_step(&before, &input, &actions, &self.control) {
            panic!("{violation}, after {input:?}: {actions:?}");
        }
        assert!(self.exited.is_none() || actions.is_empty(), "after the exit: {actions:?}");
        for action in actions {
            self.act(action);
        }
    }

    /// The truth that a message makes, before the machine hears of it.
    fn happens(&mut self, input: &Input) {
        match *input {
            Input::Started { .. } => self.started = true,
            Input::Committed(record) if self.proposed == Some(record) => {
                let LedgerEntry::Completed { epoch, .. } = record;
                self.proposed = None;
                self.store.insert(epoch);
            }
            Input::Refused { record, .. } if self.proposed == Some(record) => self.proposed = None,
            Input::Acked { attempt, epoch, slot } | Input::Declined { attempt, epoch, slot, .. }
                if attempt == self.attempt =>
            {
                self.answered.insert((epoch, slot));
            }
            Input::Published { attempt, epoch } => {
                let newest = self.store.last() == Some(&epoch) && attempt == self.attempt;
                self.published = if newest { Some(epoch) } else { self.published };
            }
            Input::SourcesEnded { attempt, slot } if attempt == self.attempt && slot.0 < self.writers() => {
                self.ended.insert(slot);
            }
            Input::StopRequested => self.stopped = true,
            _ => {}
        }
    }

    fn writers(&self) -> u32 {
        self.settings.writers.max(1)
    }

    /// Why an epoch that is triggered now is the last one, if it is.
    fn last(&self) -> Option<Last> {
        let all_ended = self.ended.len() == self.writers() as usize;
        if all_ended { Some(Last::Finish) } else { self.stopped.then_some(Last::Stop) }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Trigger { attempt, epoch, last } => {
                assert_eq!(last, self.last());
                assert!(self.used.last().is_none_or(|last| *last < epoch), "epoch {epoch} is used again");
                assert_eq!(self.published, self.store.last().copied(), "triggered before all is published");
                self.used.insert(epoch);
                self.parts.clear();
                self.files.extend((0..self.writers()).map(|slot| (epoch, Slot(slot))));
                self.mail.extend((0..self.writers()).map(|slot| Input::Acked {
                    attempt,
                    epoch,
                    slot: Slot(slot),
                }));
            }
            Action::StopReading { .. } => assert!(self.stopped),
            Action::Accept { slot, .. } => {
                assert!(slot.0 < self.writers() && self.parts.insert(slot), "accepted slot {slot} twice");
            }
            Action::Propose(record) => {
                assert_eq!(self.parts.len(), self.writers() as usize, "proposed without all parts");
                self.proposed = Some(record);
                self.mail.push(Input::Committed(record));
            }
            Action::Publish { attempt, epoch } => {
                assert!(self.store.contains(&epoch), "published {epoch} without its snapshot");
                self.mail.push(Input::Published { attempt, epoch });
            }
            Action::Collect { oldest } => self.collect(oldest),
            Action::Abort { epoch, .. } => {
                assert!(!self.store.contains(&epoch), "gave up {epoch}");
                self.aborted.insert(epoch);
                self.parts.clear();
            }
            Action::Discard { epoch, slot, .. } => self.discard(epoch, slot),
            Action::Slow { waited_ms, .. } => assert!(waited_ms >= self.settings.slow_ms),
            Action::Exit(exit) => self.exit(exit),
        }
    }

    fn discard(&mut self, epoch: Epoch, slot: Slot) {
        assert!(self.aborted.contains(&epoch), "discarded what was not aborted: {epoch}");
        assert!(self.answered.contains(&(epoch, slot)), "slot {slot} may still be writing epoch {epoch}");
        self.files.remove(&(epoch, slot));
    }

    /// The workers have all answered: nothing that they wrote since the last complete snapshot is left for nothing. A job
    /// that is over leaves it to the next start.
    fn nothing_is_left_of_what_was_given_up(&self) -> bool {
        let newest = self.store.last().copied().unwrap_or_default();
        let mut left = self.files.iter().filter(|(epoch, _)| *epoch > newest && self.aborted.contains(epoch));
        self.exited.is_some() || left.next().is_none()
    }

    fn collect(&mut self, oldest: Epoch) {
        let before = self.store.len();
        self.store = self.store.split_off(&oldest);
        let retain = self.settings.retain.max(1).min(before);
        assert_eq!(self.store.len(), retain, "collected too many or too few of {before}");
        assert_eq!(self.published, self.store.last().copied(), "collected before all is published");
    }

    fn exit(&mut self, exit: Exit) {
        if !matches!(exit, Exit::Failed { .. }) {
            assert_eq!(self.published, self.store.last().copied(), "left something unpublished");
            assert!(self.store.len() <= self.settings.retain.max(1), "left too many snapshots");
        }
        self.exited = Some(exit);
    }

    /// Everything under way arrives, the newest message first or last by `newest`, and nothing else happens.
    fn settle(&mut self, newest: bool) {
        for _ in 0..10_000 {
            if self.mail.is_empty() {
                return;
            }
            let which = if newest { self.mail.len() - 1 } else { 0 };
            self.deliver(which, |input| input);
        }
        panic!("the machine does not come to rest");
    }

    fn at_rest(&self) -> bool {
        self.exited.is_some() || self.control.phase().is_none()
    }
}

/// The message as the attempt before would have sent it, or as it was sent for the epoch before.
fn stale(mut input: Input, of_attempt: bool) -> Input {
    match &mut input {
        Input::Acked { attempt, epoch, .. }
        | Input::Declined { attempt, epoch, .. }
        | Input::Published { attempt, epoch }
        | Input::Committed(LedgerEntry::Completed { attempt, epoch, .. })
        | Input::Refused { record: LedgerEntry::Completed { attempt, epoch, .. }, .. } => {
            if of_attempt {
                attempt.0 -= 1;
            } else {
                epoch.0 = epoch.0.saturating_sub(1);
            }
        }
        Input::SourcesEnded { attempt, .. } => attempt.0 -= 1,
        Input::Started { .. }
        | Input::CheckpointRequested
        | Input::MessagesLost { .. }
        | Input::StopRequested
        | Input::Tick => {}
    }
    input
}

/// What the sender says instead if it failed.
fn refusal(input: Input) -> Input {
    let reason = "refused".to_owned();
    match input {
        Input::Acked { attempt, epoch, slot } => Input::Declined { attempt, epoch, slot, reason },
        Input::Committed(record) => Input::Refused { record, reason },
        input => input,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_storm_breaks_nothing_and_the_machine_settles(
        settings in settings(), ops in ops(), newest: bool, finish: bool,
    ) {
        let mut world = World::new(settings);
        for op in ops {
            world.gust(op);
        }
        world.settle(newest);
        prop_assert!(world.at_rest(), "answered everything, and still {:?}", world.control.phase());
        prop_assert!(world.nothing_is_left_of_what_was_given_up(), "{:?} are left", world.files);

        if world.exited.is_none() && let Some(deadline) = world.control.deadline() {
            let used = world.used.len();
            world.now = deadline.0;
            world.step(Input::Tick);
            prop_assert_eq!(world.used.len(), used + 1, "nothing is triggered at the deadline");
        }
        if finish {
            (0..world.writers()).for_each(|slot| world.gust(Op::End(slot)));
        } else {
            world.gust(Op::Stop);
        }
        world.settle(newest);
        prop_assert!(world.exited.is_some(), "asked to end, and still {:?}", world.control.phase());
    }

    #[test]
    fn a_storm_of_strays_alone_completes_nothing(settings in settings(), strays in prop::collection::vec(stray(), 0..80)) {
        let mut world = World::new(settings);
        world.settle(true);
        for stray in strays {
            if !matches!(stray, Input::SourcesEnded { .. } | Input::CheckpointRequested) {
                world.step(stray);
            }
        }
        prop_assert!(world.store.is_empty() && world.used.is_empty());
    }
}
