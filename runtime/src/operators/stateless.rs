//! Steps without state: each is a function over a batch.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use crate::chain::{Outlet, Receiver};
use crate::connector::DeadLetter;
use crate::dataflow::host::Host;
use crate::dataflow::place::Place;
use crate::dataflow::whereabouts::AtKey;
use crate::error::{Error, Result};
use crate::metrics::{Counter, Step};
use crate::record::Rec;
use crate::stream::job::ErrorRoute;
use crate::watermark::Mark;

/// What every step knows of where it is.
pub(crate) struct Here {
    pub(crate) host: Rc<Host>,
    place: Arc<Place>,
    step: usize,
}

impl Here {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>) -> Self {
        Self { host: host.clone(), place: host.at.place().clone(), step: host.at.step(step, false) }
    }

    /// A step whose records have the hash of its key.
    pub(crate) fn keyed(host: &Rc<Host>, step: &Arc<Step>) -> Self {
        Self { step: host.at.step(step, true), ..Self::new(host, step) }
    }

    /// From here on it is this step's code that runs, for records.
    #[inline]
    pub(crate) fn enter(&self) {
        self.place.enter(self.step);
    }

    /// From here on it is this step's code that runs, and not for a record.
    pub(crate) fn enter_apart(&self) {
        self.place.enter_apart(self.step);
    }

    /// It is this record that the code runs for.
    #[inline]
    pub(crate) fn record<T>(&self, record: &Rec<T>) {
        self.place.record(record.hash, record.ts);
    }

    /// It is this key that the code runs for.
    #[inline]
    pub(crate) fn key<'a, K: Serialize>(&'a self, key: &'a K) -> AtKey<'a, K> {
        self.host.at.key(key)
    }

    /// What came of this step's code; an error ends the job, with where it was.
    pub(crate) fn or_fail<R>(&self, result: Result<R>) -> Option<R> {
        result.map_err(|error| self.fail(error)).ok()
    }

    #[cold]
    fn fail(&self, error: Error) {
        // What it has put out before may have been somewhere else.
        self.enter();
        self.host.fail(error.context(self.host.at.describe()));
    }
}

/// See [`crate::Stream::map`].
pub(crate) struct Map<U, F> {
    here: Here,
    f: F,
    out: Vec<Rec<U>>,
    next: Outlet<U>,
}

impl<U, F> Map<U, F> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, f: F, next: Outlet<U>) -> Self {
        Self { here: Here::new(host, step), f, out: Vec::new(), next }
    }
}

impl<T, U: 'static, F: FnMut(T) -> U> Receiver<T> for Map<U, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        self.out.reserve(batch.len());
        for record in batch.drain(..) {
            self.here.record(&record);
            let Rec { ts, hash, val } = record;
            self.out.push(Rec { ts, hash, val: (self.f)(val) });
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.watermark(mark);
    }
}

/// See [`crate::Stream::filter`].
pub(crate) struct Retain<T, F> {
    here: Here,
    f: F,
    dropped: Counter,
    next: Outlet<T>,
}

impl<T, F> Retain<T, F> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, f: F, next: Outlet<T>) -> Self {
        Self { here: Here::new(host, step), f, dropped: host.counter(step, "dropped"), next }
    }
}

impl<T: 'static, F: FnMut(&T) -> bool> Receiver<T> for Retain<T, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        let before = batch.len();
        let (here, f) = (&self.here, &mut self.f);
        batch.retain(|record| {
            here.record(record);
            f(&record.val)
        });
        if batch.len() < before {
            self.dropped.add((before - batch.len()) as u64);
        }
        self.next.records(batch);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.watermark(mark);
    }
}

/// See [`crate::Stream::flat_map`].
pub(crate) struct FlatMap<U, F> {
    here: Here,
    f: F,
    out: Vec<Rec<U>>,
    next: Outlet<U>,
}

impl<U, F> FlatMap<U, F> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, f: F, next: Outlet<U>) -> Self {
        Self { here: Here::new(host, step), f, out: Vec::new(), next }
    }
}

impl<T, U: 'static, I: IntoIterator<Item = U>, F: FnMut(T) -> I> Receiver<T> for FlatMap<U, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        for record in batch.drain(..) {
            self.here.enter();
            self.here.record(&record);
            let Rec { ts, hash, val } = record;
            for val in (self.f)(val) {
                self.out.push(Rec { ts, hash, val });
                if self.out.len() >= crate::dataflow::batch::BATCH_RECORDS {
                    self.next.records(&mut self.out);
                    // Other steps were at work in between; a lazy iterator goes on with this one's code.
                    self.here.enter();
                    self.here.record(&Rec { ts, hash, val: () });
                }
            }
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.watermark(mark);
    }
}

/// See [`crate::Stream::inspect`].
pub(crate) struct Inspect<T, F> {
    here: Here,
    f: F,
    next: Outlet<T>,
}

impl<T, F> Inspect<T, F> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, f: F, next: Outlet<T>) -> Self {
        Self { here: Here::new(host, step), f, next }
    }
}

impl<T: 'static, F: FnMut(&T)> Receiver<T> for Inspect<T, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        for record in batch.iter() {
            self.here.record(record);
            (self.f)(&record.val);
        }
        self.next.records(batch);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.watermark(mark);
    }
}

/// See [`crate::Stream::split`].
pub(crate) struct Split<A, B, F> {
    here: Here,
    f: F,
    out: (Vec<Rec<A>>, Vec<Rec<B>>),
    next: (Outlet<A>, Outlet<B>),
}

impl<A, B, F> Split<A, B, F> {
    pub(crate) fn new(host: &Rc<Host>, step: &Arc<Step>, f: F, first: Outlet<A>, second: Outlet<B>) -> Self {
        Self { here: Here::new(host, step), f, out: (Vec::new(), Vec::new()), next: (first, second) }
    }
}

impl<T, A: 'static, B: 'static, F: FnMut(T) -> Result<A, B>> Receiver<T> for Split<A, B, F> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        for record in batch.drain(..) {
            self.here.record(&record);
            let Rec { ts, hash, val } = record;
            match (self.f)(val) {
                Ok(val) => self.out.0.push(Rec { ts, hash, val }),
                Err(val) => self.out.1.push(Rec { ts, hash, val }),
            }
        }
        self.next.0.records(&mut self.out.0);
        self.next.1.records(&mut self.out.1);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.0.watermark(mark);
        self.next.1.watermark(mark);
    }
}

/// See [`crate::Stream::try_map`].
pub(crate) struct TryMap<U, F> {
    here: Here,
    step: Arc<Step>,
    f: F,
    route: Rc<ErrorRoute>,
    out: Vec<Rec<U>>,
    next: Outlet<U>,
}

impl<U, F> TryMap<U, F> {
    pub(crate) fn new(
        host: &Rc<Host>,
        step: &Arc<Step>,
        f: F,
        route: Rc<ErrorRoute>,
        next: Outlet<U>,
    ) -> Self {
        Self { here: Here::new(host, step), step: step.clone(), f, route, out: Vec::new(), next }
    }
}

impl<T, U, E, F> Receiver<T> for TryMap<U, F>
where
    T: serde::Serialize,
    U: 'static,
    E: std::fmt::Display,
    F: FnMut(&T) -> Result<U, E>,
{
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        self.here.enter();
        for record in batch.iter() {
            self.here.record(record);
            match (self.f)(&record.val) {
                Ok(val) => self.out.push(Rec { ts: record.ts, hash: record.hash, val }),
                Err(error) => {
                    let host = &self.here.host;
                    let partition = host.at.partition_name();
                    let letter = || {
                        let (raw, no_json) = match serde_json::to_string(&record.val) {
                            Ok(raw) => (Some(raw), String::new()),
                            Err(why) => {
                                (None, format!(" (the record itself cannot be shown as JSON: {why})"))
                            }
                        };
                        DeadLetter {
                            source: self.step.name(),
                            offset: partition.is_some().then_some(record.hash),
                            partition,
                            error: format!("{error}{no_json}"),
                            raw,
                            raw_base64: None,
                        }
                    };
                    if let Err(error) = self.route.handle(host, letter) {
                        return host.fail(error);
                    }
                    // The letter's sink was at work in between.
                    self.here.enter();
                }
            }
        }
        self.next.records(&mut self.out);
    }

    fn watermark(&mut self, mark: Mark) {
        self.route.letters.watermark(mark);
        self.next.watermark(mark);
    }
}
