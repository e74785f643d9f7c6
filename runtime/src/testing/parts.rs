//! The parts of a job process without a job, for the unit tests of state.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tidegate_protocol::manifest::{FORMAT_VERSION, OperatorEntry, SlotSnapshot, StateType};
use tidegate_protocol::{Attempt, Epoch, JobId, KeyGroups, Manifest, Slot};
use tidegate_snapshots::{LocalStore, Snapshots};

use crate::attempt::{AttemptSetup, JobSettings, ProcessWorkers};
use crate::checkpoint::snapshot_thread::SnapshotThread;
use crate::clock::ManualClock;
use crate::dataflow::process::Process;
use crate::link::{Beginning, ToDriver};
use crate::state::barriers::Barriers;
use crate::state::store::{SharedStore, Store};
use crate::working_directory::WorkingDirectory;

/// The only operator, and its place in the store.
pub(crate) const OPERATOR: u16 = 1;

/// The only source, of which worker 0 has the first partition.
pub(crate) const SOURCE: &str = "numbers";

/// A process with one stateful operator, and what its threads report.
pub(crate) fn process(
    root: &Path,
    workers: usize,
    restored: Option<Manifest>,
) -> (Arc<Process>, Receiver<ToDriver>) {
    process_of(root, workers, restored, false)
}

/// A process with one worker of a job that follows its sources, and drains.
pub(crate) fn draining_process(root: &Path) -> (Arc<Process>, Receiver<ToDriver>) {
    process_of(root, 1, None, true)
}

fn process_of(
    root: &Path,
    workers: usize,
    restored: Option<Manifest>,
    drains: bool,
) -> (Arc<Process>, Receiver<ToDriver>) {
    let (sender, inbox) = channel();
    let store = LocalStore::open(root).expect("a directory for the state");
    let first_epoch = restored.as_ref().map_or(Epoch(1), |m| m.epoch.next());
    let attempt = restored.as_ref().map_or(Attempt(1), |m| m.attempt.next());
    let setup = AttemptSetup {
        job: JobId([0; 16]),
        attempt,
        settings: JobSettings {
            parallelism: workers,
            key_groups: KeyGroups { count: 16 },
            memory: 8 << 20,
            follow: drains,
            over_the_wire: false,
        },
        first_epoch,
        restored: restored.map(Arc::new),
        snapshots: Snapshots::new(Arc::new(store.clone())),
        working: WorkingDirectory::within(store.root()),
        store_ids: BTreeMap::from([("state".to_owned(), OPERATOR)]),
    };
    let assigned = BTreeMap::from([(SOURCE.to_owned(), vec![vec!["partition-0".to_owned()]])]);
    let process = Process::new(
        setup,
        ProcessWorkers { first: Slot(0), count: workers },
        Beginning { attempt, first_epoch, assigned, drains },
        Box::new(move |message| drop(sender.send(message))),
        Arc::new(ManualClock::default()),
        Arc::default(),
    );
    (Arc::new(process), inbox)
}

/// The store of a worker, and its barriers, of which one operator chain takes part.
pub(crate) fn store(process: &Process, slot: Slot) -> (Rc<Store>, Rc<Barriers>) {
    let barriers = Rc::new(Barriers::default());
    barriers.open(1);
    let activity = process.activities.store(slot);
    let store = Store::open(slot, &process.setup, activity, barriers.clone()).expect("a store");
    (Rc::new(store), barriers)
}

/// The snapshot thread of a worker.
pub(crate) fn snapshot_thread(
    process: &Process,
    slot: Slot,
    store: Option<Arc<SharedStore>>,
) -> SnapshotThread {
    let (driver, written) = (process.driver.clone(), (process.outputs.clone(), process.read.clone()));
    let measured = (process.activities.activity(slot), process.metrics.clone());
    SnapshotThread::start(slot, store, &process.setup, driver, written, measured).expect("a thread")
}

/// The manifest of what the workers wrote for an epoch.
pub(crate) fn manifest(process: &Process, epoch: Epoch, slots: BTreeMap<Slot, SlotSnapshot>) -> Manifest {
    let state = StateType { name: "u64".to_owned(), fingerprint: "u64".to_owned() };
    let operator =
        OperatorEntry { kind: "process".to_owned(), store_id: OPERATOR, state: Some(state), uri: None };
    Manifest {
        format_version: FORMAT_VERSION,
        job: "test".to_owned(),
        attempt: process.setup.attempt,
        epoch,
        checkpoints: 1,
        finished: false,
        completed_at_ms: 0,
        parallelism: process.setup.settings.parallelism as u32,
        key_groups: process.setup.settings.key_groups,
        arguments: BTreeMap::new(),
        operators: BTreeMap::from([("state".to_owned(), operator)]),
        slots,
    }
}
