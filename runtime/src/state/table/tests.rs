//! The table against a map, over a real store.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use proptest::prelude::*;
use tidegate_protocol::{Epoch, Manifest, Slot as WorkerSlot};

use super::*;
use crate::checkpoint::snapshot_thread::{CollectedEpoch, SnapshotThread};
use crate::dataflow::process::Process;
use crate::link::{Command, Report, ToDriver, ToProcess};
use crate::state::barriers::Barriers;
use crate::state::budget::Budget;
use crate::state::store::{Patience, Row};
use crate::testing::parts::{self, OPERATOR};

const PLACE: Namespace = Namespace { operator: OPERATOR, namespace: 0 };

/// A table over a real store; the rows of its barriers are written when the test calls [`Bench::write`].
struct Bench {
    _directory: tempfile::TempDir,
    store: Rc<Store>,
    barriers: Rc<Barriers>,
    table: Table<u32, u64>,
    budget: Budget,
    epoch: u64,
    pending: Option<(u64, Rows)>,
    /// The content of the table at the barrier whose rows are pending, if the test has set it.
    at_barrier: Option<BTreeMap<u32, u64>>,
}

impl Bench {
    fn new(budget: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (process, _) = parts::process(directory.path(), 1, None);
        let (store, barriers) = parts::store(&process, WorkerSlot(0));
        let table = Table::new(PLACE, 1, false);
        let budget = Budget::new(budget);
        Self {
            _directory: directory,
            store,
            barriers,
            table,
            budget,
            epoch: 1,
            pending: None,
            at_barrier: None,
        }
    }

    fn set(&mut self, key: u32, value: Option<u64>) {
        let hash = crate::key::hash(&key);
        let (i, old) = self.table.take(&self.store, hash, &key).unwrap();
        self.table.put_back(&self.store, i, value, old.is_some() || value.is_some()).unwrap();
    }

    fn get(&mut self, key: u32) -> Option<u64> {
        let (i, value) = self.table.take(&self.store, crate::key::hash(&key), &key).unwrap();
        self.table.put_back(&self.store, i, value, false).unwrap();
        value
    }

    fn add(&mut self, key: u32, more: u64) {
        *self.table.entry(&self.store, crate::key::hash(&key), &key, || 0).unwrap() += more;
    }

    /// A barrier whose rows are not written yet. The one before has been: there is one checkpoint at a time.
    fn barrier(&mut self) {
        self.write();
        self.barrier_over_another();
    }

    /// A barrier while the rows of the one before may still wait.
    fn barrier_over_another(&mut self) {
        self.copy(None);
        let rows = self.pending.take().map(|(_, rows)| rows).unwrap_or_default();
        if let Some(epoch) = self.barriers.under_way() {
            assert!(self.barriers.copied(0), "{epoch} is over");
        }
        self.barriers.arrive(0, Epoch(self.epoch)).unwrap();
        self.table.barrier(&self.store, self.epoch + 1).unwrap();
        (self.pending, self.at_barrier) = (Some((self.epoch, rows)), None);
        self.epoch += 1;
    }

    /// Copies rows of the barrier, a few or all of them.
    fn copy(&mut self, until: Option<Instant>) {
        if let Some((_, rows)) = &mut self.pending {
            self.table.copy(&self.store, rows, until).unwrap();
        }
    }

    /// What the snapshot thread does.
    fn write(&mut self) {
        self.copy(None);
        assert!(!self.table.is_copying());
        if let Some((epoch, rows)) = self.pending.take() {
            if self.barriers.under_way().is_some() {
                self.barriers.copied(0);
            }
            let shared = self.store.share_with_snapshot_thread().unwrap();
            shared.begin_writing();
            shared.write(rows).unwrap();
            shared.set_written(Epoch(epoch));
            shared.end_snapshot();
        }
        if let Some(expected) = self.at_barrier.take() {
            assert_eq!(self.written(), expected, "the snapshot is not of the barrier");
        }
    }

    /// What the store holds.
    fn written(&self) -> BTreeMap<u32, u64> {
        let mut rows = BTreeMap::new();
        let each = |row: Row<u32, u64>| {
            rows.insert(row.key, row.value);
            Ok(())
        };
        self.store.scan(PLACE.operator, Some(PLACE.namespace), each).unwrap();
        rows
    }

    fn make_room(&mut self) {
        self.table.keep_to(&self.budget, &self.store).unwrap();
    }

    fn all(&self) -> BTreeMap<u32, u64> {
        let mut all = BTreeMap::new();
        let each = |_, key: &u32, value: &u64| assert_eq!(all.insert(*key, *value), None, "{key} twice");
        self.table.for_all(&self.store, each).unwrap();
        all
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, u64),
    Remove(u32),
    Add(u32, u64),
    Get(u32),
    Barrier,
    Copy,
    Write,
    MakeRoom,
    All,
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let key = || 0u32..40;
    let step = prop_oneof![
        6 => (key(), 1u64..1_000).prop_map(|(k, v)| Step::Set(k, v)),
        4 => key().prop_map(Step::Remove),
        3 => (key(), 1u64..1_000).prop_map(|(k, v)| Step::Add(k, v)),
        8 => key().prop_map(Step::Get),
        2 => Just(Step::Barrier),
        3 => Just(Step::Copy),
        2 => Just(Step::Write),
        3 => Just(Step::MakeRoom),
        1 => Just(Step::All),
    ];
    prop::collection::vec(step, 1..most)
}

fn run(bench: &mut Bench, model: &mut HashMap<u32, u64>, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Set(key, value) => {
            bench.set(key, Some(value));
            model.insert(key, value);
        }
        Step::Remove(key) => {
            bench.set(key, None);
            model.remove(&key);
        }
        Step::Add(key, more) => {
            bench.add(key, more);
            *model.entry(key).or_default() += more;
        }
        Step::Get(key) => prop_assert_eq!(bench.get(key), model.get(&key).copied()),
        Step::Barrier => {
            bench.barrier();
            bench.at_barrier = Some(model.clone().into_iter().collect());
        }
        // A time that has passed: it copies until its first look at the clock.
        Step::Copy => bench.copy(Some(Instant::now())),
        Step::Write => bench.write(),
        Step::MakeRoom => bench.make_room(),
        Step::All => prop_assert_eq!(bench.all(), model.clone().into_iter().collect()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_table_is_a_map_whatever_memory_it_has(steps in steps(400), budget in prop_oneof![Just(0), Just(1_500)]) {
        let (mut bench, mut model) = (Bench::new(budget), HashMap::new());
        for step in steps {
            run(&mut bench, &mut model, step)?;
        }
        prop_assert_eq!(bench.all(), model.into_iter().collect());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_table_is_a_map_after_restarts_with_any_parallelism(
        lives in prop::collection::vec((steps(60), 1usize..=3), 3), budget in prop_oneof![Just(0), Just(1_500)]
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut model, mut restored) = (HashMap::new(), None);
        for (steps, workers) in lives {
            let mut life = Life::new(directory.path(), workers, restored, budget);
            for step in steps {
                life.run(&mut model, step)?;
            }
            restored = Some(life.snapshot());
            // This change belongs to the next epoch and is lost with the attempt.
            life.workers.iter_mut().for_each(|w| w.bench.set(1, Some(77)));
        }
    }
}

/// All workers of an attempt, with real snapshot threads.
struct Life {
    process: Arc<Process>,
    events: Receiver<ToDriver>,
    workers: Vec<Worker>,
}

struct Worker {
    thread: SnapshotThread,
    bench: Bench,
}

impl Life {
    fn new(root: &std::path::Path, workers: usize, restored: Option<Manifest>, budget: usize) -> Self {
        let cold = restored.is_some();
        let (process, events) = parts::process(root, workers, restored);
        let worker = |slot| {
            let slot = WorkerSlot(slot as u32);
            let (store, barriers) = parts::store(&process, slot);
            let shared = store.share_with_snapshot_thread();
            let epoch = process.setup.first_epoch.0;
            let bench = Bench {
                _directory: tempfile::tempdir().unwrap(),
                store,
                barriers,
                table: Table::new(PLACE, epoch, cold),
                budget: Budget::new(budget),
                epoch,
                pending: None,
                at_barrier: None,
            };
            Worker { thread: parts::snapshot_thread(&process, slot, shared), bench }
        };
        let workers = (0..workers).map(worker).collect();
        Self { process, events, workers }
    }

    fn owner(&mut self, key: u32) -> &mut Bench {
        let groups = self.process.setup.settings.key_groups;
        let owner = groups.owner(groups.of_hash(crate::key::hash(&key)), self.workers.len());
        &mut self.workers[owner].bench
    }

    fn run(&mut self, model: &mut HashMap<u32, u64>, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Set(key, _) | Step::Remove(key) | Step::Add(key, _) | Step::Get(key) => {
                run(self.owner(key), model, step)?;
            }
            Step::Barrier => drop(self.snapshot()),
            Step::Copy | Step::Write => {}
            Step::MakeRoom => self.workers.iter_mut().for_each(|w| w.bench.make_room()),
            Step::All => {
                let all: BTreeMap<u32, u64> = self.workers.iter().flat_map(|w| w.bench.all()).collect();
                prop_assert_eq!(all, model.clone().into_iter().collect());
            }
        }
        Ok(())
    }

    /// A checkpoint of all workers, and its manifest.
    fn snapshot(&mut self) -> Manifest {
        let mut epoch = Epoch(0);
        for Worker { thread, bench } in &mut self.workers {
            bench.barriers.arrive(0, Epoch(bench.epoch)).unwrap();
            let mut rows = Rows::default();
            bench.table.barrier(&bench.store, bench.epoch + 1).unwrap();
            bench.table.copy(&bench.store, &mut rows, None).unwrap();
            epoch = Epoch(bench.epoch);
            bench.epoch += 1;
            let (operators, stagings) = (BTreeMap::new(), Vec::new());
            bench.barriers.copied(0);
            thread.write(CollectedEpoch { epoch, rows, operators, stagings });
        }
        let mut slots = BTreeMap::new();
        while slots.len() < self.workers.len() {
            match self.events.recv().unwrap().report {
                Report::Acked { slot, part, .. } => drop(slots.insert(slot, *part)),
                Report::Declined { reason, .. } => panic!("{reason}"),
                Report::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        let (attempt, command) = (self.process.setup.attempt, Command::Completed(epoch));
        self.process.driver.receive(vec![ToProcess { attempt, command }]);
        let manifest = parts::manifest(&self.process, epoch, slots);
        self.process.setup.snapshots.check_files(&manifest, manifest.epoch).unwrap().unwrap();
        manifest
    }
}

/// A table of which the store has one row, as after a restart.
fn with_a_stored_row() -> Bench {
    let mut bench = Bench::new(0);
    bench.set(1, Some(10));
    bench.barrier();
    bench.write();
    bench.make_room();
    assert_eq!(bench.table.in_memory(), 0, "it was evicted");
    bench
}

#[test]
fn reading_a_removed_key_does_not_restore_it_before_its_row_is_deleted() {
    let mut bench = with_a_stored_row();
    bench.set(1, None);
    bench.barrier();
    assert_eq!(bench.get(1), None);
    assert_eq!(bench.get(1), None);
    bench.write();
    assert_eq!(bench.get(1), None);
}

#[test]
fn a_removed_key_stays_removed_when_a_second_barrier_overtakes_the_writing_of_the_first() {
    let mut bench = with_a_stored_row();
    bench.set(1, None);
    bench.barrier_over_another();
    bench.barrier_over_another();
    assert_eq!(bench.get(1), None);
}

#[test]
fn nothing_is_spilled_while_a_barrier_is_under_way() {
    let mut bench = Bench::new(0);
    (0..10).for_each(|key| bench.set(key, Some(1)));
    bench.barrier();
    let shared = bench.store.share_with_snapshot_thread().unwrap();
    assert!(!bench.store.may_spill(Patience::UntilWritten).unwrap());
    // The barrier before, aborted but still being written, is done meanwhile.
    shared.end_snapshot();
    assert!(!bench.store.may_spill(Patience::UntilWritten).unwrap(), "another barrier is aligning");
    bench.write();
    assert!(bench.store.may_spill(Patience::UntilWritten).unwrap());
}

#[test]
fn a_key_that_changes_after_the_barrier_is_in_the_snapshot_as_it_was() {
    let mut bench = Bench::new(usize::MAX);
    (0..100).for_each(|key| bench.set(key, Some(1)));
    bench.barrier();
    bench.copy(Some(Instant::now()));
    bench.add(3, 1);
    bench.set(4, None);
    bench.add(99, 1);
    bench.set(98, None);
    assert!(bench.table.is_copying(), "the first slice does not copy all rows");
    bench.write();
    assert_eq!(bench.written(), (0..100).map(|key| (key, 1)).collect());
    bench.barrier();
    bench.write();
    let now = (0..100).filter(|key| ![4, 98].contains(key));
    assert_eq!(bench.written(), now.map(|key| (key, if [3, 99].contains(&key) { 2 } else { 1 })).collect());
}

#[test]
fn a_table_that_was_written_early_knows_that_the_store_has_rows_of_it() {
    let mut bench = Bench::new(80_000);
    (0..600).for_each(|key| bench.set(key, Some(1)));
    bench.make_room();
    assert!(!bench.table.is_in_store(), "little has changed");
    (600..1_000).for_each(|key| bench.set(key, Some(1)));
    bench.make_room();
    assert_eq!(bench.budget.excess(), 0);
    assert!(bench.table.is_in_store() && bench.written().len() == 1_000);
    assert!(!bench.table.cold, "all of it is in memory");
}

#[test]
fn values_that_grow_in_their_place_are_noticed_before_the_next_barrier() {
    let directory = tempfile::tempdir().unwrap();
    let (process, _) = parts::process(directory.path(), 1, None);
    let (store, _) = parts::store(&process, WorkerSlot(0));
    let (mut table, budget) = (Table::<u32, Vec<u64>>::new(PLACE, 1, false), Budget::new(1 << 30));
    for n in 0..100_000 {
        let key = n as u32 % 10;
        table.entry(&store, crate::key::hash(&key), &key, Vec::new).unwrap().push(n);
        table.keep_to(&budget, &store).unwrap();
    }
    let used = budget.used.get();
    assert!((700_000..1_500_000).contains(&used), "100,000 numbers are estimated to take {used} bytes");
}

#[test]
fn rows_are_read_ahead_if_there_is_room() {
    const KEYS: u32 = 4 * READS_A_ROW as u32;
    for memory in [1 << 20, 1] {
        let mut bench = Bench::new(memory);
        (0..KEYS).for_each(|key| bench.set(key, Some(u64::from(key) + 1)));
        bench.set(7, None);
        bench.barrier();
        bench.write();
        bench.table.discharge(&bench.budget);
        bench.table = Table::new(PLACE, bench.epoch, true);
        bench.make_room();
        let mut reads = 0;
        for key in 0..KEYS {
            let hash = crate::key::hash(&key);
            reads += usize::from(key != 7 && bench.table.find(hash, &key).is_none());
            let expected = Some(u64::from(key) + 1).filter(|_| key != 7);
            assert_eq!(bench.get(key), expected, "{key}");
        }
        assert_eq!(reads < KEYS as usize - 1, memory > 1, "{reads} reads with {memory} bytes");
        assert_eq!(bench.all().len(), KEYS as usize - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Every entry is drained once, and a barrier in between holds the entries that have not been drained.
    #[test]
    fn a_table_is_emptied_slice_by_slice(
        keys in 1u32..3_000, budget in 1usize..200, most in 1usize..400, barrier_every in 1usize..6, stored: bool
    ) {
        let mut bench = Bench::new(budget << 10);
        for key in 0..keys {
            bench.set(key, Some(u64::from(key) * 3));
            if key % 500 == 499 {
                if stored {
                    bench.barrier();
                    bench.write();
                }
                bench.table.keep_to(&bench.budget, &bench.store).unwrap();
            }
        }
        let mut left: BTreeMap<u32, u64> = (0..keys).map(|key| (key, u64::from(key) * 3)).collect();
        for slice in 1.. {
            let Bench { table, store, budget, .. } = &mut bench;
            let mut taken = 0;
            let is_empty = table
                .drain(store, most, |_, key, value| {
                    taken += 1;
                    assert_eq!(left.remove(key), Some(value), "key {key}");
                    Ok(())
                })
                .unwrap();
            prop_assert!(taken <= most);
            table.keep_to(budget, store).unwrap();
            if is_empty {
                break;
            }
            if slice % barrier_every == 0 {
                let mut rows = Rows::default();
                bench.write();
                bench.table.delete_drained(&bench.store, &mut rows);
                bench.store.share_with_snapshot_thread().unwrap().write(rows).unwrap();
                bench.barrier();
                bench.copy(None);
                bench.write();
                prop_assert_eq!(&bench.written(), &left);
            }
        }
        prop_assert_eq!(left.len(), 0);
    }
}
