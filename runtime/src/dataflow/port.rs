//! The typed ends of edges, behind traits that know no record type.

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
use super::outbox::Outbox;
use super::time::{Time, epoch_of};
use super::wire::Crossing;
use crate::chain::Outlet;
use crate::record::{MinWatermark, Rec};

/// A typed input of a host.
pub(crate) trait InputPort {
    /// Puts what has arrived of `epoch` through the chain, at least a batch, until it is time to stop; true if nothing of
    /// it is left. Later epochs wait.
    fn pull(&mut self, epoch: u64, until: Instant) -> bool;
    /// The barrier has come: what waited for it is next.
    fn pass_barrier(&mut self);
}

/// A batch that has arrived. As long as it is held the frontier does not pass its time.
type Arrived<T> = (InputCapability<Time>, Batch<T>);

/// The timely side of an input, and what waits.
pub(crate) struct Input<T, P: Pull<Message<Time, Batch<T>>>> {
    handle: InputHandleCore<Time, Batch<T>, P>,
    outlet: Outlet<T>,
    pool: Pool<Rec<T>>,
    senders: MinWatermark,
    /// None for an edge that stays on the worker.
    crossing: Option<Rc<Crossing>>,
    /// In the order in which it has arrived; each sender's order is that in which it sent.
    waiting: VecDeque<Arrived<T>>,
    /// What belongs to later epochs; all of it arrived before what is `waiting`.
    stash: VecDeque<Arrived<T>>,
}

impl<T, P: Pull<Message<Time, Batch<T>>>> Input<T, P> {
    pub(crate) fn new(
        handle: InputHandleCore<Time, Batch<T>, P>,
        outlet: Outlet<T>,
        pool: Pool<Rec<T>>,
        senders: MinWatermark,
        crossing: Option<Rc<Crossing>>,
    ) -> Self {
        Self { handle, outlet, pool, senders, crossing, waiting: VecDeque::new(), stash: VecDeque::new() }
    }
}

fn apply<T: Send + 'static>(
    batch: &mut Batch<T>,
    outlet: &Outlet<T>,
    pool: &Pool<Rec<T>>,
    senders: &mut MinWatermark,
    only_sender: bool,
) {
    let (from, filled_by) = (batch.from as usize, batch.filled_by());
    if !batch.records.is_empty() {
        let mut records = std::mem::take(&mut batch.records);
        outlet.look_at(&mut records);
        pool.give(records, filled_by);
    }
    if let Some(mark) = batch.mark.take()
        && let Some(least) = senders.update(if only_sender { 0 } else { from }, mark)
    {
        outlet.watermark(least);
    }
}

impl<T: Send + 'static, P: Pull<Message<Time, Batch<T>>>> InputPort for Input<T, P> {
    fn pull(&mut self, epoch: u64, until: Instant) -> bool {
        let Self { handle, outlet, pool, senders, crossing, waiting, stash } = self;
        let only = senders.len() == 1;
        // `for_each` keeps the order of each sender; grouping by time would not.
        handle.for_each(|capability, batch| {
            crossing.iter().for_each(|crossing| crossing.check_arrived(&batch.passage));
            waiting.push_back((capability, std::mem::take(batch)));
        });
        while let Some((capability, mut batch)) = waiting.pop_front() {
            if capability.least().is_some_and(|time| epoch_of(*time) > epoch) {
                stash.push_back((capability, batch));
                continue;
            }
            apply(&mut batch, outlet, pool, senders, only);
            if Instant::now() >= until {
                return waiting.is_empty();
            }
        }
        true
    }

    fn pass_barrier(&mut self) {
        self.stash.append(&mut self.waiting);
        std::mem::swap(&mut self.stash, &mut self.waiting);
    }
}

/// A typed output of a host.
pub(crate) trait OutputPort {
    /// Sends batches that are full or ended; with `close`, open ones too.
    fn flush(&mut self, capability: &Capability<Time>, close: bool);
}

type Builder<T> = CapacityContainerBuilder<Batch<T>>;

/// The timely side of an output.
pub(crate) struct Output<T: Send + 'static> {
    pub(crate) handle: OutputBuilder<Time, Builder<T>>,
    pub(crate) outbox: Rc<RefCell<Outbox<T>>>,
}

impl<T: Send + 'static> OutputPort for Output<T> {
    fn flush(&mut self, capability: &Capability<Time>, close: bool) {
        let mut outbox = self.outbox.borrow_mut();
        if close {
            outbox.close();
        }
        let Some(mut batch) = outbox.pop() else { return };
        let mut activated = self.handle.activate();
        let mut session = activated.session_with_builder(capability);
        loop {
            session.give_container(&mut batch);
            outbox.given(&mut batch);
            match outbox.pop() {
                Some(next) => batch = next,
                None => return,
            }
        }
    }
}

/// The output of a host without one: nothing goes out, but the probe sees how far the host has come.
pub(crate) struct Silent;

impl OutputPort for Silent {
    fn flush(&mut self, _: &Capability<Time>, _: bool) {}
}
