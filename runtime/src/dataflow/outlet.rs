//! How the functions of a chain are connected: each stage pushes whole batches into the next.

use std::cell::RefCell;
use std::rc::Rc;

use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::Record;

/// Something that takes records and watermarks in order.
pub(crate) trait Receiver<T> {
    /// Takes the records of `batch`. It may swap the buffer for an empty one, or leave records in it that it has only read;
    /// the caller drops those.
    fn records(&mut self, batch: &mut Vec<Record<T>>);

    /// Receives the watermark that follows the records before it, or the one that counts from the next epoch on.
    fn watermark(&mut self, update: WatermarkUpdate);
}

/// A receiver with shared ownership.
impl<T, R: Receiver<T>> Receiver<T> for Rc<RefCell<R>> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.borrow_mut().records(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.borrow_mut().watermark(update);
    }
}

/// The end of a chain as it is being built: a place where receivers are attached later.
///
/// Records that reach an outlet without a receiver are dropped. More than one receiver is possible once [`Outlet::share`]
/// has set how records are copied.
pub(crate) struct Outlet<T>(Rc<RefCell<Ends<T>>>);

struct Ends<T> {
    /// The number of the stream that it is, in the order of the description; None inside of a step.
    number: Option<usize>,
    receivers: Vec<Box<dyn Receiver<T>>>,
    copy: Option<fn(&Vec<Record<T>>) -> Vec<Record<T>>>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> Outlet<T> {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Ends { number: None, receivers: Vec::new(), copy: None })))
    }

    /// From now on there may be more than one receiver.
    pub(crate) fn share(&self)
    where
        T: Clone,
    {
        self.0.borrow_mut().copy = Some(Vec::clone);
    }

    pub(crate) fn attach(&self, receiver: impl Receiver<T> + 'static) {
        let mut ends = self.0.borrow_mut();
        debug_assert!(ends.receivers.is_empty() || ends.copy.is_some(), "a second receiver needs copies");
        ends.receivers.push(Box::new(receiver));
    }

    pub(crate) fn set_number(&self, number: usize) {
        self.0.borrow_mut().number = Some(number);
    }

    pub(crate) fn number(&self) -> Option<usize> {
        self.0.borrow().number
    }

    /// True if there is a receiver.
    pub(crate) fn is_attached(&self) -> bool {
        !self.0.borrow().receivers.is_empty()
    }

    /// Pushes a batch on and leaves it empty.
    #[inline]
    pub(crate) fn records(&self, batch: &mut Vec<Record<T>>) {
        if !batch.is_empty() {
            self.look_at(batch);
        }
        batch.clear();
    }

    /// Passes a batch to the receivers; records that they do not need to own stay in the buffer.
    pub(crate) fn look_at(&self, batch: &mut Vec<Record<T>>) {
        let Ends { receivers, copy, .. } = &mut *self.0.borrow_mut();
        let Some((last, others)) = receivers.split_last_mut() else { return };
        if let Some(copy) = copy {
            for receiver in others {
                receiver.records(&mut copy(batch));
            }
        }
        last.records(batch);
    }

    pub(crate) fn watermark(&self, update: WatermarkUpdate) {
        for receiver in &mut self.0.borrow_mut().receivers {
            receiver.watermark(update);
        }
    }
}

/// An outlet is itself a receiver, for places where no function is called in between.
impl<T: 'static> Receiver<T> for Outlet<T> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.look_at(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        Self::watermark(self, update);
    }
}
