//! What travels on an edge: records of one receiver, with the watermark that follows them.
//!
//! Freeing on one thread what another allocated costs more than the whole exchange. So a buffer that crossed to another
//! worker goes home with its records still in it, and the worker that filled it clears and reuses it ([`Pool`]).

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message, Stamp};

use crate::record::{Data, Rec};
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
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { target: 0, from: 0, mark: None, records: Vec::new() }
    }
}

/// A watermark counts as one, so that a batch without records still is a message. The default must count nothing, or
/// timely's container builder hands out empty containers for ever.
impl<T> Accountable for Batch<T> {
    fn record_count(&self) -> i64 {
        self.records.len() as i64 + i64::from(self.mark.is_some())
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<R> {
    target: u32,
    from: u32,
    mark: Option<Mark>,
    records: Vec<R>,
}

/// Between processes a batch travels in postcard's encoding.
impl<T: Data> Batch<T> {
    fn encode<W: Write>(&self, into: W) -> postcard::Result<W> {
        let records: Vec<(i64, u64, &T)> = self.records.iter().map(|r| (r.ts, r.hash, &r.val)).collect();
        postcard::to_io(&Wire { target: self.target, from: self.from, mark: self.mark, records }, into)
    }
}

impl<T: Data> ContainerBytes for Batch<T> {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let wire: Wire<(i64, u64, T)> =
            postcard::from_bytes(&bytes).expect("a batch is read by the executable that wrote it");
        let records = wire.records.into_iter().map(|(ts, hash, val)| Rec { ts, hash, val }).collect();
        Self { target: wire.target, from: wire.from, mark: wire.mark, records }
    }

    fn length_in_bytes(&self) -> usize {
        struct Count(usize);
        impl Write for Count {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.0 += buf.len();
                Ok(buf.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        self.encode(Count(0)).map_or(0, |count| count.0)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        self.encode(writer).expect("a record that can be serialized, into a buffer of its length");
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

    /// Takes back a buffer that worker `from` filled.
    pub(crate) fn give(&self, mut buffer: Vec<T>, from: usize) {
        self.unread_of(from).fetch_sub(1, Ordering::Relaxed);
        match &self.home {
            // If its worker is gone, so is the job; the buffer is freed here.
            Some(home) if from != home.me => drop(home.to[from].send(buffer)),
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
    use crate::watermark::Watermark;

    #[test]
    fn a_batch_survives_the_wire() {
        let batch = Batch {
            target: 3,
            from: 1,
            mark: Some(Mark::NextEpoch(Watermark::idle(-5))),
            records: vec![Rec { ts: 7, hash: u64::MAX, val: "x".to_owned() }],
        };
        let mut bytes = Vec::new();
        batch.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), batch.length_in_bytes());
        let mut slab = timely::bytes::arc::BytesMut::from(bytes);
        let length = batch.length_in_bytes();
        let back = Batch::<String>::from_bytes(slab.extract_to(length));
        assert_eq!((back.target, back.from, back.mark), (3, 1, batch.mark));
        assert_eq!(back.records, batch.records);
    }

    #[test]
    fn a_buffer_from_another_worker_goes_home_with_its_records() {
        let ways = Arc::new(Ways::default());
        let (first, second) = (Pool::<u8>::shared(&ways, 0, 0, 2), Pool::<u8>::shared(&ways, 0, 1, 2));
        let mut buffer = first.take();
        first.sent(0);
        buffer.push(9);
        let address = buffer.as_ptr();
        second.give(buffer, 0);
        let back = first.take();
        assert!(back.is_empty());
        assert_eq!(back.as_ptr(), address);
    }
}
