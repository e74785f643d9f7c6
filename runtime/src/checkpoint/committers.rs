//! How far a job has read, for others to see: the positions of complete snapshots, given to the sources that commit them
//! somewhere. No rule of the job depends on that, and nothing waits for it but the end of the process, for a short time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_connector_api::{Position, PositionCommitter};
use tidegate_protocol::manifest::OperatorSnapshot;
use tidegate_protocol::{Epoch, Result};
use tracing::warn;

use crate::panics::catch;
use crate::thread_group::ThreadGroup;

/// The positions of a source's partitions, by their names.
type Positions = BTreeMap<String, Position>;

/// The positions that the workers of a process have come to, by epoch and source. A worker's snapshot thread adds those that it is
/// about to acknowledge; they are taken when the snapshot is complete.
#[derive(Default)]
pub(crate) struct ReadPositions(Mutex<Read>);

#[derive(Default)]
struct Read {
    /// The uids of the sources that commit positions.
    committing: BTreeSet<String>,
    epochs: BTreeMap<Epoch, BTreeMap<String, Positions>>,
}

impl ReadPositions {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds those of a worker's part of a snapshot.
    pub(super) fn add(&self, epoch: Epoch, operators: &BTreeMap<String, OperatorSnapshot>) {
        let Read { committing, epochs } = &mut *self.lock();
        for uid in &*committing {
            let Some(part) = operators.get(uid) else { continue };
            let read =
                part.partitions.iter().map(|(name, partition)| (name.clone(), partition.position.clone()));
            epochs.entry(epoch).or_default().entry(uid.clone()).or_default().extend(read);
        }
    }

    /// Takes those of an epoch, and forgets those of earlier ones.
    fn take(&self, epoch: Epoch) -> BTreeMap<String, Positions> {
        let mut read = self.lock();
        let later = read.epochs.split_off(&Epoch(epoch.0 + 1));
        std::mem::replace(&mut read.epochs, later).remove(&epoch).unwrap_or_default()
    }
}

/// The threads that commit positions, one for every source that does so.
pub(crate) struct Committers {
    read: Arc<ReadPositions>,
    inboxes: Arc<Mutex<BTreeMap<String, Sender<Positions>>>>,
    threads: ThreadGroup,
}

impl Committers {
    /// Starts the threads, of sources by their uids.
    pub(crate) fn start(
        committers: Vec<(String, Box<dyn PositionCommitter>)>,
        read: &Arc<ReadPositions>,
    ) -> Result<Self> {
        let (threads, mut inboxes) = (ThreadGroup::default(), BTreeMap::new());
        for (uid, committer) in committers {
            let (positions, inbox) = channel();
            let name = uid.clone();
            threads.spawn("committer".to_owned(), move || run(&name, committer, &inbox))?;
            read.lock().committing.insert(uid.clone());
            inboxes.insert(uid, positions);
        }
        Ok(Self { read: read.clone(), inboxes: Arc::new(Mutex::new(inboxes)), threads })
    }

    /// What gives the positions of a complete snapshot to the threads.
    pub(crate) fn on_complete(&self) -> impl Fn(Epoch) + Send + Sync + 'static {
        let (read, inboxes) = (self.read.clone(), self.inboxes.clone());
        move |epoch| {
            let inboxes = inboxes.lock().unwrap_or_else(PoisonError::into_inner);
            for (uid, positions) in read.take(epoch) {
                // A thread that has ended has said why.
                drop(inboxes.get(&uid).map(|inbox| inbox.send(positions)));
            }
        }
    }

    /// Ends the threads, when they have committed what they were given, or at the time `until`.
    pub(crate) fn close(self, until: Instant) {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.threads.wait(until);
    }
}

fn run(uid: &str, mut committer: Box<dyn PositionCommitter>, inbox: &Receiver<Positions>) {
    let mut is_failing = false;
    while let Ok(mut positions) = inbox.recv() {
        // Only the newest count, if committing is slower than the job.
        inbox.try_iter().for_each(|later| positions.extend(later));
        let committed = catch(|| committer.commit(&positions));
        if let Err(error) = &committed
            && !is_failing
        {
            warn!(
                "source '{uid}': how far it has read is not committed: {error}; it goes on, and tries again"
            );
        }
        is_failing = committed.is_err();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_protocol::manifest::PartitionSnapshot;

    use super::*;

    fn operators(positions: &[(&str, &str, u64)]) -> BTreeMap<String, OperatorSnapshot> {
        let mut operators = BTreeMap::<String, OperatorSnapshot>::new();
        for (uid, name, position) in positions {
            let partition = PartitionSnapshot { position: json!(position), ..PartitionSnapshot::default() };
            operators.entry((*uid).to_owned()).or_default().partitions.insert((*name).to_owned(), partition);
        }
        operators
    }

    #[test]
    fn positions_are_those_of_the_complete_epoch_and_of_all_workers() {
        let read = ReadPositions::default();
        read.lock().committing.insert("in".to_owned());
        read.add(Epoch(1), &operators(&[("in", "a-0", 1), ("other", "b-0", 7)]));
        read.add(Epoch(2), &operators(&[("in", "a-0", 5)]));
        read.add(Epoch(2), &operators(&[("in", "a-1", 6)]));
        read.add(Epoch(3), &operators(&[("in", "a-0", 8)]));
        let expected = [("a-0".to_owned(), json!(5)), ("a-1".to_owned(), json!(6))].into();
        assert_eq!(read.take(Epoch(2)), [("in".to_owned(), expected)].into());
        assert!(read.take(Epoch(1)).is_empty(), "an epoch before a complete one is of no interest");
        assert_eq!(read.take(Epoch(3)).len(), 1);
        assert!(read.take(Epoch(3)).is_empty(), "the driver may ask twice");
    }
}
