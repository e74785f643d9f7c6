//! Two or more inputs into one: records as they come, and the watermark of all inputs together.

use std::cell::RefCell;
use std::rc::Rc;

use crate::dataflow::outlet::{Outlet, Receiver};
use crate::watermark::{Senders, Watermark, WatermarkUpdate};
use tidegate_connector_api::Record;

/// Brings inputs of one type together.
pub(crate) struct Merge<T> {
    senders: Rc<RefCell<Senders>>,
    next: Outlet<T>,
}

impl<T: 'static> Merge<T> {
    pub(crate) fn new(inputs: usize, next: Outlet<T>) -> Self {
        Self { senders: Rc::new(RefCell::new(Senders::new(inputs))), next }
    }

    /// Where one input is attached.
    pub(crate) fn input(&self, number: usize) -> Outlet<T> {
        let inlet = Outlet::new();
        inlet.attach(Input { number, senders: self.senders.clone(), next: self.next.clone() });
        inlet
    }
}

struct Input<T> {
    number: usize,
    senders: Rc<RefCell<Senders>>,
    next: Outlet<T>,
}

impl<T: 'static> Input<T> {
    fn now(&self, watermark: Option<Watermark>) {
        if let Some(watermark) = watermark {
            self.next.watermark(WatermarkUpdate::Now(watermark));
        }
    }
}

impl<T: 'static> Receiver<T> for Input<T> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.next.look_at(batch);
    }

    /// All inputs of an operator announce the next epoch before any of them sends a watermark in it, so the first watermark
    /// begins the epoch for all inputs.
    fn watermark(&mut self, update: WatermarkUpdate) {
        let mut senders = self.senders.borrow_mut();
        match update {
            WatermarkUpdate::Now(watermark) => {
                self.now(senders.begin_epoch());
                self.now(senders.update(self.number, watermark));
            }
            WatermarkUpdate::NextEpoch(watermark) => {
                senders.announce(self.number, watermark);
                let next = senders.next_epoch().unwrap_or(watermark);
                self.next.watermark(WatermarkUpdate::NextEpoch(next));
            }
        }
    }
}
