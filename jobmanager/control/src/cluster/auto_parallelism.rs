//! The parallelism of a job that follows its partitions and the slots there are.
//!
//! A job with `--parallelism auto` is rescaled when another number of workers suits it: as many as its source with the most
//! partitions has, if there are slots for them. To rescale is to stop at a checkpoint and to start from it, so it is done neither for a
//! change that does not last, nor again and again: another number has to suit for [`STABLE_MS`], and a job that runs is left alone for
//! [`COOL_DOWN_MS`] after it was rescaled. A job that waits for slots cannot lose anything, and does not wait for the latter.

use crate::time::Time;

/// For how long another number of workers has to suit before the job gets it, in milliseconds.
const STABLE_MS: u64 = 10_000;
/// For how long a job that was rescaled is left alone, in milliseconds.
const COOL_DOWN_MS: u64 = 60_000;

/// What suits a job now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suits {
    /// The number of workers that it has, or waits for.
    pub(super) present: u32,
    /// The most partitions that a source has.
    pub(super) partitions: u32,
    /// The slots that it has or could have.
    pub(super) slots: u32,
    /// The most workers that it can have.
    pub(super) most: u32,
    /// Whether it waits for slots.
    pub(super) is_waiting: bool,
}

impl Suits {
    /// The number of workers that suits it, at least one.
    fn workers(&self) -> u32 {
        self.partitions.min(self.slots).min(self.most).max(1)
    }

    /// Why it gets that number, for people.
    pub(super) fn reason(&self) -> String {
        let Self { partitions, slots, present, .. } = self;
        format!(
            "its parallelism is automatic, and changes from {present} to {}: it has {partitions} {}, and {slots} {}",
            self.workers(),
            if *partitions == 1 { "partition" } else { "partitions" },
            if *slots == 1 { "slot" } else { "slots" },
        )
    }
}

/// What has suited a job since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AutoParallelism {
    /// Another number of workers, and since when it suits.
    candidate: Option<(u32, Time)>,
    /// Until when it is left alone.
    rests_until: Option<Time>,
}

impl AutoParallelism {
    /// Looks at what suits the job now; the number of workers that it is to get now, if it is to get another one.
    pub(super) fn look(&mut self, now: Time, suits: &Suits) -> Option<u32> {
        let wanted = suits.workers();
        if wanted == suits.present || (suits.is_waiting && suits.slots == 0) {
            self.candidate = None;
            return None;
        }
        if self.candidate.is_none_or(|(number, _)| number != wanted) {
            self.candidate = Some((wanted, now));
        }
        if self.due(suits.is_waiting)? > now {
            return None;
        }
        // Until the job has got it, it goes on to suit.
        *self = Self { candidate: Some((wanted, now)), rests_until: Some(now.plus_ms(COOL_DOWN_MS)) };
        Some(wanted)
    }

    /// When it is to be looked at again.
    pub(super) fn due(&self, is_waiting: bool) -> Option<Time> {
        let (_, since) = self.candidate?;
        let stable = since.plus_ms(STABLE_MS);
        Some(self.rests_until.filter(|_| !is_waiting).map_or(stable, |until| until.max(stable)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: Suits = Suits { present: 2, partitions: 2, slots: 8, most: 128, is_waiting: false };

    fn at(ms: u64) -> Time {
        Time(0).plus_ms(ms)
    }

    #[test]
    fn a_change_has_to_last() {
        let mut auto = AutoParallelism::default();
        let more = Suits { partitions: 4, ..RUNS };
        assert_eq!((auto.look(at(0), &RUNS), auto.due(false)), (None, None));
        assert_eq!((auto.look(at(1_000), &more), auto.due(false)), (None, Some(at(11_000))));
        assert_eq!(auto.look(at(5_000), &RUNS), None, "it was for a moment only");
        assert_eq!(auto.look(at(6_000), &more), None);
        assert_eq!(auto.look(at(9_000), &Suits { partitions: 5, ..more }), None);
        assert_eq!(auto.look(at(18_999), &Suits { partitions: 5, ..more }), None);
        assert_eq!(auto.look(at(19_000), &Suits { partitions: 5, ..more }), Some(5));
    }

    #[test]
    fn a_job_is_left_alone_after_it_was_rescaled() {
        let mut auto = AutoParallelism::default();
        let more = Suits { partitions: 4, ..RUNS };
        assert_eq!(auto.look(at(0), &more), None);
        assert_eq!(auto.look(at(10_000), &more), Some(4));
        let fewer = Suits { present: 4, slots: 3, partitions: 4, ..RUNS };
        assert_eq!(auto.look(at(20_000), &fewer), None);
        assert_eq!(auto.due(false), Some(at(70_000)));
        assert_eq!(auto.look(at(69_999), &fewer), None);
        assert_eq!(auto.look(at(70_000), &fewer), Some(3));
        // One that waits for slots does not run anyway.
        let waits = Suits { present: 3, slots: 1, is_waiting: true, ..fewer };
        assert_eq!(auto.look(at(71_000), &waits), None);
        assert_eq!(auto.look(at(81_000), &waits), Some(1));
    }

    #[test]
    fn slots_partitions_and_key_groups_bound_it() {
        let workers = |partitions, slots, most| Suits { partitions, slots, most, ..RUNS }.workers();
        assert_eq!(
            [workers(9, 4, 128), workers(3, 4, 128), workers(9, 8, 5), workers(0, 4, 128)],
            [4, 3, 5, 1]
        );
        let mut auto = AutoParallelism::default();
        let none = Suits { slots: 0, is_waiting: true, ..RUNS };
        assert_eq!(
            (auto.look(at(0), &none), auto.due(true)),
            (None, None),
            "there is nothing to choose from"
        );
    }

    #[test]
    fn the_reason_has_the_numbers() {
        let text = Suits { partitions: 1, slots: 3, ..RUNS }.reason();
        assert_eq!(
            text,
            "its parallelism is automatic, and changes from 2 to 1: it has 1 partition, and 3 slots"
        );
    }
}
