//! The typed ends of edges, behind traits that know no record type.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use timely::communication::Pull;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::Message;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};

use super::batch::{Batch, Pool};
use super::outbox::Outbox;
use super::time::{Time, epoch_of};
use crate::chain::Outlet;
use crate::record::{MinWatermark, Rec};

/// A typed input of a host.
pub(crate) trait InputPort {
    /// Takes what has arrived: what belongs to `epoch` goes through the chain, later epochs wait.
    fn pull(&mut self, epoch: u64);
    /// Puts what waited for `epoch` through the chain.
    fn replay(&mut self, epoch: u64);
}

/// The timely side of an input, and what waits for later epochs.
pub(crate) struct Input<T, P: Pull<Message<Time, Batch<T>>>> {
    pub(crate) handle: InputHandleCore<Time, Batch<T>, P>,
    pub(crate) outlet: Outlet<T>,
    pub(crate) pool: Pool<Rec<T>>,
    pub(crate) senders: MinWatermark,
    pub(crate) stash: VecDeque<(u64, Batch<T>)>,
}

fn apply<T: Send + 'static>(
    batch: &mut Batch<T>,
    outlet: &Outlet<T>,
    pool: &Pool<Rec<T>>,
    senders: &mut MinWatermark,
    only_sender: bool,
) {
    let from = batch.from as usize;
    if !batch.records.is_empty() {
        let mut records = std::mem::take(&mut batch.records);
        outlet.look_at(&mut records);
        pool.give(records, from);
    }
    if let Some(mark) = batch.mark.take()
        && let Some(least) = senders.update(if only_sender { 0 } else { from }, mark)
    {
        outlet.watermark(least);
    }
}

impl<T: Send + 'static, P: Pull<Message<Time, Batch<T>>>> InputPort for Input<T, P> {
    fn pull(&mut self, epoch: u64) {
        let Self { handle, outlet, pool, senders, stash } = self;
        let only = senders.len() == 1;
        // `for_each` keeps the order of each sender; grouping by time would not.
        handle.for_each(|stamp, batch| {
            let of = stamp.least().map_or(epoch, |time| epoch_of(*time));
            if of > epoch {
                stash.push_back((of, std::mem::take(batch)));
            } else {
                apply(batch, outlet, pool, senders, only);
            }
        });
    }

    fn replay(&mut self, epoch: u64) {
        let only = self.senders.len() == 1;
        for (of, mut batch) in std::mem::take(&mut self.stash) {
            if of > epoch {
                self.stash.push_back((of, batch));
            } else {
                apply(&mut batch, &self.outlet, &self.pool, &mut self.senders, only);
            }
        }
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
