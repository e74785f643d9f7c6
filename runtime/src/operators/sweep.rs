//! A sweep: every timer that is due fires once, in order, slice by slice.
//!
//! A barrier may cut a sweep, and the job may be restored from that snapshot by other workers. So a snapshot keeps, by key
//! group, how far the sweep had come ([`Cut`]). Timers for times that the sweep had passed wait for the next sweep after a
//! restart, too: a timer that was set again for such a time does not fire a second time only because the job was started
//! again.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::state::timers::Due;

/// A sweep over the timers of one kind of time.
#[derive(Default)]
pub(super) struct Sweep {
    /// True as long as timers may be due.
    is_under_way: bool,
    /// The timer that the sweep has come to.
    last: Option<Due>,
    /// True if time has advanced since the sweep began: another sweep follows.
    again: bool,
    /// For a sweep that was cut before the job was started again: how far it had come. Empty for any other.
    resumed: Vec<Cut>,
}

/// How far a sweep had come in a range of key groups when a barrier cut it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    from: u16,
    to: u16,
    swept: Swept,
    /// True if another sweep was to follow.
    again: bool,
}

/// How much a sweep has passed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Swept {
    Nothing,
    UpTo(Due),
    All,
}

impl Sweep {
    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// The timer that the sweep has come to.
    pub(super) fn last(&self) -> Option<&Due> {
        self.last.as_ref()
    }

    /// Begins a sweep because time has advanced; if one is under way, another follows.
    pub(super) fn begin(&mut self) {
        self.again |= self.is_under_way;
        self.is_under_way = true;
    }

    /// The sweep has reached this timer.
    pub(super) fn passed(&mut self, due: Due) {
        self.last = Some(due);
    }

    /// Ends the sweep: no timer after the last one is due.
    pub(super) fn end(&mut self) {
        self.last = None;
        if std::mem::take(&mut self.again) {
            // The next sweep covers all timers, including those that the cut sweep had not reached.
            self.resumed.clear();
            return;
        }
        self.is_under_way = self.resumed.iter().any(|cut| cut.again);
        if !self.is_under_way {
            return self.resumed.clear();
        }
        for cut in &mut self.resumed {
            cut.swept = if std::mem::take(&mut cut.again) { Swept::Nothing } else { Swept::All };
        }
    }

    /// True for a timer that waits for the next sweep: this one had passed it before the job was started again.
    pub(super) fn waits(&self, group: u16, due: &Due) -> bool {
        let passed = |swept: &Swept| match swept {
            Swept::Nothing => false,
            Swept::UpTo(last) => due <= last,
            Swept::All => true,
        };
        self.resumed.iter().any(|cut| (cut.from..cut.to).contains(&group) && passed(&cut.swept))
    }

    /// The cuts of the sweep for a snapshot, for the key groups of the worker. In key groups without a cut all timers that
    /// were due have fired.
    pub(super) fn cut(&self, owned: Range<u16>) -> Vec<Cut> {
        if !self.is_under_way {
            return Vec::new();
        }
        let last = self.last.clone().map_or(Swept::Nothing, Swept::UpTo);
        if self.resumed.is_empty() {
            return vec![Cut { from: owned.start, to: owned.end, swept: last, again: self.again }];
        }
        let cuts = self.resumed.iter().map(|cut| {
            let (swept, again) = (cut.swept.clone().max(last.clone()), cut.again || self.again);
            Cut { swept, again, ..*cut }
        });
        cuts.collect()
    }

    /// Resumes the sweep from the cuts of all workers, in the key groups of this worker.
    pub(super) fn resume(&mut self, cuts: &[Cut], owned: Range<u16>) {
        let mut from = owned.start;
        let mut cuts: Vec<&Cut> =
            cuts.iter().filter(|cut| cut.from < owned.end && cut.to > owned.start).collect();
        cuts.sort_by_key(|cut| cut.from);
        if cuts.is_empty() {
            return;
        }
        let all = |from, to| Cut { from, to, swept: Swept::All, again: false };
        for cut in cuts {
            let (begin, to) = (cut.from.max(from), cut.to.min(owned.end));
            self.resumed.extend((from < begin).then(|| all(from, begin)));
            self.resumed.push(Cut { from: begin, to, ..cut.clone() });
            from = to;
        }
        self.resumed.extend((from < owned.end).then(|| all(from, owned.end)));
        self.is_under_way = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(at: i64) -> Due {
        Due::of(at, 7, &0u32).unwrap()
    }

    /// Which of the timers at 1, 2 and 3 wait, in the given key groups.
    fn waiting(sweep: &Sweep, groups: Range<u16>) -> Vec<(u16, Vec<i64>)> {
        groups.map(|group| (group, (1..4).filter(|&at| sweep.waits(group, &due(at))).collect())).collect()
    }

    #[test]
    fn a_sweep_that_was_cut_goes_on_where_it_was_with_any_key_groups() {
        let (mut slow, mut fast) = (Sweep::default(), Sweep::default());
        slow.begin();
        slow.passed(due(2));
        fast.begin();
        fast.begin();
        // The third worker was done.
        let cuts = [slow.cut(2..4), fast.cut(0..2), Sweep::default().cut(4..6)].concat();
        let mut sweep = Sweep::default();
        sweep.resume(&cuts, 1..6);
        assert!(sweep.is_under_way());
        let all = vec![1, 2, 3];
        let (none, first) = (vec![], vec![1, 2]);
        let before = [(1, none.clone()), (2, first.clone()), (3, first), (4, all.clone()), (5, all.clone())];
        assert_eq!(waiting(&sweep, 1..6), before);
        // It is cut once more.
        sweep.passed(due(1));
        let mut again = Sweep::default();
        again.resume(&sweep.cut(1..6), 1..3);
        assert_eq!(waiting(&again, 1..3), [(1, vec![1]), (2, vec![1, 2])]);
        // Only what was to be swept again is swept.
        sweep.end();
        assert!(sweep.is_under_way());
        assert_eq!(waiting(&sweep, 1..3), [(1, none.clone()), (2, all)]);
        sweep.end();
        assert!(!sweep.is_under_way() && sweep.cut(1..6).is_empty());
        assert_eq!(waiting(&sweep, 1..3), [(1, none.clone()), (2, none)]);
    }

    #[test]
    fn after_time_has_advanced_everything_is_swept_once() {
        let mut cut = Sweep::default();
        cut.begin();
        cut.begin();
        let mut sweep = Sweep::default();
        sweep.resume(&cut.cut(0..2), 0..4);
        sweep.begin();
        sweep.end();
        assert!(sweep.is_under_way());
        assert_eq!(waiting(&sweep, 0..1), [(0, vec![])]);
        sweep.end();
        assert!(!sweep.is_under_way());
    }

    #[test]
    fn a_worker_without_cuts_in_its_key_groups_has_nothing_to_do() {
        let mut cut = Sweep::default();
        cut.begin();
        let mut sweep = Sweep::default();
        sweep.resume(&cut.cut(0..2), 2..4);
        assert!(!sweep.is_under_way());
    }
}
