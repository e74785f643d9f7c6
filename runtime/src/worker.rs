//! What everything on one worker shares.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::manifest::OperatorSnapshot;
use tidegate_protocol::{Epoch, Slot};

use crate::link::{Instructions, Report};
use crate::metrics::Step;
use crate::operator::SnapshotParts;
use crate::process::Process;
use crate::state::budget::Budget;
use crate::state::snapshotter::{Barrier, Snapshotter};
use crate::state::store::{Rows, Store};
use tidegate_connector_api::Staging;
use tidegate_protocol::{Error, Result};

/// One worker of a job process.
pub(crate) struct WorkerContext {
    pub(crate) slot: Slot,
    pub(crate) process: Arc<Process>,
    store: OnceCell<Rc<Store>>,
    snapshotter: OnceCell<Snapshotter>,
    collected: RefCell<Collected>,
    pub(crate) budget: Rc<Budget>,
    /// Chains of this worker that have something to do still.
    active_chains: Cell<usize>,
}

/// What the operator chains of this worker have handed out for the epoch that has ended or is about to.
#[derive(Default)]
struct Collected {
    chains: usize,
    /// Chains that have come to the barrier.
    chains_at_barrier: usize,
    /// Chains of which all rows have been copied out.
    chains_copied: usize,
    epoch: Epoch,
    rows: Rows,
    operators: BTreeMap<String, OperatorSnapshot>,
    stagings: Vec<(Arc<Step>, Staging)>,
}

impl WorkerContext {
    pub(crate) fn new(slot: Slot, process: Arc<Process>) -> Self {
        let budget = Rc::new(Budget::new(process.settings.shares().entries));
        Self {
            slot,
            process,
            budget,
            store: OnceCell::new(),
            snapshotter: OnceCell::new(),
            collected: RefCell::default(),
            active_chains: Cell::new(0),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.slot.0 as usize
    }

    pub(crate) fn workers(&self) -> usize {
        self.process.settings.workers
    }

    /// What the driver has told this worker.
    #[inline]
    pub(crate) fn instructions(&self) -> &Instructions {
        self.process.instructions(self.slot)
    }

    /// Restores the store and starts the snapshot thread; called before any operator is opened.
    pub(crate) fn open(&self, chains: usize) -> Result<()> {
        self.collected.borrow_mut().chains = chains;
        self.active_chains.set(chains);
        let store = Store::open(self.slot, &self.process)?;
        let snapshotter =
            Snapshotter::start(self.slot, store.share_with_snapshotter(), self.process.clone())?;
        let twice = || Error::internal("a worker was opened twice");
        self.store.set(Rc::new(store)).map_err(|_| twice())?;
        self.snapshotter.set(snapshotter).map_err(|_| twice())
    }

    /// An operator chain has come to its end: a source has read its bounded input, or all senders of an operator chain have ended and what their
    /// end has made due is emitted.
    pub(crate) fn chain_ended(&self) {
        self.active_chains.set(self.active_chains.get() - 1);
        if self.active_chains.get() == 0 {
            self.process.report(Report::SourcesEnded(self.slot));
        }
    }

    /// The worker's state store.
    pub(crate) fn store(&self) -> Result<Rc<Store>> {
        self.store.get().cloned().ok_or_else(|| Error::internal("the store is used before it is open"))
    }

    /// The epoch of which this worker is still collecting the parts.
    pub(crate) fn collecting(&self) -> Option<Epoch> {
        let all = self.collected.borrow();
        (all.chains_at_barrier > 0).then_some(all.epoch)
    }

    /// One operator chain has come to its barrier.
    pub(crate) fn chain_barrier(
        &self,
        epoch: Epoch,
        fill: impl FnOnce(&mut SnapshotParts<'_>) -> Result<()>,
    ) -> Result<()> {
        let all = &mut *self.collected.borrow_mut();
        if all.chains_at_barrier > 0 && all.epoch != epoch {
            return Err(Error::internal(format!(
                "the barrier of epoch {epoch} overtook that of {}",
                all.epoch
            )));
        }
        all.epoch = epoch;
        if all.chains_at_barrier == 0 {
            self.snapshotter()?.begin_alignment();
        }
        all.chains_at_barrier += 1;
        let (rows, operators, stagings) = (&mut all.rows, &mut all.operators, &mut all.stagings);
        fill(&mut SnapshotParts { rows, operators, stagings })
    }

    /// An operator chain that has come to its barrier copies rows; true if those were its last. The last one of the worker sends the
    /// whole to the snapshot thread.
    pub(crate) fn chain_copy(&self, copy: impl FnOnce(&mut Rows) -> Result<bool>) -> Result<bool> {
        let all = &mut *self.collected.borrow_mut();
        if !copy(&mut all.rows)? {
            return Ok(false);
        }
        all.chains_copied += 1;
        if all.chains_copied == all.chains {
            let done = std::mem::replace(all, Collected { chains: all.chains, ..Collected::default() });
            let Collected { epoch, rows, operators, stagings, .. } = done;
            tidegate_failpoint::point("barrier.collected");
            self.snapshotter()?.write(Barrier { epoch, rows, operators, stagings });
        }
        Ok(true)
    }

    fn snapshotter(&self) -> Result<&Snapshotter> {
        self.snapshotter.get().ok_or_else(|| Error::internal("a barrier before the start"))
    }
}
