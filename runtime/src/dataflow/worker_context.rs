//! The state that everything on one worker shares.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::{Error, Result, Slot};

use super::process::Process;
use crate::checkpoint::collector::Collector;
use crate::checkpoint::snapshot_thread::SnapshotThread;
use crate::link::{Instructions, Report};
use crate::state::barriers::Barriers;
use crate::state::budget::{Budget, Shares};
use crate::state::store::Store;

/// One worker of a job process.
pub(crate) struct WorkerContext {
    pub(crate) slot: Slot,
    pub(crate) process: Arc<Process>,
    /// How far the operator chains are with the running barrier.
    pub(crate) barriers: Rc<Barriers>,
    store: OnceCell<Rc<Store>>,
    collector: OnceCell<Collector>,
    pub(crate) budget: Rc<Budget>,
    /// The number of staged files so far, of all sinks of the worker.
    pub(crate) staged_files: Rc<Cell<u64>>,
    /// The number of operator chains of this worker that have not ended.
    active_chains: Cell<usize>,
}

impl WorkerContext {
    pub(crate) fn new(slot: Slot, process: Arc<Process>) -> Self {
        let settings = &process.setup.settings;
        let budget = Rc::new(Budget::new(Shares::of(settings.memory, settings.parallelism).entries));
        Self {
            slot,
            process,
            barriers: Rc::default(),
            store: OnceCell::new(),
            collector: OnceCell::new(),
            budget,
            staged_files: Rc::default(),
            active_chains: Cell::new(0),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.slot.0 as usize
    }

    /// The number of workers of the job.
    pub(crate) fn parallelism(&self) -> usize {
        self.process.setup.settings.parallelism
    }

    /// The driver's instructions to this worker.
    #[inline]
    pub(crate) fn instructions(&self) -> &Instructions {
        self.process.driver.instructions()
    }

    /// Restores the store and starts the snapshot thread; called before any operator is opened.
    pub(crate) fn open(&self, chains: usize) -> Result<()> {
        self.barriers.open(chains);
        self.active_chains.set(chains);
        let process = &self.process;
        let activity = process.activities.store(self.slot);
        let store = Store::open(self.slot, &process.setup, activity, self.barriers.clone())?;
        let measured = (process.activities.activity(self.slot), process.metrics.clone());
        let (shared, driver) = (store.share_with_snapshot_thread(), process.driver.clone());
        let written = (process.outputs.clone(), process.read.clone());
        let thread = SnapshotThread::start(self.slot, shared, &process.setup, driver, written, measured)?;
        let twice = || Error::internal("a worker was opened twice");
        self.store.set(Rc::new(store)).map_err(|_| twice())?;
        self.collector.set(Collector::new(self.barriers.clone(), thread)).map_err(|_| twice())
    }

    /// An operator chain has ended: its source has read its bounded input, or all senders of the chain have ended and
    /// everything that their end has made due has fired.
    pub(crate) fn chain_ended(&self) {
        self.active_chains.set(self.active_chains.get() - 1);
        if self.active_chains.get() == 0 {
            self.process.driver.report(Report::SourcesEnded(self.slot));
        }
    }

    /// The worker's state store.
    pub(crate) fn store(&self) -> Result<Rc<Store>> {
        self.store.get().cloned().ok_or_else(|| Error::internal("the store is used before it is open"))
    }

    /// The collector of the parts of the next snapshot.
    pub(crate) fn collector(&self) -> Result<&Collector> {
        self.collector
            .get()
            .ok_or_else(|| Error::internal("a barrier has arrived before the worker was opened"))
    }
}
