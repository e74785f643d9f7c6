//! What lives in an operator chain besides plain functions: anything with state, timers, counters or staged output.

use std::time::Instant;

use serde_json::Value;
use tidegate_protocol::Epoch;
use tidegate_protocol::manifest::OperatorSnapshot;

use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::process::Process;
use crate::dataflow::worker_context::WorkerContext;
use crate::state::store::{Rows, Store};
use tidegate_protocol::Result;

/// A member of an operator chain that takes part in barriers.
pub(crate) trait Operator {
    /// Called once, before the first record: opens files and takes up what the restored snapshot holds.
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()>;

    /// Called when the operator chain has seen all of `epoch` and nothing of the next: hands over what belongs to the snapshot, but for
    /// the rows that [`Operator::copy`] will add.
    fn barrier(&mut self, epoch: Epoch, parts: &mut SnapshotParts) -> Result<()>;

    /// Adds rows of the last barrier to `rows`, as they were then, until it is time to stop; true if that was all. Between
    /// the barrier and that, the operator takes part in the next epoch already.
    fn copy(&mut self, _rows: &mut Rows, _until: Option<Instant>) -> Result<bool> {
        Ok(true)
    }

    /// The next moment of processing time (ms since the Unix epoch) at which something is to be done.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// Processing time has come to `now`: notes what is due.
    fn on_processing_time(&mut self, _now: i64) {}

    /// True if a watermark, the clock or the end of the input has made something due that is not emitted yet.
    fn is_due(&self) -> bool {
        false
    }

    /// True if records have to wait for what is due: they would move event time on, and make more due. The clock does that
    /// by itself.
    fn holds_records_back(&self) -> bool {
        self.is_due()
    }

    /// Emits about `most` records of what is due, and says how far event time has come by that. Returns for how many records
    /// or timers it has called user code.
    fn fire(&mut self, _most: usize) -> usize {
        0
    }

    /// Called after every round of work, to keep to the memory budget.
    fn maintain(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Something that makes watermarks out of the event times of a source's records, partition by partition.
pub(crate) trait WatermarkGenerator {
    /// What it is called in a snapshot.
    fn uid(&self) -> String;

    /// A partition is opened.
    fn open(&mut self, partition: usize, opened: &OpenedPartition<'_>) -> Result<()>;

    /// A partition that is read to its end has brought nothing for so long (ms); it is idle if that is long enough.
    fn quiet(&mut self, partition: usize, quiet_ms: u64);

    /// At a barrier: the same, or None if there is more to read. In the next epoch the partition is idle or active as that
    /// says.
    fn judge(&mut self, partition: usize, quiet_ms: Option<u64>);

    /// A bounded partition has ended.
    fn end(&mut self, partition: usize);

    /// What is to be kept of a partition.
    fn keep(&self, partition: usize) -> Value;

    /// Sends the watermark on if it has changed. `more` is true if partitions may still be added.
    fn advance(&mut self, more: bool);

    /// At a barrier, after [`WatermarkGenerator::judge`]: announces what counts from the next epoch on.
    fn announce(&mut self, more: bool);
}

/// What is known of a partition when it is opened.
pub(crate) struct OpenedPartition<'a> {
    /// What an earlier attempt kept of it.
    pub(crate) kept: Option<&'a Value>,
    /// False for one that turns up while the job runs: it counts from the next epoch on.
    pub(crate) counts: bool,
    /// True if it is read on as it grows.
    pub(crate) is_followed: bool,
}

/// What an operator finds when it is opened.
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
