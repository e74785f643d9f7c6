//! What travels on an edge: records of one receiver, with the watermark that follows them.
//!
//! Freeing on one thread what another allocated costs more than the whole exchange. So a buffer that crossed to another
//! worker goes home with its records still in it, and the worker that filled it clears and reuses it ([`Pool`]). A batch
//! that crossed as bytes ([`super::wire`]) left its buffer behind, and the one that it has now was made by its receiver.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{Message, Stamp};

use super::wire::Passage;
use crate::record::Rec;
use crate::watermark::Mark;

/// The number of records that a full batch holds.
pub(crate) const BATCH_RECORDS: usize = 256;

/// Batches of a sender that its receivers have not looked at, from which on it should wait, for each receiver.
const UNREAD_BATCHES: usize = 16;

/// Buffers that a pool keeps for its own use; more are freed.
const POOL_BUFFERS: usize = 64;

/// Records for one receiver, and the watermark behind them.
pub(crate) struct Batch<T> {
    pub(crate) target: u32,
    pub(crate) from: u32,
    pub(crate) mark: Option<Mark>,
    pub(crate) records: Vec<Rec<T>>,
    /// What has become of it on its way as bytes.
    pub(crate) passage: Passage,
}

impl<T> Batch<T> {
    pub(crate) fn new(target: u32, from: u32, mark: Option<Mark>, records: Vec<Rec<T>>) -> Self {
        Self { target, from, mark, records, passage: Passage::default() }
    }

    /// True if its sender is one of so many workers.
    pub(crate) fn is_of_one_of(&self, workers: usize) -> bool {
        (self.from as usize) < workers
    }

    /// The worker that filled the buffer of records; None if it was made here, of bytes.
    pub(crate) fn filled_by(&self) -> Option<usize> {
        (!self.passage.has_arrived()).then_some(self.from as usize)
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self::new(0, 0, None, Vec::new())
    }
}

/// A watermark counts as one, so that a batch without records still is a message. The default must count nothing, or
/// timely's container builder hands out empty containers for ever.
impl<T> Accountable for Batch<T> {
    fn record_count(&self) -> i64 {
        self.records.len() as i64 + i64::from(self.mark.is_some())
    }
}

/// Hands whole batches to the worker that they were filled for; touches no record.
pub(crate) struct Router;

impl<T: Send + 'static> Distributor<Batch<T>> for Router {
    fn partition<S: Clone, P: Push<Message<S, Batch<T>>>>(
        &mut self,
        batch: &mut Batch<T>,
        stamp: &Stamp<S>,
        pushers: &mut [P],
    ) {
        let target = batch.target as usize;
        Message::push_at(batch, stamp.clone(), &mut pushers[target]);
    }

    fn flush<S: Clone, P: Push<Message<S, Batch<T>>>>(&mut self, _: &Stamp<S>, _: &mut [P]) {}
}

/// The pact of an edge whose batches already know their receiver.
pub(crate) fn by_target() -> DistributorPact<impl FnOnce(usize) -> Router> {
    DistributorPact(|_| Router)
}

/// Where the workers of a process leave each other the ways home, by edge.
#[derive(Default)]
pub(crate) struct Ways(Mutex<HashMap<usize, Box<dyn Any + Send>>>);

struct EdgeWays<T> {
    to: Vec<Sender<Vec<T>>>,
    at: Vec<Option<Receiver<Vec<T>>>>,
    unread: Unread,
}

/// The number of batches of every sender that no receiver has looked at yet.
type Unread = Arc<[AtomicUsize]>;

fn unread(senders: usize) -> Unread {
    (0..senders).map(|_| AtomicUsize::new(0)).collect()
}

/// One worker's ends of the ways home.
struct Home<T> {
    me: usize,
    to: Vec<Sender<Vec<T>>>,
    at: Receiver<Vec<T>>,
}

impl Ways {
    fn home<T: Send + 'static>(&self, edge: usize, me: usize, workers: usize) -> Option<(Home<T>, Unread)> {
        let mut edges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = edges.entry(edge).or_insert_with(|| {
            let (to, at) = (0..workers).map(|_| channel()).map(|(to, at)| (to, Some(at))).unzip();
            Box::new(EdgeWays::<T> { to, at, unread: unread(workers) })
        });
        let ways = ways.downcast_mut::<EdgeWays<T>>()?;
        let home = Home { me, to: ways.to.clone(), at: ways.at[me].take()? };
        Some((home, ways.unread.clone()))
    }
}

/// The buffers of one edge on one worker.
pub(crate) struct Pool<T> {
    free: Rc<RefCell<Vec<Vec<T>>>>,
    home: Option<Rc<Home<T>>>,
    unread: Unread,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { free: self.free.clone(), home: self.home.clone(), unread: self.unread.clone() }
    }
}

impl<T: Send + 'static> Pool<T> {
    /// The pool of an edge that stays on this worker.
    pub(crate) fn local() -> Self {
        Self { free: Rc::default(), home: None, unread: unread(1) }
    }

    /// The pool of an edge between the workers of this process.
    pub(crate) fn shared(ways: &Arc<Ways>, edge: usize, me: usize, workers: usize) -> Self {
        match ways.home(edge, me, workers) {
            Some((home, unread)) => Self { free: Rc::default(), home: Some(Rc::new(home)), unread },
            None => Self::local(),
        }
    }

    /// The number that a sender has here: on an edge that stays on the worker there is only one.
    fn unread_of(&self, sender: usize) -> &AtomicUsize {
        &self.unread[if self.home.is_some() { sender } else { 0 }]
    }

    /// Worker `me` has filled a buffer for a receiver.
    pub(crate) fn sent(&self, me: usize) {
        self.unread_of(me).fetch_add(1, Ordering::Relaxed);
    }

    /// True if the receivers of what worker `me` has sent should look at it before it sends more, if it can wait.
    pub(crate) fn is_behind(&self, me: usize) -> bool {
        self.unread_of(me).load(Ordering::Relaxed) >= UNREAD_BATCHES * self.unread.len()
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<T> {
        if let Some(mut buffer) = self.home.as_ref().and_then(|home| home.at.try_recv().ok()) {
            buffer.clear();
            return buffer;
        }
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BATCH_RECORDS))
    }

    /// A batch that worker `from` had sent has been looked at.
    pub(crate) fn looked_at(&self, from: usize) {
        self.unread_of(from).fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes back a buffer that a worker of this process has filled; None if it was made on this one.
    pub(crate) fn give(&self, mut buffer: Vec<T>, filled_by: Option<usize>) {
        match (&self.home, filled_by) {
            // If its worker is gone, so is the job; the buffer is freed here.
            (Some(home), Some(from)) if from != home.me => drop(home.to[from].send(buffer)),
            _ => {
                buffer.clear();
                let mut free = self.free.borrow_mut();
                if free.len() < POOL_BUFFERS && buffer.capacity() > 0 {
                    free.push(buffer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_made_of_bytes_stays_here() {
        // The worker that sent the bytes may be in another process, where nobody would ever take the buffer back.
        let ways = Arc::new(Ways::default());
        let pool = Pool::<Arc<()>>::shared(&ways, 0, 0, 2);
        let record = Arc::new(());
        for _ in 0..1_000 {
            pool.give(vec![record.clone()], None);
        }
        assert_eq!(Arc::strong_count(&record), 1);
        assert_eq!(pool.free.borrow().len(), POOL_BUFFERS);
    }

    #[test]
    fn a_buffer_from_another_worker_goes_home_with_its_records() {
        let ways = Arc::new(Ways::default());
        let (first, second) = (Pool::<u8>::shared(&ways, 0, 0, 2), Pool::<u8>::shared(&ways, 0, 1, 2));
        let mut buffer = first.take();
        first.sent(0);
        buffer.push(9);
        let address = buffer.as_ptr();
        second.give(buffer, Some(0));
        let back = first.take();
        assert!(back.is_empty());
        assert_eq!(back.as_ptr(), address);
    }
}
