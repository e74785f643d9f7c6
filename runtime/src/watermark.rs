//! The algebra of watermarks, over partitions, workers and inputs.
//!
//! A [`Watermark`] summarizes a set of source partitions, and of steps that emit records with times of their own (windows,
//! functions with timers), by four values: the least watermark of the active partitions, the highest event time that any
//! partition has reached, the least event time that any worker of such a step has reached, and whether more records may
//! follow. Summaries of two sets are joined value by value ([`Watermark::join`]), which is commutative, associative and
//! idempotent: the result does not depend on how partitions are divided among workers, or in which order their messages
//! arrive.
//!
//! # What a summary means
//!
//! [`Watermark::time`] is the event time of the whole set:
//!
//! - as long as a partition is active, the least watermark of the active ones. Idle and ended partitions do not hold it
//!   back;
//! - while none is active but more records may follow, the highest event time that any has reached. The workers of a step
//!   reach the same event time one after the other, because one still emits what another has already emitted; so for a step
//!   the least event time of its workers counts, and for several steps the least of all;
//! - once all have ended, the end of event time, `i64::MAX`.
//!
//! The event time that a partition has reached is its watermark and, once it has ended, the highest event time of its
//! records: nothing older can follow. A worker without partitions is the empty set, [`Watermark::EMPTY`], which is neutral.
//!
//! # When a partition becomes idle, or active again
//!
//! Within an epoch the set of active partitions only shrinks, by partitions that become idle or end. Then each of the
//! values changes in one direction only (`active`, `furthest` and `reached` up, `open` to false), [`Watermark::time`] only
//! rises, and the event time of a receiver that has received all messages does not depend on their order. A partition that
//! becomes active again, or is discovered while the job runs, counts from the next barrier on: before a barrier every
//! sender announces its watermark for the next epoch ([`WatermarkUpdate::NextEpoch`]), and every receiver applies it after
//! the barrier ([`Senders::begin_epoch`]). That gives the invariant *same watermark*: at a barrier, all workers have
//! reached the same event time in every operator. The driver compares the watermarks in their acknowledgements.
//!
//! The event time of an operator never goes back. A partition that returns from idleness with older records holds event
//! time where it is until it has caught up; records for windows that have closed meanwhile are late.
//!
//! # Compared with Flink 2
//!
//! Flink's `StatusWatermarkValve` gives the same event time for a set of channels that does not change: the least of the
//! active ones, the highest when all are idle. A channel that becomes active again there counts once it has caught up with
//! the least of the others; at which records that happens depends on the order of arrival at each subtask, so that subtasks
//! may differ permanently. Here the change takes effect for all of them at one barrier.

use serde::{Deserialize, Serialize};

/// The watermark of a set of partitions, or of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// The least watermark of the active partitions; `i64::MAX` if none is active.
    active: i64,
    /// The highest event time that any partition has reached; `i64::MIN` if there is none.
    furthest: i64,
    /// The least event time that the output of any worker of a step has reached; `i64::MAX` if there is no step.
    reached: i64,
    /// True if a partition may still bring records.
    open: bool,
}

impl Watermark {
    /// No partition at all.
    pub(crate) const EMPTY: Self =
        Self { active: i64::MAX, furthest: i64::MIN, reached: i64::MAX, open: false };

    /// A partition, or a sender, of which nothing is known yet: it holds event time back.
    pub(crate) const UNKNOWN: Self =
        Self { active: i64::MIN, furthest: i64::MIN, reached: i64::MIN, open: true };

    /// An active partition that has reached `time`.
    pub(crate) fn active(time: i64) -> Self {
        Self { active: time, furthest: time, open: true, ..Self::EMPTY }
    }

    /// An idle partition that has reached `time`.
    pub(crate) fn idle(time: i64) -> Self {
        Self { furthest: time, open: true, ..Self::EMPTY }
    }

    /// A partition that has ended at `time`.
    pub(crate) fn ended(time: i64) -> Self {
        Self { furthest: time, ..Self::EMPTY }
    }

    /// The output of a step that has emitted what was due up to `time`, but not yet everything that is due. In an epoch in
    /// which it was idle before, it stays idle (see [`Watermark::later`]), and `reached` is the time up to which it has
    /// emitted.
    pub(crate) fn firing(time: i64) -> Self {
        Self { active: time, reached: time, open: true, ..Self::EMPTY }
    }

    /// The two sets together.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            active: self.active.min(other.active),
            furthest: self.furthest.max(other.furthest),
            reached: self.reached.min(other.reached),
            open: self.open || other.open,
        }
    }

    /// The latest watermark of a sender within an epoch, however often and in whatever order its messages arrive.
    pub(crate) fn later(self, other: Self) -> Self {
        Self {
            active: self.active.max(other.active),
            furthest: self.furthest.max(other.furthest),
            reached: self.reached.max(other.reached),
            open: self.open && other.open,
        }
    }

    /// True once all partitions have ended.
    pub(crate) fn is_ended(self) -> bool {
        self.active == i64::MAX && !self.open
    }

    /// The event time of the set; see the module's documentation.
    pub(crate) fn time(self) -> i64 {
        match self {
            Self { active, .. } if active < i64::MAX => active,
            Self { open: true, .. } => self.furthest(),
            Self { open: false, .. } => i64::MAX,
        }
    }

    /// The least watermark of the active partitions; None if no partition is active.
    pub(crate) fn active_time(self) -> Option<i64> {
        (self.active < i64::MAX).then_some(self.active)
    }

    /// The highest event time that has been reached, whether anything is active or not.
    pub(crate) fn furthest(self) -> i64 {
        let reached = if self.reached == i64::MAX { i64::MIN } else { self.reached };
        self.furthest.max(reached)
    }

    /// The watermark of the output of a step that has reached `time` and has nothing more to emit: the output is active,
    /// idle or ended like the input.
    pub(crate) fn of_output(self, time: i64) -> Self {
        let active = if self.active == i64::MAX { i64::MAX } else { time };
        Self { active, reached: time, open: !self.is_ended(), ..Self::EMPTY }
    }
}

/// A watermark that follows the records of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WatermarkUpdate {
    /// The watermark of the running epoch.
    Now(Watermark),
    /// The watermark that counts from the next epoch on; every sender announces it before every barrier.
    NextEpoch(Watermark),
}

/// The senders of one input, or the inputs of one step.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    now: Vec<Watermark>,
    next: Vec<Option<Watermark>>,
}

impl Senders {
    /// Starts with `senders` senders that have not sent a watermark yet.
    pub(crate) fn new(senders: usize) -> Self {
        Self { now: vec![Watermark::UNKNOWN; senders], next: vec![None; senders] }
    }

    /// The number of senders.
    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    /// All of them together.
    fn joined(&self) -> Watermark {
        self.now.iter().copied().fold(Watermark::EMPTY, Watermark::join)
    }

    /// True once all senders have reported the end of their input.
    pub(crate) fn is_ended(&self) -> bool {
        self.joined().is_ended()
    }

    /// Takes the watermark of a sender in the running epoch. Returns the watermark of all senders, if that has changed.
    pub(crate) fn update(&mut self, sender: usize, said: Watermark) -> Option<Watermark> {
        let before = self.joined();
        self.now[sender] = self.now[sender].later(said);
        let after = self.joined();
        (after != before).then_some(after)
    }

    /// Takes the watermark of a sender for the next epoch.
    pub(crate) fn announce(&mut self, sender: usize, said: Watermark) {
        self.next[sender] = Some(said);
    }

    /// The watermark of all senders in the next epoch, as far as they have announced theirs; None if none of them has.
    pub(crate) fn next_epoch(&self) -> Option<Watermark> {
        self.next.iter().any(Option::is_some).then(|| {
            let both = self.now.iter().zip(&self.next);
            both.map(|(now, next)| next.unwrap_or(*now)).fold(Watermark::EMPTY, Watermark::join)
        })
    }

    /// Applies the watermarks that were announced for the epoch that begins. Returns the watermark of all senders, if that
    /// has changed.
    pub(crate) fn begin_epoch(&mut self) -> Option<Watermark> {
        let before = self.joined();
        for (now, next) in self.now.iter_mut().zip(&mut self.next) {
            *now = next.take().unwrap_or(*now);
        }
        let after = self.joined();
        (after != before).then_some(after)
    }
}

#[cfg(test)]
mod tests;
