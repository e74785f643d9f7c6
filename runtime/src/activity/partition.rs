//! How far the partitions of a source are. The worker that reads a partition writes that after every poll and every tick,
//! and any thread may read it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tidegate_protocol::Slot;
use tidegate_protocol::why::{PartitionProgress, PartitionState};

use crate::metrics::{Counter, Gauge};
use crate::step::Step;

/// There is no such time.
const NONE: i64 = i64::MIN;

fn lock<T>(values: &Mutex<T>) -> MutexGuard<'_, T> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

fn known(time: i64) -> Option<i64> {
    Some(time).filter(|time| *time != NONE)
}

/// The partitions of a source that one worker reads.
pub(crate) struct SourceActivity {
    step: Arc<Step>,
    slot: Slot,
    lag: Gauge,
    partitions: Mutex<Vec<Arc<PartitionActivity>>>,
}

impl SourceActivity {
    pub(super) fn new(step: &Arc<Step>, slot: Slot, lag: Gauge) -> Self {
        Self { step: step.clone(), slot, lag, partitions: Mutex::default() }
    }

    /// Adds a partition that is opened at this position, with the counter of what is read from it.
    pub(crate) fn partition(
        &self,
        name: &str,
        position: Option<&Value>,
        records: Counter,
    ) -> Arc<PartitionActivity> {
        let partition = Arc::new(PartitionActivity {
            name: name.to_owned(),
            quiet_since: AtomicI64::new(NONE),
            has_ended: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            position: Mutex::new(position.cloned()),
            records,
            watermarks: Mutex::default(),
        });
        lock(&self.partitions).push(partition.clone());
        partition
    }

    /// Sets the gauge of the lag: by how much the newest event time of the partition that is furthest behind is before `now`.
    pub(super) fn show_lag(&self, now_ms: i64) {
        let lags = lock(&self.partitions).iter().filter_map(|partition| partition.lag(now_ms)).max();
        if let Some(lag) = lags {
            self.lag.set(lag);
        }
    }

    pub(super) fn progress(&self) -> Vec<PartitionProgress> {
        let partitions = lock(&self.partitions).clone();
        partitions.iter().flat_map(|partition| partition.progress(&self.step.name(), self.slot)).collect()
    }
}

/// A partition.
pub(crate) struct PartitionActivity {
    name: String,
    /// Since when it has had nothing to read, in milliseconds since 1970.
    quiet_since: AtomicI64,
    has_ended: AtomicBool,
    /// True while it is not read because it is too far ahead of the others.
    is_paused: AtomicBool,
    /// Where its reader was at the last barrier.
    position: Mutex<Option<Value>>,
    /// Those that were read in this attempt.
    records: Counter,
    /// What makes watermarks of its records; usually one operator.
    watermarks: Mutex<Vec<Arc<PartitionWatermark>>>,
}

impl PartitionActivity {
    /// So many records were read.
    pub(crate) fn add_records(&self, records: u64) {
        self.records.add(records);
    }

    /// Records were read, or nothing since this time.
    pub(crate) fn set_quiet_since(&self, since_ms: Option<i64>) {
        self.quiet_since.store(since_ms.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// It was read to its end.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// It is too far ahead of the others to be read, or no longer.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// A barrier has come: the reader is here.
    pub(crate) fn set_position(&self, position: &Value) {
        *lock(&self.position) = Some(position.clone());
    }

    /// Adds an operator that makes watermarks of its records.
    pub(crate) fn watermark(&self, step: &Arc<Step>) -> Arc<PartitionWatermark> {
        let watermark = Arc::new(PartitionWatermark {
            step: step.clone(),
            watermark: AtomicI64::new(NONE),
            highest: AtomicI64::new(NONE),
            is_idle: AtomicBool::new(false),
        });
        lock(&self.watermarks).push(watermark.clone());
        watermark
    }

    fn lag(&self, now_ms: i64) -> Option<i64> {
        let highest =
            lock(&self.watermarks).iter().map(|watermark| watermark.highest.load(Ordering::Relaxed)).max();
        let is_at_its_end = self.has_ended.load(Ordering::Relaxed)
            || known(self.quiet_since.load(Ordering::Relaxed)).is_some();
        let behind = now_ms.saturating_sub(highest.and_then(known)?).max(0);
        Some(if is_at_its_end { 0 } else { behind })
    }

    fn progress(&self, source: &str, worker: Slot) -> Vec<PartitionProgress> {
        let has_ended = self.has_ended.load(Ordering::Relaxed);
        let without = PartitionProgress {
            source: source.to_owned(),
            partition: self.name.clone(),
            worker,
            event_time: None,
            watermark_ms: None,
            state: if has_ended { PartitionState::Ended } else { PartitionState::Active },
            quiet_since_ms: known(self.quiet_since.load(Ordering::Relaxed)).filter(|_| !has_ended),
            position: lock(&self.position).clone(),
            records: self.records.get(),
        };
        let of_operator = |watermark: &Arc<PartitionWatermark>| PartitionProgress {
            event_time: Some(watermark.step.name()),
            watermark_ms: known(watermark.watermark.load(Ordering::Relaxed)),
            state: match without.state {
                PartitionState::Active if watermark.is_idle.load(Ordering::Relaxed) => PartitionState::Idle,
                PartitionState::Active if self.is_paused.load(Ordering::Relaxed) => PartitionState::Paused,
                state => state,
            },
            ..without.clone()
        };
        let all: Vec<_> = lock(&self.watermarks).iter().map(of_operator).collect();
        if all.is_empty() { vec![without] } else { all }
    }
}

/// The watermark that an operator makes of a partition's records.
pub(crate) struct PartitionWatermark {
    step: Arc<Step>,
    watermark: AtomicI64,
    /// The highest event time of its records.
    highest: AtomicI64,
    is_idle: AtomicBool,
}

impl PartitionWatermark {
    pub(crate) fn set(&self, watermark: i64, highest: i64, is_idle: bool) {
        self.watermark.store(watermark, Ordering::Relaxed);
        self.highest.store(highest, Ordering::Relaxed);
        self.is_idle.store(is_idle, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, descriptors};
    use crate::step::StepKind;

    #[test]
    fn the_lag_is_that_of_the_partition_that_is_furthest_behind_and_has_more_to_read() {
        let (metrics, step) = (Metrics::default(), Step::new(StepKind::Source, "readings"));
        let source =
            SourceActivity::new(&step, Slot(1), metrics.gauge(&step, descriptors::SOURCE_LAG_MS, Slot(1)));
        let partitions = ["a", "b"].map(|name| {
            let records = metrics.partition_counter(&step, descriptors::PARTITION_RECORDS, Slot(1), name);
            source.partition(name, None, records)
        });
        source.show_lag(100);
        assert!(!metrics.render("j").contains("lag"), "nothing is known yet");
        let event_time = Step::new(StepKind::EventTime, "time");
        for (partition, highest) in partitions.iter().zip([40, 70]) {
            partition.watermark(&event_time).set(highest - 5, highest, false);
        }
        let lag = || {
            source.show_lag(100);
            source.lag.get()
        };
        assert_eq!(lag(), 60);
        partitions[1].set_paused(true);
        let states: Vec<_> = source.progress().iter().map(|p| p.state).collect();
        assert_eq!(states, [PartitionState::Active, PartitionState::Paused]);
        partitions[1].set_paused(false);
        partitions[0].set_quiet_since(Some(90));
        assert_eq!(lag(), 30);
        partitions[1].end();
        assert_eq!(lag(), 0);
        let progress = source.progress();
        let shown: Vec<_> =
            progress.iter().map(|p| (&*p.partition, p.state, p.watermark_ms, p.quiet_since_ms)).collect();
        let expected =
            [("a", PartitionState::Active, Some(35), Some(90)), ("b", PartitionState::Ended, Some(65), None)];
        assert_eq!(shown, expected);
    }
}
