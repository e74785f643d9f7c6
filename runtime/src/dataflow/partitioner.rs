//! The sending half of an edge: routes records to their receivers, ends batches, puts watermarks behind them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_connector_api::{Record, RecordId};

use super::batch::{Batch, Pool};
use super::operator_chain::OperatorChain;
use super::pace::BATCH_RECORDS;
use super::wire::Crossing;
use crate::dataflow::outlet::Receiver;
use crate::dataflow::step_context::StepContext;
use crate::fingerprint::readable;
use crate::key::KeyFn;
use crate::step::Step;
use crate::watermark::{Watermark, WatermarkUpdate};
use tidegate_protocol::KeyGroups;

/// Which worker receives a record.
pub(crate) enum Route<T> {
    /// The operator behind this edge on the same worker.
    Local,
    /// The worker that owns the key group; the hash is computed here, once.
    Keyed(Box<dyn HashKeys<T>>, KeyGroups),
    /// One worker after the other, batch by batch.
    RoundRobin,
    /// Every worker, with this way to copy a record.
    Broadcast(fn(&Record<T>) -> Record<T>),
}

impl<T> fmt::Display for Route<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("on the same worker"),
            Self::Keyed(keys, _) => write!(f, "by key {}", readable(keys.key_type())),
            Self::RoundRobin => f.write_str("in turns"),
            Self::Broadcast(_) => f.write_str("to every worker"),
        }
    }
}

/// Fills in the key hashes of a batch.
pub(crate) trait HashKeys<T> {
    /// The name of the keys' type.
    fn key_type(&self) -> &'static str;
    fn hash_all(&self, batch: &mut [Record<T>]);
}

/// Reads keys in the operator chain that sends, on behalf of the step behind the exchange, to which failures are
/// attributed.
pub(crate) struct KeyReader<T, K> {
    cx: StepContext,
    key: KeyFn<T, K>,
}

impl<T, K> KeyReader<T, K> {
    pub(crate) fn new(sender: &Rc<OperatorChain>, step: &Arc<Step>, key: KeyFn<T, K>) -> Self {
        Self { cx: StepContext::new(sender, step), key }
    }
}

impl<T, K: crate::key::Key> HashKeys<T> for KeyReader<T, K> {
    fn key_type(&self) -> &'static str {
        std::any::type_name::<K>()
    }

    fn hash_all(&self, batch: &mut [Record<T>]) {
        self.cx.enter();
        for record in batch {
            self.cx.record(record);
            record.id = RecordId::key_hash(self.key.with(&record.value, crate::key::hash));
        }
    }
}

/// How the output of what fires is distributed over the receivers. A receiver with a small share of the output allows many
/// firings at a time. One that has received nothing yet allows the more, the more has fired, so that it does not hold up
/// the others although little is known of it.
struct Spread {
    fired: usize,
    /// The number of records that these firings have produced for every receiver.
    came: Vec<usize>,
    /// The number of records of every receiver before the current firing.
    before: Vec<usize>,
}

impl Spread {
    /// After this many firings all counts are halved, so that older firings weigh less.
    const MEMORY: usize = 1 << 16;

    fn new(receivers: usize) -> Self {
        Self { fired: 0, came: vec![0; receivers], before: vec![0; receivers] }
    }

    fn has_fired(&mut self, times: usize) {
        self.fired += times;
        if self.fired > Self::MEMORY {
            self.fired /= 2;
            self.came.iter_mut().for_each(|came| *came /= 2);
        }
    }

    /// The number of firings that are allowed if a receiver can take `records` records.
    fn fits(&self, receiver: usize, records: usize) -> usize {
        let fits = records.saturating_mul(self.fired + 1) / (self.came[receiver] + 1);
        fits.max(records.min(1))
    }
}

/// Records on their way out of one operator chain over one edge.
pub(crate) struct Partitioner<T> {
    route: Route<T>,
    /// One open buffer a receiver.
    open: Vec<Vec<Record<T>>>,
    ready: VecDeque<Batch<T>>,
    me: u32,
    next: usize,
    /// The last watermark that was sent, for this epoch or the next one.
    said: Watermark,
    pool: Pool<Record<T>>,
    /// None for an edge that stays on the worker.
    crossing: Option<Rc<Crossing>>,
    /// The receiver of every key group: a table lookup per record is cheaper than a division.
    owners: Vec<u16>,
    /// Records that have been sent to every receiver.
    sent: Vec<usize>,
    spread: Spread,
}

impl<T: Send + 'static> Partitioner<T> {
    pub(crate) fn new(
        route: Route<T>,
        me: usize,
        workers: usize,
        pool: Pool<Record<T>>,
        crossing: Option<Rc<Crossing>>,
    ) -> Self {
        let receivers = if matches!(route, Route::Local) { 1 } else { workers };
        let open = (0..receivers).map(|_| pool.take()).collect();
        let owners = match &route {
            Route::Keyed(_, groups) => {
                groups.all().map(|group| groups.owner(group, workers) as u16).collect()
            }
            _ => Vec::new(),
        };
        let (ready, me) = (VecDeque::new(), me as u32);
        let (sent, spread) = (vec![0; receivers], Spread::new(receivers));
        Self {
            route,
            open,
            ready,
            me,
            next: 0,
            said: Watermark::UNKNOWN,
            pool,
            crossing,
            owners,
            sent,
            spread,
        }
    }

    /// The number of workers that this edge leads to, which is also the number it comes from.
    pub(crate) fn receivers(&self) -> usize {
        self.open.len()
    }

    /// How often something that is due may fire now, if its output is distributed over the receivers as it was so far.
    pub(crate) fn room(&self) -> usize {
        let room = |receiver: usize| {
            let free = self.pool.room(receiver).saturating_sub(self.open[receiver].len());
            self.spread.fits(receiver, free)
        };
        (0..self.receivers()).map(room).min().unwrap_or(usize::MAX)
    }

    /// Something is about to fire.
    pub(crate) fn before_firing(&mut self) {
        for receiver in 0..self.receivers() {
            self.spread.before[receiver] = self.taken_in(receiver);
        }
    }

    /// It has fired `times` times.
    pub(crate) fn has_fired(&mut self, times: usize) {
        for receiver in 0..self.receivers() {
            let came = self.taken_in(receiver) - self.spread.before[receiver];
            self.spread.came[receiver] += came;
        }
        self.spread.has_fired(times);
    }

    /// Records for a receiver so far, sent or not.
    fn taken_in(&self, receiver: usize) -> usize {
        self.sent[receiver] + self.open[receiver].len()
    }

    /// Ends the open buffer of a receiver, with a watermark behind it if there is one.
    fn end(&mut self, receiver: usize, update: Option<WatermarkUpdate>) {
        if self.open[receiver].is_empty() && update.is_none() {
            return;
        }
        let records = if self.open[receiver].is_empty() {
            Vec::new()
        } else {
            std::mem::replace(&mut self.open[receiver], self.pool.take())
        };
        self.send(receiver, records, update);
    }

    fn send(&mut self, receiver: usize, records: Vec<Record<T>>, update: Option<WatermarkUpdate>) {
        let target = if matches!(self.route, Route::Local) { self.me } else { receiver as u32 };
        if !records.is_empty() {
            self.pool.sent(receiver, records.len());
            self.sent[receiver] += records.len();
        }
        self.ready.push_back(Batch::new(target, self.me, update, records));
    }

    /// Takes back what timely has left of a batch that it was given: a batch that was sent as bytes still has its records
    /// and its buffer.
    pub(crate) fn given(&mut self, batch: &mut Batch<T>) {
        if batch.passage.was_sent() {
            let batch = std::mem::take(batch);
            if let Some(crossing) = &self.crossing {
                crossing.check_sent(&batch.passage);
            }
            self.pool.give(batch.records, None);
        }
    }

    /// Ends all open buffers, so that nothing waits here.
    pub(crate) fn close(&mut self) {
        for receiver in 0..self.open.len() {
            self.end(receiver, None);
        }
    }

    /// The next batch to send.
    pub(crate) fn pop(&mut self) -> Option<Batch<T>> {
        self.ready.pop_front()
    }

    fn push(&mut self, receiver: usize, record: Record<T>) {
        self.open[receiver].push(record);
        if self.open[receiver].len() >= BATCH_RECORDS {
            self.end(receiver, None);
        }
    }

    /// Sends the whole buffer to one receiver. A large buffer is sent without moving its records; small ones are merged.
    fn whole(&mut self, receiver: usize, batch: &mut Vec<Record<T>>) {
        if batch.len() + self.open[receiver].len() > BATCH_RECORDS {
            self.end(receiver, None);
        }
        if batch.len() < BATCH_RECORDS / 2 {
            self.open[receiver].append(batch);
            return;
        }
        self.end(receiver, None);
        let records = std::mem::replace(batch, self.pool.take());
        self.send(receiver, records, None);
    }
}

impl<T: Send + 'static> Receiver<T> for Partitioner<T> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        let receivers = self.open.len();
        match &self.route {
            Route::Local => self.whole(0, batch),
            Route::Keyed(keys, _) if receivers == 1 => {
                keys.hash_all(batch);
                self.whole(0, batch);
            }
            Route::Keyed(keys, groups) => {
                keys.hash_all(batch);
                let groups = *groups;
                for record in batch.drain(..) {
                    let group = groups.of_hash(record.id.as_key_hash());
                    self.push(usize::from(self.owners[usize::from(group.0)]), record);
                }
            }
            Route::RoundRobin => {
                self.next = (self.next + 1) % receivers;
                self.whole(self.next, batch);
            }
            Route::Broadcast(copy) => {
                let copy = *copy;
                for receiver in 1..receivers {
                    for record in batch.iter() {
                        self.push(receiver, copy(record));
                    }
                }
                self.whole(0, batch);
            }
        }
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        let (WatermarkUpdate::Now(said) | WatermarkUpdate::NextEpoch(said)) = update;
        // An announcement is sent even if it is equal to the last watermark: within an epoch the watermark of a receiver
        // does not go back, so it may differ from the last one sent.
        if said == self.said && matches!(update, WatermarkUpdate::Now(_)) {
            return;
        }
        self.said = said;
        for receiver in 0..self.open.len() {
            self.end(receiver, Some(update));
        }
    }
}

/// A partitioner that the last stage of the chain writes to and the operator chain flushes.
pub(crate) struct SharedPartitioner<T>(pub(crate) Rc<RefCell<Partitioner<T>>>);

impl<T: Send + 'static> Receiver<T> for SharedPartitioner<T> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.0.borrow_mut().records(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.0.borrow_mut().watermark(update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_with_a_small_share_allows_many_firings() {
        let mut spread = Spread::new(3);
        assert_eq!(spread.fits(0, 1), 1);
        for _ in 0..10 {
            let times = spread.fits(2, 1);
            spread.came[0] += times;
            spread.came[1] += 2 * times;
            spread.has_fired(times);
        }
        assert_eq!(spread.fits(2, 1), 1 << 10, "without records it allows twice as many every time");
        assert_eq!((spread.fits(0, 100), spread.fits(1, 100)), (100, 50));
        assert_eq!((spread.fits(0, 0), spread.fits(1, 1)), (0, 1));
        spread.has_fired(Spread::MEMORY);
        assert!(spread.fired <= Spread::MEMORY && spread.came[1] < 2 << 10);
    }
}
