//! The flow control between the senders and the receivers of an edge: records that can wait are sent no faster than they
//! are processed.
//!
//! Every sender counts what it has sent to a receiver, every receiver what it has taken from a sender. Within a process both
//! counts are in memory. A receiver tells a sender in another process its count by a message ([`super::peers`]), not for
//! every batch: once it has taken half of what the sender may have outstanding. The count is told, not the difference, so a
//! message that is late or comes twice does no harm.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pace::Pace;

/// The counts of one edge, as far as this process knows them.
pub(crate) struct Flow {
    workers: usize,
    /// Records sent, and records taken, for every pair of a sender and a receiver.
    sent: Vec<AtomicUsize>,
    taken: Vec<AtomicUsize>,
    /// How many records may wait at every receiver of this process.
    backlogs: Vec<AtomicUsize>,
    /// The same for a receiver in another process, as it has told each sender; 0 if it has told nothing yet. What one sender
    /// was told counts for no other: the receiver expects each to go by what it knows, and speaks again accordingly.
    told: Vec<AtomicUsize>,
}

impl Flow {
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        let all = |count: usize, n| (0..count).map(|_| AtomicUsize::new(n)).collect();
        Arc::new(Self {
            workers,
            sent: all(workers * workers, 0),
            taken: all(workers * workers, 0),
            backlogs: all(workers, Pace::default().backlog()),
            told: all(workers * workers, 0),
        })
    }

    fn pair(&self, sender: usize, receiver: usize) -> usize {
        sender * self.workers + receiver
    }

    /// Counts records that a sender of this process has sent.
    pub(crate) fn sent(&self, sender: usize, receiver: usize, records: usize) {
        self.sent[self.pair(sender, receiver)].fetch_add(records, Ordering::Relaxed);
    }

    /// Counts records that a receiver of this process has taken, and notes how many may wait there; returns the whole count.
    pub(crate) fn taken(&self, sender: usize, receiver: usize, records: usize, backlog: usize) -> usize {
        self.backlogs[receiver].store(backlog, Ordering::Relaxed);
        self.taken[self.pair(sender, receiver)].fetch_add(records, Ordering::Relaxed) + records
    }

    /// Notes what a receiver in another process has told.
    pub(crate) fn told(&self, sender: usize, receiver: usize, taken: usize, backlog: usize) {
        if sender < self.workers && receiver < self.workers {
            let pair = self.pair(sender, receiver);
            self.told[pair].store(backlog.max(1), Ordering::Relaxed);
            self.taken[pair].fetch_max(taken, Ordering::Relaxed);
        }
    }

    /// The number of records that a sender may send to a receiver now. Every sender has an equal share of the backlog of the
    /// receiver, and at least one record.
    pub(crate) fn room(&self, sender: usize, receiver: usize) -> usize {
        let pair = self.pair(sender, receiver);
        let (sent, taken) = (&self.sent[pair], &self.taken[pair]);
        let unread = sent.load(Ordering::Relaxed).saturating_sub(taken.load(Ordering::Relaxed));
        let backlog = match self.told[pair].load(Ordering::Relaxed) {
            0 => self.backlogs[receiver].load(Ordering::Relaxed),
            told => told,
        };
        self.share(backlog).saturating_sub(unread)
    }

    /// What one sender may have outstanding of a receiver's backlog.
    pub(crate) fn share(&self, backlog: usize) -> usize {
        (backlog / self.workers).max(1)
    }
}

/// The flows of all edges of a process, for the messages of other processes.
#[derive(Default)]
pub(crate) struct Flows(Mutex<HashMap<usize, Arc<Flow>>>);

impl Flows {
    /// The flow of an edge between `workers` workers; the same for all workers of the process.
    pub(crate) fn of(&self, edge: usize, workers: usize) -> Arc<Flow> {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flows.entry(edge).or_insert_with(|| Flow::new(workers)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_tells_again_or_late_changes_nothing() {
        let flow = Flow::new(2);
        flow.sent(0, 1, 10);
        flow.told(0, 1, 6, 40);
        assert_eq!(flow.room(0, 1), 20 - 4);
        flow.told(0, 1, 6, 40);
        flow.told(0, 1, 2, 40);
        assert_eq!(flow.room(0, 1), 20 - 4);
        flow.told(7, 1, 6, 40);
        flow.told(0, 7, 6, 40);
    }

    #[test]
    fn what_a_receiver_tells_one_sender_holds_no_other_one_up() {
        let flow = Flow::new(4);
        flow.sent(0, 2, 300);
        flow.told(0, 2, 0, 4096);
        // The receiver has become slow. It speaks to the first sender again when that has sent half of 1,024 records.
        flow.told(1, 2, 0, 400);
        assert_eq!((flow.room(0, 2), flow.room(1, 2)), (1024 - 300, 100));
    }
}
