//! Steps without state: each is a function over a batch.

use std::rc::Rc;
use std::sync::Arc;

use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::step_context::StepContext;
use crate::metrics::Counter;
use crate::metrics::descriptors;
use crate::operators::error_route::ErrorRoute;
use crate::step::Step;
use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::DeadLetter;
use tidegate_connector_api::Record;
use tidegate_protocol::Result;

/// See [`crate::Stream::map`].
pub(crate) struct Map<U, F> {
    cx: StepContext,
    f: F,
    out: Vec<Record<U>>,
    next: Outlet<U>,
}

impl<U, F> Map<U, F> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, f: F, next: Outlet<U>) -> Self {
        Self { cx: StepContext::new(chain, step), f, out: Vec::new(), next }
    }
}

impl<T, U: 'static, F: FnMut(T) -> U> Receiver<T> for Map<U, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        self.out.reserve(batch.len());
        for record in batch.drain(..) {
            self.cx.record(&record);
            let Record { timestamp, id, value } = record;
            self.out.push(Record { timestamp, id, value: (self.f)(value) });
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

/// See [`crate::Stream::filter`].
pub(crate) struct Retain<T, F> {
    cx: StepContext,
    f: F,
    dropped: Counter,
    next: Outlet<T>,
}

impl<T, F> Retain<T, F> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, f: F, next: Outlet<T>) -> Self {
        Self {
            cx: StepContext::new(chain, step),
            f,
            dropped: chain.counter(step, descriptors::DROPPED),
            next,
        }
    }
}

impl<T: 'static, F: FnMut(&T) -> bool> Receiver<T> for Retain<T, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        let before = batch.len();
        let (cx, f) = (&self.cx, &mut self.f);
        batch.retain(|record| {
            cx.record(record);
            f(&record.value)
        });
        if batch.len() < before {
            self.dropped.add((before - batch.len()) as u64);
        }
        self.next.records(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

/// See [`crate::Stream::flat_map`].
pub(crate) struct FlatMap<U, F> {
    cx: StepContext,
    f: F,
    out: Vec<Record<U>>,
    next: Outlet<U>,
}

impl<U, F> FlatMap<U, F> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, f: F, next: Outlet<U>) -> Self {
        Self { cx: StepContext::new(chain, step), f, out: Vec::new(), next }
    }
}

impl<T, U: 'static, I: IntoIterator<Item = U>, F: FnMut(T) -> I> Receiver<T> for FlatMap<U, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        for record in batch.drain(..) {
            self.cx.enter();
            self.cx.record(&record);
            let Record { timestamp, id, value } = record;
            for value in (self.f)(value) {
                self.out.push(Record { timestamp, id, value });
                if self.out.len() >= crate::dataflow::pace::BATCH_RECORDS {
                    self.next.records(&mut self.out);
                    // Other steps have run in between; a lazy iterator continues in this step's code.
                    self.cx.enter();
                    self.cx.record(&Record { timestamp, id, value: () });
                }
            }
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

/// See [`crate::Stream::inspect`].
pub(crate) struct Inspect<T, F> {
    cx: StepContext,
    f: F,
    next: Outlet<T>,
}

impl<T, F> Inspect<T, F> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, f: F, next: Outlet<T>) -> Self {
        Self { cx: StepContext::new(chain, step), f, next }
    }
}

impl<T: 'static, F: FnMut(&T)> Receiver<T> for Inspect<T, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        for record in batch.iter() {
            self.cx.record(record);
            (self.f)(&record.value);
        }
        self.next.records(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

/// See [`crate::Stream::split`].
pub(crate) struct Split<A, B, F> {
    cx: StepContext,
    f: F,
    out: (Vec<Record<A>>, Vec<Record<B>>),
    next: (Outlet<A>, Outlet<B>),
}

impl<A, B, F> Split<A, B, F> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        f: F,
        first: Outlet<A>,
        second: Outlet<B>,
    ) -> Self {
        Self { cx: StepContext::new(chain, step), f, out: (Vec::new(), Vec::new()), next: (first, second) }
    }
}

impl<T, A: 'static, B: 'static, F: FnMut(T) -> Result<A, B>> Receiver<T> for Split<A, B, F> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        for record in batch.drain(..) {
            self.cx.record(&record);
            let Record { timestamp, id, value } = record;
            match (self.f)(value) {
                Ok(value) => self.out.0.push(Record { timestamp, id, value }),
                Err(value) => self.out.1.push(Record { timestamp, id, value }),
            }
        }
        self.next.0.records(&mut self.out.0);
        self.next.1.records(&mut self.out.1);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.0.watermark(update);
        self.next.1.watermark(update);
    }
}

/// See [`crate::Stream::try_map`].
pub(crate) struct TryMap<U, F> {
    cx: StepContext,
    step: Arc<Step>,
    f: F,
    route: Rc<ErrorRoute>,
    out: Vec<Record<U>>,
    next: Outlet<U>,
}

impl<U, F> TryMap<U, F> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        f: F,
        route: Rc<ErrorRoute>,
        next: Outlet<U>,
    ) -> Self {
        Self { cx: StepContext::new(chain, step), step: step.clone(), f, route, out: Vec::new(), next }
    }
}

impl<T, U, E, F> Receiver<T> for TryMap<U, F>
where
    T: serde::Serialize,
    U: 'static,
    E: std::fmt::Display,
    F: FnMut(&T) -> Result<U, E>,
{
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        for record in batch.iter() {
            self.cx.record(record);
            match (self.f)(&record.value) {
                Ok(value) => self.out.push(Record { timestamp: record.timestamp, id: record.id, value }),
                Err(error) => {
                    let chain = &self.cx.chain;
                    let partition = chain.site.partition_name();
                    let letter = || {
                        let (raw, no_json) = match serde_json::to_string(&record.value) {
                            Ok(raw) => (Some(raw), String::new()),
                            Err(why) => {
                                (None, format!(" (the record itself cannot be shown as JSON: {why})"))
                            }
                        };
                        DeadLetter {
                            source: self.step.name(),
                            offset: partition.is_some().then_some(record.id.as_offset()),
                            partition,
                            error: format!("{error}{no_json}"),
                            raw,
                            raw_base64: None,
                        }
                    };
                    if let Err(error) = self.route.handle(chain, letter) {
                        return chain.fail(error);
                    }
                    // The sink of the dead letters has run in between.
                    self.cx.enter();
                }
            }
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.route.letters.watermark(update);
        self.next.watermark(update);
    }
}
