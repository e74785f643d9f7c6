//! The first of the two steps of `aggregate_hot`, on the worker that reads the records: partial results by key and slice of
//! time, which cross to the worker of the key in place of the records. The second step is a window step whose records are
//! partial results ([`MergePartials`]).
//!
//! A partial result has the event time of one of its records. All of them are in the same windows ([`Windows::slice`]), so
//! each of these windows takes the partial result where it would take the records, and what is late is late as a whole.
//!
//! Partial results wait here to take more records, and are sent
//! - before a watermark that a window of theirs ends at, so that none is late that would not have been late as records;
//! - at the end of a tick or round, if nothing of this worker holds event time back, if their records come behind the
//!   watermark, or with windows of processing time;
//! - before a barrier, so that nothing of this step is part of a snapshot, and the parallelism can change;
//! - when there are [`MOST_PARTIALS`] of them.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use tidegate_connector_api::{Record, RecordId};

use crate::aggregates::{Aggregate, Mergeable};
use crate::dataflow::operator::Combiner;
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::pace::BATCH_RECORDS;
use crate::dataflow::step_context::StepContext;
use crate::key::{self, Key, KeyFn};
use crate::step::Step;
use crate::watermark::{Watermark, WatermarkUpdate};
use crate::window::{Slice, Windows};

/// Partial results that wait on a worker at most.
const MOST_PARTIALS: usize = 4096;

/// What some records of a key amount to.
#[derive(Serialize, Deserialize)]
pub(crate) struct Partial<K, V> {
    pub(crate) key: K,
    pub(crate) acc: V,
    /// The number of records.
    pub(crate) records: u64,
}

/// See [`crate::WindowedStream::aggregate_hot`].
pub(crate) struct LocalAggregate<K, T, A: Mergeable<T>> {
    cx: StepContext,
    key: KeyFn<T, K>,
    windows: Windows,
    aggregate: Rc<A>,
    /// The partial results in the order of their first records, with the slice and the hash of both in `places`.
    partials: Vec<Record<Partial<K, A::Acc>>>,
    places: Vec<(Slice, u64)>,
    index: HashTable<u32>,
    /// The watermark of this worker, as the receivers know it.
    watermark: Watermark,
    /// The first watermark at which a window of a partial result ends.
    first_end: i64,
    out: Vec<Record<Partial<K, A::Acc>>>,
    next: Outlet<Partial<K, A::Acc>>,
}

impl<K: Key, T: 'static, A: Mergeable<T>> LocalAggregate<K, T, A> {
    pub(crate) fn new(
        (chain, step): (&Rc<OperatorChain>, &Arc<Step>),
        key: KeyFn<T, K>,
        windows: Windows,
        aggregate: &Rc<A>,
        next: Outlet<Partial<K, A::Acc>>,
    ) -> Self {
        Self {
            cx: StepContext::new(chain, step),
            key,
            windows,
            aggregate: aggregate.clone(),
            partials: Vec::new(),
            places: Vec::new(),
            index: HashTable::new(),
            watermark: Watermark::UNKNOWN,
            first_end: i64::MAX,
            out: Vec::new(),
            next,
        }
    }

    #[inline]
    fn add(&mut self, record: &Record<T>) {
        let slice = self.windows.slice(record.timestamp);
        let aggregate = &*self.aggregate;
        self.key.with(&record.value, |key| {
            let at = self.cx.key(key);
            let hash = key::hash(key);
            let place_hash = hash ^ (slice.last as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let (partials, places) = (&mut self.partials, &mut self.places);
            let is = |&place: &u32| {
                let place = place as usize;
                places[place] == (slice, place_hash) && partials[place].value.key == *key
            };
            let place = match self.index.find(place_hash, is) {
                Some(&place) => place as usize,
                None => {
                    let place = partials.len();
                    let value = Partial { key: key.clone(), acc: aggregate.create(), records: 0 };
                    let (timestamp, id) = (record.timestamp, RecordId::key_hash(hash));
                    partials.push(Record { timestamp, id, value });
                    places.push((slice, place_hash));
                    self.index.insert_unique(place_hash, place as u32, |&place| places[place as usize].1);
                    self.first_end = self.first_end.min(self.windows.window(slice.first).end - 1);
                    place
                }
            };
            let partial = &mut partials[place].value;
            aggregate.add(&mut partial.acc, &record.value);
            partial.records += 1;
            at.done();
        });
    }

    /// True if partial results must not wait any longer.
    fn is_due(&self) -> bool {
        // Where no partition is active the receivers' event time does not depend on this worker.
        let is_passed = self.watermark.active_time().is_none_or(|time| self.first_end <= time);
        !self.partials.is_empty() && (self.windows.processing_time || is_passed)
    }
}

impl<K: Key, T: 'static, A: Mergeable<T>> Combiner for LocalAggregate<K, T, A> {
    fn emit_due(&mut self) {
        if self.is_due() {
            self.emit_all();
        }
    }

    fn emit_all(&mut self) {
        self.index.clear();
        self.places.clear();
        self.first_end = i64::MAX;
        let mut partials = self.partials.drain(..);
        loop {
            self.out.extend(partials.by_ref().take(BATCH_RECORDS));
            if self.out.is_empty() {
                return;
            }
            self.next.records(&mut self.out);
        }
    }
}

impl<K: Key, T: 'static, A: Mergeable<T>> Receiver<T> for LocalAggregate<K, T, A> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        self.cx.enter();
        for record in batch.iter() {
            self.cx.record(record);
            self.add(record);
            if self.partials.len() >= MOST_PARTIALS {
                self.emit_all();
                self.cx.enter();
            }
        }
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        match update {
            WatermarkUpdate::Now(said) => {
                self.watermark = self.watermark.later(said);
                self.emit_due();
            }
            // Until the barrier no more records come.
            WatermarkUpdate::NextEpoch(said) => {
                self.emit_all();
                self.watermark = said;
            }
        }
        self.next.watermark(update);
    }
}

/// The aggregate of partial results.
pub(crate) struct MergePartials<T, A> {
    aggregate: Rc<A>,
    records: PhantomData<fn(T)>,
}

impl<T, A> MergePartials<T, A> {
    pub(crate) fn new(aggregate: Rc<A>) -> Self {
        Self { aggregate, records: PhantomData }
    }
}

impl<K, T, A> Aggregate<Partial<K, A::Acc>> for MergePartials<T, A>
where
    T: 'static,
    A: Mergeable<T>,
    A::Acc: Clone,
{
    type Acc = A::Acc;
    type Out = A::Out;

    fn create(&self) -> A::Acc {
        self.aggregate.create()
    }

    #[inline]
    fn add(&self, acc: &mut A::Acc, partial: &Partial<K, A::Acc>) {
        self.aggregate.merge(acc, partial.acc.clone());
    }

    fn finish(&self, acc: &A::Acc) -> A::Out {
        self.aggregate.finish(acc)
    }
}
