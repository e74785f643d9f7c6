//! How far the operator chains of a worker are with barriers.

use std::cell::{Cell, RefCell};

use tidegate_protocol::{Epoch, Error, Result};

/// The progress of each operator chain of a worker. A chain reaches the barrier of an epoch, then copies the rows that
/// belong to it while it already processes the next epoch. One barrier is under way at a time: the sources end an epoch
/// only when all chains have copied the rows of the previous one.
#[derive(Default)]
pub(crate) struct Barriers {
    chains: RefCell<Vec<Progress>>,
    /// The epoch of the barrier that is under way, or was last.
    epoch: Cell<Epoch>,
}

/// How far a chain is with the barrier under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has not reached the barrier.
    Before,
    /// It has reached the barrier, and still has rows to copy.
    Copying,
    /// It has copied its rows.
    Done,
}

impl Barriers {
    /// Starts with `chains` chains, none of which has reached a barrier.
    pub(crate) fn open(&self, chains: usize) {
        *self.chains.borrow_mut() = vec![Progress::Before; chains];
    }

    /// A chain has reached the barrier of an epoch; true if it is the first of the worker.
    ///
    /// # Errors
    /// If another epoch's barrier is under way.
    pub(crate) fn arrive(&self, chain: usize, epoch: Epoch) -> Result<bool> {
        let is_first = self.under_way().is_none();
        if !is_first && self.epoch.get() != epoch {
            return Err(Error::internal(format!(
                "the barrier of epoch {epoch} has overtaken that of {}",
                self.epoch.get()
            )));
        }
        self.epoch.set(epoch);
        self.chains.borrow_mut()[chain] = Progress::Copying;
        Ok(is_first)
    }

    /// A chain has copied all its rows; true if it is the last of the worker, with which the barrier is over.
    pub(crate) fn copied(&self, chain: usize) -> bool {
        let mut chains = self.chains.borrow_mut();
        chains[chain] = Progress::Done;
        let is_last = chains.iter().all(|progress| *progress == Progress::Done);
        if is_last {
            chains.fill(Progress::Before);
        }
        is_last
    }

    /// True if a chain has still rows of the barrier to copy.
    pub(crate) fn is_copying(&self, chain: usize) -> bool {
        self.chains.borrow().get(chain) == Some(&Progress::Copying)
    }

    /// The epoch whose barrier is under way: some chains have come to it, and not all have copied their rows.
    pub(crate) fn under_way(&self) -> Option<Epoch> {
        let is_under_way = self.chains.borrow().iter().any(|progress| *progress != Progress::Before);
        is_under_way.then(|| self.epoch.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_under_way_until_the_last_chain_has_copied_its_rows() {
        let barriers = Barriers::default();
        barriers.open(2);
        assert_eq!(barriers.under_way(), None);
        assert!(barriers.arrive(1, Epoch(5)).unwrap());
        assert_eq!((barriers.under_way(), barriers.is_copying(1)), (Some(Epoch(5)), true));
        assert!(!barriers.copied(1));
        assert_eq!((barriers.under_way(), barriers.is_copying(1)), (Some(Epoch(5)), false));
        assert!(barriers.arrive(0, Epoch(6)).unwrap_err().to_string().contains("overtaken"));
        assert!(!barriers.arrive(0, Epoch(5)).unwrap());
        assert!(barriers.copied(0));
        assert_eq!((barriers.under_way(), barriers.is_copying(0)), (None, false));
        assert!(barriers.arrive(0, Epoch(6)).unwrap());
    }
}
