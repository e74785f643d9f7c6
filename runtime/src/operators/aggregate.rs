//! A value by key that every record updates, and that is emitted after every record.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::Epoch;

use crate::aggregates::Aggregate;
use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::step_context::StepContext;
use crate::key::{Key, KeyFn};
use crate::metrics::descriptors;
use crate::metrics::{Counter, Gauge};
use crate::state::store::{Rows, Store};
use crate::state::table::{Namespace, Table};
use crate::step::Step;
use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::Record;
use tidegate_protocol::Result;

/// The number of records after which results are passed to the next step of the operator chain, so that the first ones do
/// not wait until the keys of a whole batch are read from disk.
const RECORDS_AT_ONCE: usize = 64;

/// See [`crate::KeyedStream::aggregate`].
pub(crate) struct AggregateStep<K, T, A: Aggregate<T>> {
    cx: StepContext,
    step: Arc<Step>,
    key: KeyFn<T, K>,
    aggregate: A,
    state: Option<(Rc<Store>, Table<K, A::Acc>)>,
    out: Vec<Record<(K, A::Out)>>,
    next: Outlet<(K, A::Out)>,
    records: Counter,
    emitted: Counter,
    entries: Gauge,
}

impl<K: Key, T: 'static, A: Aggregate<T>> AggregateStep<K, T, A> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        key: KeyFn<T, K>,
        aggregate: A,
        next: Outlet<(K, A::Out)>,
    ) -> Self {
        Self {
            cx: StepContext::keyed(chain, step),
            step: step.clone(),
            key,
            aggregate,
            state: None,
            out: Vec::new(),
            next,
            records: chain.counter(step, descriptors::RECORDS_IN),
            emitted: chain.counter(step, descriptors::RECORDS_OUT),
            entries: chain.gauge(step, descriptors::STATE_ENTRIES),
        }
    }

    fn add(&mut self, batch: &[Record<T>]) -> Result<()> {
        self.cx.enter();
        let Some((store, table)) = &mut self.state else { return Ok(()) };
        let (aggregate, out, cx) = (&self.aggregate, &mut self.out, &self.cx);
        for record in batch {
            cx.record(record);
            self.key.with(&record.value, |key| -> Result<()> {
                let at = cx.key(key);
                let acc = table.entry(store, record.id.as_key_hash(), key, || aggregate.create())?;
                aggregate.add(acc, &record.value);
                let value = (key.clone(), aggregate.finish(acc));
                out.push(Record { timestamp: record.timestamp, id: record.id, value });
                at.done();
                Ok(())
            })?;
        }
        self.records.add(batch.len() as u64);
        self.emitted.add(out.len() as u64);
        self.next.records(out);
        Ok(())
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Receiver<T> for AggregateStep<K, T, A> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        let added = batch.chunks(RECORDS_AT_ONCE).try_for_each(|records| self.add(records));
        self.cx.or_fail(added);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Operator for AggregateStep<K, T, A> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.step.uid();
        let (store, operator) = context.store(&uid)?;
        let place = Namespace { operator, namespace: 0 };
        let table = Table::new(place, context.process.setup.first_epoch.0, context.has_state(&uid));
        self.state = Some((store, table));
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, _: &mut SnapshotParts) -> Result<()> {
        let Some((store, table)) = &mut self.state else { return Ok(()) };
        table.barrier(store, epoch.0 + 1)
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        let Some((store, table)) = &mut self.state else { return Ok(true) };
        table.copy(store, rows, until)
    }

    fn maintain(&mut self) -> Result<()> {
        if let Some((store, table)) = &mut self.state {
            table.keep_to(&self.cx.chain.worker.budget, store)?;
            self.entries.set(table.in_memory() as i64);
        }
        Ok(())
    }
}
