//! The members of an operator chain that take part in barriers: steps with state, timers, counters or staged output.

use std::time::Instant;

use serde_json::Value;
use tidegate_protocol::Epoch;
use tidegate_protocol::manifest::OperatorSnapshot;

use crate::activity::PartitionActivity;
use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::process::Process;
use crate::dataflow::worker_context::WorkerContext;
use crate::state::store::{Rows, Store};
use tidegate_protocol::Result;

/// A member of an operator chain that takes part in barriers.
pub(crate) trait Operator {
    /// Called once, before the first record: opens files and restores what the snapshot holds for the operator.
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()>;

    /// Called when the operator chain has processed all of `epoch` and nothing of the next epoch. Adds the operator's part
    /// of the snapshot to `parts`, except for the rows that [`Operator::copy`] adds later.
    fn barrier(&mut self, epoch: Epoch, parts: &mut SnapshotParts) -> Result<()>;

    /// Adds rows of the last barrier to `rows`, with their values at the barrier, until the time `until`; true if all of
    /// them have been added. In the meantime the operator already processes records of the next epoch.
    fn copy(&mut self, _rows: &mut Rows, _until: Option<Instant>) -> Result<bool> {
        Ok(true)
    }

    /// The next processing time (ms since the Unix epoch) at which the operator has something to do.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// Processing time has reached `now`: notes which timers and windows are due.
    fn on_processing_time(&mut self, _now: i64) {}

    /// True if timers or windows are due, by a watermark, the clock or the end of the input, that have not fired yet.
    fn is_due(&self) -> bool {
        false
    }

    /// True if records have to wait until what is due has fired, because they would advance event time and make more timers
    /// and windows due. The clock advances anyway, so what is due by the clock does not hold records back.
    fn holds_records_back(&self) -> bool {
        self.is_due()
    }

    /// Fires what is due, for about `most` records, and emits the watermark that follows from that. Returns the number of
    /// records or timers for which it has called user code.
    fn fire(&mut self, _most: usize) -> usize {
        0
    }

    /// Called after every round of work, to keep to the memory budget.
    fn maintain(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A step in front of an exchange that combines records, so that fewer cross. It has no part in snapshots, because it holds
/// nothing back at a barrier.
pub(crate) trait Combiner {
    /// Emits what must not wait any longer.
    fn emit_due(&mut self);

    /// Emits everything that it holds.
    fn emit_all(&mut self);
}

/// A generator of watermarks from the event times of a source's records, partition by partition.
pub(crate) trait WatermarkGenerator {
    /// Its uid in a snapshot.
    fn uid(&self) -> String;

    /// A partition is opened.
    fn open(&mut self, partition: usize, opened: &OpenedPartition<'_>) -> Result<()>;

    /// A partition that was read to its end has had no new records for `quiet_ms`; it becomes idle if that is long enough.
    fn quiet(&mut self, partition: usize, quiet_ms: u64);

    /// At a barrier: the same, with None if the partition has more to read. This decides whether the partition is idle or
    /// active in the next epoch.
    fn judge(&mut self, partition: usize, quiet_ms: Option<u64>);

    /// A bounded partition has ended.
    fn end(&mut self, partition: usize);

    /// The watermark of a partition; `i64::MIN` before the first.
    fn watermark(&self, partition: usize) -> i64;

    /// By how much (ms) a partition may be ahead of the others of the source, if that is limited.
    fn max_drift(&self) -> Option<i64>;

    /// The state of a partition, for the snapshot.
    fn keep(&self, partition: usize) -> Value;

    /// Emits the watermark if it has changed. `more` is true if partitions may still be added.
    fn advance(&mut self, more: bool);

    /// At a barrier, after [`WatermarkGenerator::judge`]: announces the watermark that counts from the next epoch on.
    fn announce(&mut self, more: bool);
}

/// What a watermark generator receives when a partition is opened.
pub(crate) struct OpenedPartition<'a> {
    /// Its state in the restored snapshot.
    pub(crate) kept: Option<&'a Value>,
    /// False for a partition that is discovered while the job runs: it counts from the next epoch on.
    pub(crate) counts: bool,
    /// True if the partition is followed, that is read on as it grows.
    pub(crate) is_followed: bool,
    /// Where other threads see how far it is.
    pub(crate) activity: &'a PartitionActivity,
}

/// The context in which an operator is opened.
pub(crate) struct OpenContext<'a> {
    pub(crate) worker: &'a WorkerContext,
    pub(crate) process: &'a Process,
}

impl OpenContext<'_> {
    /// What every slot of the restored snapshot holds of an operator.
    pub(crate) fn restored<'b>(&'b self, uid: &'b str) -> impl Iterator<Item = &'b OperatorSnapshot> {
        self.process.setup.restored_parts(uid)
    }

    /// True if the restored snapshot holds state of this operator.
    pub(crate) fn has_state(&self, uid: &str) -> bool {
        self.process.setup.has_state(uid)
    }

    /// The watermark that an operator had reached; the same on every worker.
    pub(crate) fn restored_watermark(&self, uid: &str) -> i64 {
        self.restored(uid).filter_map(|part| part.watermark).max().unwrap_or(i64::MIN)
    }

    /// The store of this worker, and the prefix of an operator's keys in it.
    pub(crate) fn store(&self, uid: &str) -> Result<(std::rc::Rc<Store>, u16)> {
        Ok((self.worker.store()?, self.process.setup.store_id(uid)?))
    }
}
