//! What travels on an edge: records of one receiver, with the watermark that follows them.
//!
//! Freeing memory on one thread that another thread allocated costs more than the exchange itself. So a buffer that was
//! received from another worker is returned to that worker, records included, which clears and reuses it ([`Pool`]). A
//! batch that crossed as bytes ([`super::wire`]) has a buffer that its receiver allocated; the sender has kept its own.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{Message, Stamp};

use super::flow::Flow;
use super::pace::{BATCH_RECORDS, Pace};
use super::passage::Passage;
use super::peers::PeerMessage;
use super::process::Process;
use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::Record;

/// Buffers that a pool keeps for its own use; more are freed.
const POOL_BUFFERS: usize = 64;

/// Records for one receiver, and the watermark behind them.
pub(crate) struct Batch<T> {
    pub(crate) target: u32,
    pub(crate) from: u32,
    pub(crate) update: Option<WatermarkUpdate>,
    pub(crate) records: Vec<Record<T>>,
    /// The result of encoding or decoding the batch, if it crosses as bytes.
    pub(crate) passage: Passage,
}

impl<T> Batch<T> {
    pub(crate) fn new(
        target: u32,
        from: u32,
        update: Option<WatermarkUpdate>,
        records: Vec<Record<T>>,
    ) -> Self {
        Self { target, from, update, records, passage: Passage::default() }
    }

    /// True if its sender's number is that of one of `workers` workers.
    pub(crate) fn is_of_one_of(&self, workers: usize) -> bool {
        (self.from as usize) < workers
    }

    /// The worker that filled the buffer of records; None if this worker decoded the records from bytes.
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
/// timely's container builder emits empty containers for ever.
impl<T> Accountable for Batch<T> {
    fn record_count(&self) -> i64 {
        self.records.len() as i64 + i64::from(self.update.is_some())
    }
}

/// Routes whole batches to the worker that they were filled for, without touching a record.
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

/// The pact of an edge whose batches carry the number of their receiver.
pub(crate) fn by_target() -> DistributorPact<impl FnOnce(usize) -> Router> {
    DistributorPact(|_| Router)
}

/// The channels by which the workers of a process return buffers to each other, by edge.
#[derive(Default)]
pub(crate) struct BufferReturns(Mutex<HashMap<usize, Box<dyn Any + Send>>>);

struct EdgeReturns<T> {
    to: Vec<Sender<Vec<T>>>,
    at: Vec<Option<Receiver<Vec<T>>>>,
}

/// One worker's ends of these channels.
struct ReturnPath<T> {
    me: usize,
    to: Vec<Sender<Vec<T>>>,
    at: Receiver<Vec<T>>,
}

impl BufferReturns {
    fn returns<T: Send + 'static>(&self, edge: usize, me: usize, workers: usize) -> Option<ReturnPath<T>> {
        let mut edges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer_returns = edges.entry(edge).or_insert_with(|| {
            let (to, at) = (0..workers).map(|_| channel()).map(|(to, at)| (to, Some(at))).unzip();
            Box::new(EdgeReturns::<T> { to, at })
        });
        let buffer_returns = buffer_returns.downcast_mut::<EdgeReturns<T>>()?;
        Some(ReturnPath { me, to: buffer_returns.to.clone(), at: buffer_returns.at[me].take()? })
    }
}

/// The buffers of one edge on one worker.
pub(crate) struct Pool<T> {
    free: Rc<RefCell<Vec<Vec<T>>>>,
    returns: Option<Rc<ReturnPath<T>>>,
    flow: Arc<Flow>,
    /// What senders in other processes have been told; None on an edge that stays on the worker.
    remote: Option<Rc<RemoteSenders>>,
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        let Self { free, returns, flow, remote } = self;
        Self { free: free.clone(), returns: returns.clone(), flow: flow.clone(), remote: remote.clone() }
    }
}

/// The senders of an edge that are in other processes.
struct RemoteSenders {
    edge: usize,
    process: Arc<Process>,
    /// For every worker the number of its records that it knows to be taken, and the backlog that it knows.
    told: RefCell<Vec<(usize, usize)>>,
}

impl RemoteSenders {
    /// Tells a sender how many of its records are taken, if it is in another process and may be waiting for that.
    fn tell(&self, flow: &Flow, (sender, receiver): (usize, usize), taken: usize, backlog: usize) {
        let told = &mut self.told.borrow_mut()[sender];
        if taken - told.0 < flow.share(told.1).div_ceil(2) {
            return;
        }
        *told = (taken, backlog);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let message = PeerMessage::Taken {
            edge: number(self.edge),
            sender: number(sender),
            receiver: number(receiver),
            taken: taken as u64,
            backlog: number(backlog),
        };
        self.process.shared.peers.tell(self.process.workers.process_of(sender), message);
    }
}

impl<T: Send + 'static> Pool<T> {
    /// The pool of an edge that stays on this worker.
    pub(crate) fn local() -> Self {
        Self { free: Rc::default(), returns: None, flow: Flow::new(1), remote: None }
    }

    /// The pool of an edge between the workers of a job.
    pub(crate) fn shared(process: &Arc<Process>, edge: usize, me: usize) -> Self {
        let workers = process.setup.settings.parallelism;
        let Some(returns) = process.shared.buffer_returns.returns(edge, me, workers) else {
            return Self::local();
        };
        let told = RefCell::new(vec![(0, Pace::default().backlog()); workers]);
        let remote = RemoteSenders { edge, process: process.clone(), told };
        Self {
            free: Rc::default(),
            returns: Some(Rc::new(returns)),
            flow: process.shared.flows.of(edge, workers),
            remote: Some(Rc::new(remote)),
        }
    }

    /// This worker's number in the [`Flow`]; 0 on an edge that stays on the worker.
    fn me(&self) -> usize {
        self.returns.as_ref().map_or(0, |returns| returns.me)
    }

    /// Notes that this worker has sent `records` records to a receiver.
    pub(crate) fn sent(&self, receiver: usize, records: usize) {
        self.flow.sent(self.me(), receiver, records);
    }

    /// The number of records that can wait which this worker may send to a receiver now.
    pub(crate) fn room(&self, receiver: usize) -> usize {
        self.flow.room(self.me(), receiver)
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<T> {
        if let Some(mut buffer) = self.returns.as_ref().and_then(|returns| returns.at.try_recv().ok()) {
            buffer.clear();
            return buffer;
        }
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BATCH_RECORDS))
    }

    /// Notes that this worker has processed `records` records of worker `from`, and publishes its current pace.
    pub(crate) fn done(&self, from: usize, records: usize, pace: &Pace) {
        let (from, me, backlog) = (if self.returns.is_some() { from } else { 0 }, self.me(), pace.backlog());
        let taken = self.flow.taken(from, me, records, backlog);
        if let Some(remote) = self.remote.as_ref().filter(|remote| !remote.process.workers.contains(from)) {
            remote.tell(&self.flow, (from, me), taken, backlog);
        }
    }

    /// Returns a buffer to the worker of this process that has filled it; with None it stays in the pool of this worker.
    pub(crate) fn give(&self, mut buffer: Vec<T>, filled_by: Option<usize>) {
        match (&self.returns, filled_by) {
            // If the other worker has ended, the job is about to end too; the buffer is freed here.
            (Some(returns), Some(from)) if from != returns.me => drop(returns.to[from].send(buffer)),
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
    use std::time::Duration;

    use super::*;
    use crate::testing::parts;

    /// A process with two workers.
    fn process() -> (tempfile::TempDir, Arc<Process>) {
        let place = tempfile::tempdir().unwrap();
        let process = parts::process(place.path(), 2, None).0;
        (place, process)
    }

    #[test]
    fn a_sender_has_room_for_its_share_of_what_a_receiver_can_take() {
        let (_place, process) = process();
        let (first, second) = (Pool::<u8>::shared(&process, 0, 0), Pool::<u8>::shared(&process, 0, 1));
        let (mut fast, mut slow) = (Pace::default(), Pace::default());
        assert_eq!((first.room(0), first.room(1)), (1, 1), "nothing is known of the receivers yet");
        (0..10).for_each(|_| fast.took(fast.records(), Duration::ZERO));
        slow.took(1, Duration::from_millis(5));
        first.sent(1, 5);
        second.done(0, 2, &fast);
        first.done(1, 0, &slow);
        assert_eq!((first.room(1), second.room(1)), (fast.backlog() / 2 - 3, fast.backlog() / 2));
        assert_eq!((first.room(0), second.room(0)), (slow.backlog() / 2, slow.backlog() / 2));
        first.sent(0, slow.backlog());
        assert_eq!((first.room(0), second.room(0)), (0, slow.backlog() / 2));
    }

    #[test]
    fn a_buffer_decoded_from_bytes_stays_in_the_pool_of_its_receiver() {
        // The worker that sent the bytes may be in another process, which cannot take the buffer back.
        let (_place, process) = process();
        let pool = Pool::<Arc<()>>::shared(&process, 0, 0);
        let record = Arc::new(());
        for _ in 0..1_000 {
            pool.give(vec![record.clone()], None);
        }
        assert_eq!(Arc::strong_count(&record), 1);
        assert_eq!(pool.free.borrow().len(), POOL_BUFFERS);
    }

    #[test]
    fn a_buffer_from_another_worker_is_returned_to_it_with_its_records() {
        let (_place, process) = process();
        let (first, second) = (Pool::<u8>::shared(&process, 0, 0), Pool::<u8>::shared(&process, 0, 1));
        let mut buffer = first.take();
        buffer.push(9);
        let address = buffer.as_ptr();
        second.give(buffer, Some(0));
        let back = first.take();
        assert!(back.is_empty());
        assert_eq!(back.as_ptr(), address);
    }
}
