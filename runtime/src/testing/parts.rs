//! The parts of a job process without a job, for the unit tests of state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tidegate_protocol::manifest::{FORMAT_VERSION, OperatorEntry, SlotSnapshot, StateType};
use tidegate_protocol::{Attempt, Epoch, KeyGroups, Manifest, Slot};
use tidegate_snapshots::{LocalStore, Snapshots};

use crate::clock::ManualClock;
use crate::link::ToDriver;
use crate::process::{Parts, Process, Settings};
use crate::state::working_directory::WorkingDirectory;
use crate::stream::outline::Outline;

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
    let (parts, inbox) = parts(root, workers, restored);
    (Arc::new(Process::new(parts)), inbox)
}

/// What such a process is made of.
pub(crate) fn parts(root: &Path, workers: usize, restored: Option<Manifest>) -> (Parts, Receiver<ToDriver>) {
    let (sender, inbox) = channel();
    let store = LocalStore::open(root).expect("a directory for the state");
    let first_epoch = restored.as_ref().map_or(Epoch(1), |m| m.epoch.next());
    let attempt = restored.as_ref().map_or(Attempt(1), |m| m.attempt.next());
    let parts = Parts {
        settings: Settings {
            workers,
            key_groups: KeyGroups { count: 16 },
            memory: 8 << 20,
            follow: false,
            over_the_wire: false,
        },
        attempt,
        first_epoch,
        restored: restored.map(Arc::new),
        snapshots: Snapshots::new(Arc::new(store.clone())),
        working: WorkingDirectory::within(store.root()),
        store_ids: BTreeMap::from([("state".to_owned(), OPERATOR)]),
        outline: Outline::default(),
        assigned: BTreeMap::from([(SOURCE.to_owned(), vec![vec!["partition-0".to_owned()]])]),
        processes: 1,
        clock: Arc::new(ManualClock::default()),
        metrics: Arc::default(),
        driver: Box::new(move |message| drop(sender.send(message))),
    };
    (parts, inbox)
}

/// The manifest of what the workers wrote for an epoch.
pub(crate) fn manifest(process: &Process, epoch: Epoch, slots: BTreeMap<Slot, SlotSnapshot>) -> Manifest {
    let state = StateType { name: "u64".to_owned(), fingerprint: "u64".to_owned() };
    let operator =
        OperatorEntry { kind: "process".to_owned(), store_id: OPERATOR, state: Some(state), uri: None };
    Manifest {
        format_version: FORMAT_VERSION,
        job: "test".to_owned(),
        attempt: process.attempt,
        epoch,
        checkpoints: 1,
        finished: false,
        completed_at_ms: 0,
        parallelism: process.settings.workers as u32,
        key_groups: process.settings.key_groups,
        arguments: BTreeMap::new(),
        operators: BTreeMap::from([("state".to_owned(), operator)]),
        slots,
    }
}
