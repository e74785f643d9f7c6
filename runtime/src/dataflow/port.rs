//! The typed ends of edges, behind traits without the record type.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use timely::communication::Pull;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::Message;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};
use timely::dataflow::operators::{Capability, InputCapability};

use super::batch::{Batch, Pool};
use super::pace::Pace;
use super::partitioner::Partitioner;
use super::timestamp::{Timestamp, epoch_of};
use super::wire::Crossing;
use crate::dataflow::outlet::Outlet;
use crate::watermark::{Senders, WatermarkUpdate};
use tidegate_connector_api::Record;

/// A typed input of an operator chain.
pub(crate) trait InputPort {
    /// Passes the batches of `epoch` that have arrived through the chain, at least one of them, until the time `until`;
    /// true if none of them is left. Batches of later epochs wait.
    fn pull(&mut self, epoch: u64, until: Instant) -> bool;
    /// Called before the barrier that ends the epoch: announces to the chain the watermark of the senders in the next
    /// epoch.
    fn announce(&mut self);
    /// Called after the barrier: batches that waited for it are processed next, and the announced watermarks take effect.
    fn pass_barrier(&mut self);
    /// True once all senders have reported the end of their input.
    fn is_ended(&self) -> bool;
}

/// A batch that has arrived. As long as it is held the frontier does not pass its time.
type Arrived<T> = (InputCapability<Timestamp>, Batch<T>);

/// The timely side of an input, and the batches that wait.
pub(crate) struct Input<T, P: Pull<Message<Timestamp, Batch<T>>>> {
    handle: InputHandleCore<Timestamp, Batch<T>, P>,
    outlet: Outlet<T>,
    pool: Pool<Record<T>>,
    senders: Senders,
    pace: Pace,
    /// Records of a batch that is given to the chain piece by piece.
    piece: Vec<Record<T>>,
    /// None for an edge that stays on the worker.
    crossing: Option<Rc<Crossing>>,
    /// In the order of arrival; the batches of one sender are in the order in which it has sent them.
    waiting: VecDeque<Arrived<T>>,
    /// Batches of later epochs; all of them arrived before those in `waiting`.
    stash: VecDeque<Arrived<T>>,
}

impl<T, P: Pull<Message<Timestamp, Batch<T>>>> Input<T, P> {
    pub(crate) fn new(
        handle: InputHandleCore<Timestamp, Batch<T>, P>,
        outlet: Outlet<T>,
        pool: Pool<Record<T>>,
        senders: Senders,
        crossing: Option<Rc<Crossing>>,
    ) -> Self {
        let (waiting, stash) = (VecDeque::new(), VecDeque::new());
        Self {
            handle,
            outlet,
            pool,
            senders,
            pace: Pace::default(),
            piece: Vec::new(),
            crossing,
            waiting,
            stash,
        }
    }
}

impl<T: Send + 'static, P: Pull<Message<Timestamp, Batch<T>>>> Input<T, P> {
    /// Gives records of a batch to the chain, as many as it takes at a time; true if those were the last.
    fn apply(&mut self, batch: &mut Batch<T>) -> bool {
        let most = self.pace.records();
        if batch.records.len() > most {
            self.piece.extend(batch.records.drain(..most));
            self.outlet.records(&mut self.piece);
            return false;
        }
        if !batch.records.is_empty() {
            let mut records = std::mem::take(&mut batch.records);
            self.outlet.look_at(&mut records);
            self.pool.give(records, batch.filled_by());
        }
        let sender = if self.senders.len() == 1 { 0 } else { batch.from as usize };
        match batch.update.take() {
            Some(WatermarkUpdate::Now(watermark)) => {
                if let Some(watermark) = self.senders.update(sender, watermark) {
                    self.outlet.watermark(WatermarkUpdate::Now(watermark));
                }
            }
            Some(WatermarkUpdate::NextEpoch(watermark)) => self.senders.announce(sender, watermark),
            None => {}
        }
        true
    }
}

impl<T: Send + 'static, P: Pull<Message<Timestamp, Batch<T>>>> InputPort for Input<T, P> {
    fn pull(&mut self, epoch: u64, until: Instant) -> bool {
        let Self { handle, crossing, waiting, .. } = self;
        // `for_each` keeps the order of each sender; grouping by time would not.
        handle.for_each(|capability, batch| {
            crossing.iter().for_each(|crossing| crossing.check_arrived(batch));
            waiting.push_back((capability, std::mem::take(batch)));
        });
        let mut began = Instant::now();
        while let Some((capability, mut batch)) = self.waiting.pop_front() {
            if capability.least().is_some_and(|time| epoch_of(*time) > epoch) {
                self.stash.push_back((capability, batch));
                continue;
            }
            let (from, before) = (batch.from as usize, batch.records.len());
            let was_all = self.apply(&mut batch);
            let (now, done) = (Instant::now(), before - batch.records.len());
            self.pace.took(done, now - began);
            self.pool.done(from, done, &self.pace);
            began = now;
            if !was_all {
                self.waiting.push_front((capability, batch));
            }
            if now >= until {
                return self.waiting.is_empty();
            }
        }
        true
    }

    fn announce(&mut self) {
        if let Some(watermark) = self.senders.next_epoch() {
            self.outlet.watermark(WatermarkUpdate::NextEpoch(watermark));
        }
    }

    fn is_ended(&self) -> bool {
        self.senders.is_ended()
    }

    fn pass_barrier(&mut self) {
        self.stash.append(&mut self.waiting);
        std::mem::swap(&mut self.stash, &mut self.waiting);
        if let Some(watermark) = self.senders.begin_epoch() {
            self.outlet.watermark(WatermarkUpdate::Now(watermark));
        }
    }
}

/// A typed output of an operator chain.
pub(crate) trait OutputPort {
    /// Sends batches that are full or ended; with `close`, open ones too.
    fn flush(&mut self, capability: &Capability<Timestamp>, close: bool);
    /// How often something that is due may fire now.
    fn room(&self) -> usize;
    /// Something is about to fire.
    fn before_firing(&mut self);
    /// It has fired so many times.
    fn has_fired(&mut self, times: usize);
}

type Builder<T> = CapacityContainerBuilder<Batch<T>>;

/// The timely side of an output.
pub(crate) struct Output<T: Send + 'static> {
    pub(crate) handle: OutputBuilder<Timestamp, Builder<T>>,
    pub(crate) partitioner: Rc<RefCell<Partitioner<T>>>,
}

impl<T: Send + 'static> OutputPort for Output<T> {
    fn flush(&mut self, capability: &Capability<Timestamp>, close: bool) {
        let mut partitioner = self.partitioner.borrow_mut();
        if close {
            partitioner.close();
        }
        let Some(mut batch) = partitioner.pop() else { return };
        let mut activated = self.handle.activate();
        let mut session = activated.session_with_builder(capability);
        loop {
            session.give_container(&mut batch);
            partitioner.given(&mut batch);
            match partitioner.pop() {
                Some(next) => batch = next,
                None => return,
            }
        }
    }

    fn room(&self) -> usize {
        self.partitioner.borrow().room()
    }

    fn before_firing(&mut self) {
        self.partitioner.borrow_mut().before_firing();
    }

    fn has_fired(&mut self, times: usize) {
        self.partitioner.borrow_mut().has_fired(times);
    }
}

/// The output of an operator chain without outgoing edges: it sends nothing, but lets the probe follow the progress of the
/// chain.
pub(crate) struct Silent;

impl OutputPort for Silent {
    fn flush(&mut self, _: &Capability<Timestamp>, _: bool) {}

    fn room(&self) -> usize {
        usize::MAX
    }

    fn before_firing(&mut self) {}

    fn has_fired(&mut self, _: usize) {}
}
