//! Timers against a set, over a real store, with so little memory that most of them lie in the store.

use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;
use tidegate_protocol::{Epoch, Slot};

use super::*;
use crate::testing::parts::{self, OPERATOR};

/// What happens to timers.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(i64, u32),
    Clear(i64, u32),
    /// So many are set at one time.
    SetMany(i64, u32),
    /// All that are due fire.
    FireTo(i64),
    /// So many fire, and the sweep stops there.
    FireSome(usize),
    Barrier,
    /// What the last barrier handed over is written.
    Written,
    KeepTo,
    /// What memory holds is lost.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let at = -50i64..200;
    prop_oneof![
        6 => (at.clone(), 0u32..40).prop_map(|(at, key)| Step::Set(at, key)),
        3 => (at.clone(), 0u32..40).prop_map(|(at, key)| Step::Clear(at, key)),
        1 => (at.clone(), 100u32..3_000).prop_map(|(at, keys)| Step::SetMany(at, keys)),
        2 => at.prop_map(Step::FireTo),
        2 => (1usize..2_000).prop_map(Step::FireSome),
        3 => Just(Step::Barrier),
        3 => Just(Step::Written),
        3 => Just(Step::KeepTo),
        1 => Just(Step::Restart),
    ]
}

struct Bench {
    _directory: tempfile::TempDir,
    store: Rc<Store>,
    budget: Budget,
    timers: Timers<u32>,
    epoch: u64,
    pending: Option<Rows>,
    expected: BTreeSet<(i64, u64, u32)>,
    at_barrier: BTreeSet<(i64, u64, u32)>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (process, _) = parts::process(directory.path(), 1, None);
        let (store, _) = parts::store(&process, Slot(0));
        Self {
            _directory: directory,
            store,
            budget: Budget::new(64 << 10),
            timers: Timers::new(OPERATOR, false),
            epoch: 1,
            pending: None,
            expected: BTreeSet::new(),
            at_barrier: BTreeSet::new(),
        }
    }

    fn set(&mut self, at: i64, key: u32) {
        let hash = crate::key::hash(&key);
        self.timers.set(at, hash, &key).unwrap();
        self.expected.insert((at, hash, key));
    }

    fn written(&mut self) {
        if let Some(rows) = self.pending.take() {
            let shared = self.store.share_with_snapshot_thread().unwrap();
            shared.write(rows).unwrap();
            shared.set_written(Epoch(self.epoch - 1));
            shared.end_snapshot();
        }
    }

    fn barrier(&mut self) {
        self.written();
        let mut rows = Rows::default();
        self.timers.barrier(&self.store, self.epoch, &mut rows).unwrap();
        self.store.share_with_snapshot_thread().unwrap().begin_writing();
        self.pending = Some(rows);
        self.at_barrier = self.expected.clone();
        self.epoch += 1;
    }

    /// Takes the next timer, none of which waits.
    fn pop(&mut self, after: Option<&Due>, until: i64) -> Option<Due> {
        let popped = self.timers.pop(&self.store, &self.budget, after, until, |_, _| false).unwrap();
        popped.map(|popped| match popped {
            Popped::Due(due) => due,
            Popped::Waits(due) => panic!("{due:?} waits"),
        })
    }

    /// Fires up to `most` timers that are due at `until`; they must be the first, in order.
    fn fire(&mut self, until: i64, most: usize) {
        for _ in 0..most {
            let fired = self.pop(None, until);
            let fired = fired.map(|due| (due.at, due.hash, due.key::<u32>().unwrap()));
            let first = self.expected.first().copied().filter(|first| first.0 <= until);
            assert_eq!(fired, first);
            if first.is_none() {
                break;
            }
            self.expected.pop_first();
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Set(at, key) => self.set(at, key),
            Step::SetMany(at, keys) => (0..keys).for_each(|key| self.set(at, key)),
            Step::Clear(at, key) => {
                let hash = crate::key::hash(&key);
                self.timers.clear(at, hash, &key).unwrap();
                self.expected.remove(&(at, hash, key));
            }
            Step::FireTo(until) => self.fire(until, usize::MAX),
            Step::FireSome(most) => self.fire(i64::MAX, most),
            Step::Barrier => self.barrier(),
            Step::Written => self.written(),
            Step::KeepTo => {
                // A worker waits for its snapshot thread only if it can free no other memory. This test has no such thread,
                // so it writes by itself.
                self.written();
                self.timers.keep_to(&self.budget, &self.store).unwrap();
            }
            Step::Restart => {
                // Only what a barrier has handed over survives.
                self.barrier();
                self.written();
                self.timers.charge_nothing(&self.budget);
                self.timers = Timers::new(OPERATOR, true);
                assert_eq!(self.expected, self.at_barrier);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn timers_fire_in_order_and_once_wherever_they_lie(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        for step in steps {
            bench.run(step);
        }
        bench.run(Step::Restart);
        bench.fire(i64::MAX, usize::MAX);
    }
}

#[test]
fn most_timers_lie_in_the_store_when_memory_is_short() {
    let mut bench = Bench::new();
    for round in 0..40 {
        for key in 0..1_000 {
            bench.set(1_000 - round, key);
        }
        bench.run(Step::KeepTo);
        let used = bench.timers.bytes.0 + bench.timers.bytes.1;
        assert!(used <= LEAST * 100 + (64 << 10), "{used} bytes in round {round}");
    }
    assert!(bench.timers.near.len() < 2_000);
    assert_eq!(bench.timers.next_at(), Some(961));
    bench.fire(970, usize::MAX);
    bench.run(Step::Restart);
    bench.fire(i64::MAX, usize::MAX);
    assert_eq!(bench.timers.next_at(), None);
}

#[test]
fn a_sweep_skips_timers_that_are_set_for_a_time_it_has_passed() {
    let mut bench = Bench::new();
    bench.set(10, 1);
    bench.set(20, 2);
    let pop = |bench: &mut Bench, after: Option<&Due>| bench.pop(after, 100);
    let first = pop(&mut bench, None).unwrap();
    bench.set(10, 1);
    bench.set(5, 7);
    bench.set(15, 3);
    let second = pop(&mut bench, Some(&first)).unwrap();
    assert_eq!(second.at, 15);
    let third = pop(&mut bench, Some(&second)).unwrap();
    assert_eq!((third.at, pop(&mut bench, Some(&third))), (20, None));
    assert_eq!(pop(&mut bench, None).map(|due| due.at), Some(5));
}

proptest! {
    #[test]
    fn what_is_read_ahead_is_bounded_by_its_bytes(
        keys in prop::collection::vec(0usize..500, 0..60),
        least in 0usize..5,
        most_bytes in 0usize..5_000,
        seed in any::<u64>(),
    ) {
        let due = |(i, &len): (usize, &usize)| Due { at: i as i64, hash: 0, key: vec![0; len].into() };
        let all: Vec<Due> = keys.iter().enumerate().map(due).collect();
        // One after the other, as they are due, until they have the bytes and the number.
        let mut bytes = 0;
        let enough = all.iter().enumerate().position(|(i, due)| {
            bytes += due.bytes();
            i + 1 > least && bytes > most_bytes
        });
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&i| crate::key::hash(&(i as u64 ^ seed)));
        let mut first = First::new(least, most_bytes);
        for i in order {
            if first.wants(&all[i]) {
                first.add(all[i].clone());
            }
        }
        let (dues, horizon) = first.finish();
        let mut dues: Vec<Due> = dues.collect();
        dues.sort();
        prop_assert_eq!(horizon.as_ref(), enough.map(|i| &all[i]));
        prop_assert_eq!(&dues[..], &all[..enough.unwrap_or(all.len())]);
    }
}
