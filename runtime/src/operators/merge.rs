//! Two or more inputs into one: records as they come, and the least of the inputs' watermarks.

use std::cell::RefCell;
use std::rc::Rc;

use crate::chain::{Outlet, Receiver};
use crate::record::{Mark, MinWatermark, Rec};

/// Brings inputs of one type together.
pub(crate) struct Merge<T> {
    marks: Rc<RefCell<MinWatermark>>,
    next: Outlet<T>,
}

impl<T: 'static> Merge<T> {
    pub(crate) fn new(inputs: usize, next: Outlet<T>) -> Self {
        Self { marks: Rc::new(RefCell::new(MinWatermark::new(inputs, i64::MIN))), next }
    }

    /// Where one input is attached.
    pub(crate) fn input(&self, number: usize) -> Outlet<T> {
        let inlet = Outlet::new();
        inlet.attach(Input { number, marks: self.marks.clone(), next: self.next.clone() });
        inlet
    }
}

struct Input<T> {
    number: usize,
    marks: Rc<RefCell<MinWatermark>>,
    next: Outlet<T>,
}

impl<T: 'static> Receiver<T> for Input<T> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.next.look_at(batch);
    }

    fn watermark(&mut self, mark: Mark) {
        if let Some(least) = self.marks.borrow_mut().update(self.number, mark) {
            self.next.watermark(least);
        }
    }
}
