//! The algebra of event time: how far it has come, over partitions, workers and inputs.
//!
//! A [`Watermark`] sums up a set of source partitions, and of steps that make records of their own time from them (windows,
//! functions with timers), by four numbers: the least watermark of those that are active, the furthest that any partition
//! has come, the least that any worker of such a step has come to, and whether one may still bring records. Summaries of
//! two sets are joined number by number ([`Watermark::join`]), which is commutative, associative and idempotent: how
//! partitions are divided among workers, and in which order their messages arrive, has no say in the result.
//!
//! # What a summary means
//!
//! [`Watermark::time`] is the event time of the whole set:
//!
//! - as long as a partition is active, the least watermark of the active ones. Idle and ended partitions hold nobody back;
//! - while none is active but one may still bring records, the furthest that any has come. The workers of a step come to
//!   the same event time, one after the other, because one still emits what another has emitted; so of a step the least
//!   that its workers have come to counts, and of several steps the least of all;
//! - once all have ended, the end of event time, `i64::MAX`.
//!
//! A partition has come to its watermark, and once it has ended to the highest event time that it had: nothing older can
//! follow. A worker without partitions is the empty set, [`Watermark::EMPTY`], which is neutral.
//!
//! # When a partition becomes idle, or active again
//!
//! Within an epoch the set of active partitions only shrinks, by partitions that become idle or end. Then each of the
//! numbers only goes one way (`active`, `furthest` and `reached` up, `open` to false), [`Watermark::time`] follows them upwards, and
//! what a receiver has come to when it has heard everything does not depend on the order in which it has heard it. A
//! partition that is back from idleness, or was found while the job runs, is counted from the next barrier on: before a
//! barrier every sender says what it will be in the next epoch ([`WatermarkUpdate::NextEpoch`]), and every receiver takes that up
//! after the barrier ([`Senders::begin_epoch`]). That gives the invariant *same watermark*: at a barrier, all workers have
//! come to the same event time in every operator. The driver compares what their acknowledgements say.
//!
//! An operator never goes back. A partition that returns from idleness with older records holds event time
//! where it is until it has caught up; what windows have closed for meanwhile is late.
//!
//! # Compared with Flink 2
//!
//! Flink's `StatusWatermarkValve` gives the same event time for a set of channels that does not change: least of the
//! active, the furthest when all are idle. A channel that returns there counts once it has caught up with the least of the
//! others; at which records that happens depends on the order of arrival at each subtask, so that subtasks may differ for
//! good. StepContext the change counts for all of them at one barrier.

use serde::{Deserialize, Serialize};

/// How far event time has come over a set of partitions, or at an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    /// The least watermark of the active partitions; `i64::MAX` if none is active.
    active: i64,
    /// The furthest that any partition has come; `i64::MIN` if none has come anywhere.
    furthest: i64,
    /// The least that a worker of a step has come to with its output; `i64::MAX` if there is no step.
    reached: i64,
    /// True if a partition may still bring records.
    open: bool,
}

impl Watermark {
    /// No partition at all.
    pub(crate) const EMPTY: Self =
        Self { active: i64::MAX, furthest: i64::MIN, reached: i64::MAX, open: false };

    /// A partition, or a sender, of which nothing is known yet: it holds everybody back.
    pub(crate) const UNKNOWN: Self =
        Self { active: i64::MIN, furthest: i64::MIN, reached: i64::MIN, open: true };

    /// An active partition that has come to `time`.
    pub(crate) fn active(time: i64) -> Self {
        Self { active: time, furthest: time, open: true, ..Self::EMPTY }
    }

    /// An idle partition that has come to `time`.
    pub(crate) fn idle(time: i64) -> Self {
        Self { furthest: time, open: true, ..Self::EMPTY }
    }

    /// A partition that has ended at `time`.
    pub(crate) fn ended(time: i64) -> Self {
        Self { furthest: time, ..Self::EMPTY }
    }

    /// The output of a step that has emitted what was due up to `time`, and not yet all. In an epoch in which it was idle
    /// before, it stays idle (see [`Watermark::later`]), and `reached` says what it has still to emit.
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

    /// What a sender has said last within an epoch, however often and in which order its messages arrive.
    fn later(self, other: Self) -> Self {
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

    /// The furthest that event time has come, whether anything is active or not.
    pub(crate) fn furthest(self) -> i64 {
        let reached = if self.reached == i64::MAX { i64::MIN } else { self.reached };
        self.furthest.max(reached)
    }

    /// What a step that has come to `time`, and has nothing more to emit, says of its output: as active, idle or ended as
    /// its input.
    pub(crate) fn of_output(self, time: i64) -> Self {
        let active = if self.active == i64::MAX { i64::MAX } else { time };
        Self { active, reached: time, open: !self.is_ended(), ..Self::EMPTY }
    }
}

/// What follows the records of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WatermarkUpdate {
    /// How far event time has come in this epoch.
    Now(Watermark),
    /// What counts from the next epoch on; said by everybody before every barrier.
    NextEpoch(Watermark),
}

/// The senders of one input, or the inputs of one step.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    now: Vec<Watermark>,
    next: Vec<Option<Watermark>>,
}

impl Senders {
    /// So many senders that have said nothing yet.
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

    /// True once all of them have said that their input is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.joined().is_ended()
    }

    /// A sender has come to this point in the running epoch; the watermark of all, if that has changed it.
    pub(crate) fn update(&mut self, sender: usize, said: Watermark) -> Option<Watermark> {
        let before = self.joined();
        self.now[sender] = self.now[sender].later(said);
        let after = self.joined();
        (after != before).then_some(after)
    }

    /// A sender says what it will be in the next epoch.
    pub(crate) fn announce(&mut self, sender: usize, said: Watermark) {
        self.next[sender] = Some(said);
    }

    /// What all of them together will be in the next epoch, as far as they have said it; None if nobody has.
    pub(crate) fn next_epoch(&self) -> Option<Watermark> {
        self.next.iter().any(Option::is_some).then(|| {
            let both = self.now.iter().zip(&self.next);
            both.map(|(now, next)| next.unwrap_or(*now)).fold(Watermark::EMPTY, Watermark::join)
        })
    }

    /// Takes up what was announced for the epoch that begins; the watermark of all, if that has changed it.
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
