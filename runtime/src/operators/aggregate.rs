//! A value by key that every record changes and that comes out every time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::Epoch;

use crate::chain::{Outlet, Receiver};
use crate::dataflow::host::Host;
use crate::element::{Element, Opening, Parts};
use crate::error::Result;
use crate::key::{Key, KeyFn};
use crate::metrics::{Counter, Gauge, Step};
use crate::operators::stateless::Here;
use crate::record::Rec;
use crate::state::store::{Rows, Store};
use crate::state::table::{Place, Table};
use crate::watermark::Mark;
use crate::window::Aggregate;

/// Records after which results go on to the next step of the host: the first ones need not wait until the keys of a whole
/// batch are read from disk.
const RECORDS_AT_ONCE: usize = 64;

/// See [`crate::KeyedStream::aggregate`].
pub(crate) struct AggregateStep<K, T, A: Aggregate<T>> {
    here: Here,
    step: Arc<Step>,
    key: KeyFn<T, K>,
    aggregate: A,
    state: Option<(Rc<Store>, Table<K, A::Acc>)>,
    out: Vec<Rec<(K, A::Out)>>,
    next: Outlet<(K, A::Out)>,
    records: Counter,
    emitted: Counter,
    entries: Gauge,
}

impl<K: Key, T: 'static, A: Aggregate<T>> AggregateStep<K, T, A> {
    pub(crate) fn new(
        host: &Rc<Host>,
        step: &Arc<Step>,
        key: KeyFn<T, K>,
        aggregate: A,
        next: Outlet<(K, A::Out)>,
    ) -> Self {
        Self {
            here: Here::keyed(host, step),
            step: step.clone(),
            key,
            aggregate,
            state: None,
            out: Vec::new(),
            next,
            records: host.counter(step, "records_in"),
            emitted: host.counter(step, "records_out"),
            entries: host.gauge(step, "state_entries"),
        }
    }

    fn add(&mut self, batch: &[Rec<T>]) -> Result<()> {
        self.here.enter();
        let Some((store, table)) = &mut self.state else { return Ok(()) };
        let (aggregate, out, here) = (&self.aggregate, &mut self.out, &self.here);
        for record in batch {
            here.record(record);
            self.key.with(&record.val, |key| -> Result<()> {
                let at = here.key(key);
                let acc = table.entry(store, record.hash, key, || aggregate.create())?;
                aggregate.add(acc, &record.val);
                let val = (key.clone(), aggregate.finish(acc));
                out.push(Rec { ts: record.ts, hash: record.hash, val });
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
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        let added = batch.chunks(RECORDS_AT_ONCE).try_for_each(|records| self.add(records));
        self.here.or_fail(added);
    }

    fn watermark(&mut self, mark: Mark) {
        self.next.watermark(mark);
    }
}

impl<K: Key, T: 'static, A: Aggregate<T>> Element for AggregateStep<K, T, A> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<()> {
        let uid = self.step.uid();
        let (store, operator) = opening.store(&uid)?;
        let place = Place { operator, namespace: 0 };
        let table = Table::new(place, opening.process.first_epoch.0, opening.has_state(&uid));
        self.state = Some((store, table));
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, _: &mut Parts<'_>) -> Result<()> {
        let Some((store, table)) = &mut self.state else { return Ok(()) };
        table.barrier(store, epoch.0 + 1)
    }

    fn copy(&mut self, rows: &mut Rows, until: Option<Instant>) -> Result<bool> {
        let Some((store, table)) = &mut self.state else { return Ok(true) };
        table.copy(store, rows, until)
    }

    fn maintain(&mut self) -> Result<()> {
        if let Some((store, table)) = &mut self.state {
            table.keep_to(&self.here.host.worker.budget, store)?;
            self.entries.set(table.in_memory() as i64);
        }
        Ok(())
    }
}
