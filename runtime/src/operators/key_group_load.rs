//! How the records of a keyed step are distributed over its key groups, for metrics: a key with very many records shows as a key
//! group with a large share.
//!
//! A key group is counted where its records arrive, by the worker that owns it, so the counts need no merging. They are of
//! the stretch between two barriers, because keys become hot and cold again.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_connector_api::Record;
use tidegate_protocol::why::HottestKeyGroup;
use tidegate_protocol::{Epoch, KeyGroups, Result};

use crate::activity::KeyedActivity;
use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::{Outlet, Receiver};
use crate::dataflow::worker_context::WorkerContext;
use crate::metrics::Gauge;
use crate::metrics::descriptors;
use crate::step::Step;
use crate::watermark::WatermarkUpdate;

/// A share of fewer records says nothing; the stretch then goes on beyond the barrier.
const LEAST_RECORDS: u64 = 1_000;

/// Counts records by key group on their way into a keyed step.
pub(crate) struct KeyGroupLoad<T> {
    groups: KeyGroups,
    records: Vec<u64>,
    /// The records before this stretch.
    before: u64,
    last: Option<HottestKeyGroup>,
    hottest: Gauge,
    hottest_percent: Gauge,
    activity: Arc<KeyedActivity>,
    next: Outlet<T>,
}

impl<T> KeyGroupLoad<T> {
    pub(crate) fn new(
        chain: &Rc<OperatorChain>,
        step: &Arc<Step>,
        groups: KeyGroups,
        next: Outlet<T>,
    ) -> Self {
        let WorkerContext { process, slot, .. } = &*chain.worker;
        let own = groups.range(chain.worker.index(), process.setup.settings.parallelism).len();
        Self {
            groups,
            records: vec![0; groups.all().count()],
            before: 0,
            last: None,
            activity: process.activities.keyed(step, *slot, own as u32),
            hottest: chain.gauge(step, descriptors::HOTTEST_KEY_GROUP),
            hottest_percent: chain.gauge(step, descriptors::HOTTEST_KEY_GROUP_PERCENT),
            next,
        }
    }
}

impl<T: 'static> Receiver<T> for KeyGroupLoad<T> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        for record in batch.iter() {
            let group = self.groups.of_hash(record.id.as_key_hash());
            self.records[usize::from(group.0)] += 1;
        }
        self.next.look_at(batch);
    }

    fn watermark(&mut self, update: WatermarkUpdate) {
        self.next.watermark(update);
    }
}

impl<T: 'static> Operator for KeyGroupLoad<T> {
    fn open(&mut self, _: &OpenContext<'_>) -> Result<()> {
        Ok(())
    }

    /// Shows the stretch that ends here. Nothing of it is part of the snapshot.
    fn barrier(&mut self, _: Epoch, _: &mut SnapshotParts) -> Result<()> {
        let all: u64 = self.records.iter().sum();
        let hottest = self.records.iter().zip(0i64..).max_by_key(|(records, _)| **records);
        if let Some((records, group)) = hottest.filter(|_| all >= LEAST_RECORDS) {
            let percent = records * 100 / all;
            self.hottest.set(group);
            self.hottest_percent.set(percent as i64);
            self.last = Some(HottestKeyGroup { number: group as u16, percent: percent as u8 });
            self.records.fill(0);
            self.before += all;
            self.activity.set(self.before, self.last);
        } else {
            self.activity.set(self.before + all, self.last);
        }
        Ok(())
    }
}
