//! The metrics of a job: counters, which are part of the snapshot, and gauges, which are not.
//!
//! Every value has one writer, a worker, and any number of readers; so adding is a load and a store. That is why the values
//! are not those of a metrics library.
//!
//! - [`descriptors`]: the metrics that there are.
//! - [`exposition`]: all of them as text for Prometheus.

pub(crate) mod descriptors;
pub(crate) mod exposition;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_protocol::Slot;

use crate::step::{Step, StepKind};
use descriptors::Descriptor;

/// The value of a gauge that has not been set.
const NOT_SET: i64 = i64::MIN;

fn lock<T>(values: &Mutex<T>) -> MutexGuard<'_, T> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A total that only grows, of one step on one worker.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    step: Arc<Step>,
    metric: Descriptor,
    slot: Slot,
    /// The partition that it is about, if it is about one.
    partition: Option<Arc<str>>,
    value: Arc<AtomicU64>,
}

impl Counter {
    pub(crate) fn step(&self) -> &Step {
        &self.step
    }

    pub(crate) fn name(&self) -> &'static str {
        self.metric.name
    }

    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.value.store(self.value.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
    }
}

/// A value that goes up and down, of one step on one worker.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    step: Arc<Step>,
    metric: Descriptor,
    slot: Slot,
    value: Arc<AtomicI64>,
}

impl Gauge {
    fn new(step: &Arc<Step>, metric: Descriptor, slot: Slot) -> Self {
        Self { step: step.clone(), metric, slot, value: Arc::new(AtomicI64::new(NOT_SET)) }
    }

    /// Adds to a gauge that counts up.
    #[inline]
    pub(crate) fn add(&self, n: i64) {
        self.value.store(self.value.load(Ordering::Relaxed).max(0) + n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The step that it is about, and the worker.
    pub(crate) fn of(&self) -> (Arc<Step>, Slot) {
        (self.step.clone(), self.slot)
    }
}

/// The time that a step has spent in some activity, in microseconds, including the interval in progress.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch {
    total: Gauge,
    base: Instant,
    /// Microseconds after `base` at which the interval in progress began; 0 if there is none.
    began: Arc<AtomicU64>,
}

impl Stopwatch {
    pub(crate) fn start(&self, now: Instant) {
        self.began.store((self.micros(now)).max(1), Ordering::Relaxed);
    }

    pub(crate) fn stop(&self, now: Instant) {
        let began = self.began.load(Ordering::Relaxed);
        self.total.add(self.micros(now).saturating_sub(began) as i64);
        self.began.store(0, Ordering::Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        (now - self.base).as_micros() as u64
    }

    fn get(&self) -> i64 {
        // In this order: an interval that ends in between is missing for a moment, but is never counted twice.
        let total = self.total.get().max(0);
        match self.began.load(Ordering::Relaxed) {
            0 => total,
            began => total + self.micros(Instant::now()).saturating_sub(began) as i64,
        }
    }
}

/// A step whose code has not returned for a long time.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    pub(crate) step: Arc<Step>,
    pub(crate) slot: Slot,
    /// What is known of the record, as messages name it.
    pub(crate) record: String,
    pub(crate) seconds: f64,
}

/// A value that belongs to no step: to the job as a whole, or to one of its workers.
#[derive(Debug)]
struct Whole {
    metric: Descriptor,
    worker: Option<Slot>,
    value: f64,
}

/// All numbers of a process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counters: Mutex<Vec<Counter>>,
    gauges: Mutex<Vec<Gauge>>,
    stopwatches: Mutex<Vec<Stopwatch>>,
    stuck: Mutex<Vec<Stuck>>,
    /// Those without a step.
    whole: Mutex<Vec<Whole>>,
}

impl Metrics {
    pub(crate) fn counter(&self, step: &Arc<Step>, metric: Descriptor, slot: Slot) -> Counter {
        self.add(Counter { step: step.clone(), metric, slot, partition: None, value: Arc::default() })
    }

    /// A total of one partition of a source.
    pub(crate) fn partition_counter(
        &self,
        step: &Arc<Step>,
        metric: Descriptor,
        slot: Slot,
        partition: &str,
    ) -> Counter {
        let partition = Some(partition.into());
        self.add(Counter { step: step.clone(), metric, slot, partition, value: Arc::default() })
    }

    fn add(&self, counter: Counter) -> Counter {
        lock(&self.counters).push(counter.clone());
        counter
    }

    pub(crate) fn gauge(&self, step: &Arc<Step>, metric: Descriptor, slot: Slot) -> Gauge {
        let gauge = Gauge::new(step, metric, slot);
        lock(&self.gauges).push(gauge.clone());
        gauge
    }

    pub(crate) fn stopwatch(&self, step: &Arc<Step>, metric: Descriptor, slot: Slot) -> Stopwatch {
        let stopwatch =
            Stopwatch { total: Gauge::new(step, metric, slot), base: Instant::now(), began: Arc::default() };
        lock(&self.stopwatches).push(stopwatch.clone());
        stopwatch
    }

    /// Sets the steps whose code has not returned for a long time, in place of those set before.
    pub(crate) fn set_stuck(&self, stuck: Vec<Stuck>) {
        *lock(&self.stuck) = stuck;
    }

    /// Sets a number of the job as a whole, or of all that one of its workers does.
    pub(crate) fn set(&self, metric: Descriptor, worker: Option<Slot>, value: f64) {
        let mut whole = lock(&self.whole);
        match whole.iter_mut().find(|entry| (entry.metric.name, entry.worker) == (metric.name, worker)) {
            Some(entry) => entry.value = value,
            None => whole.push(Whole { metric, worker, value }),
        }
    }

    /// The sum of a metric without a step over all workers; None if it has not been set.
    pub(crate) fn whole(&self, metric: Descriptor) -> Option<f64> {
        let whole = lock(&self.whole);
        let values = whole.iter().filter(|entry| entry.metric.name == metric.name).map(|entry| entry.value);
        values.reduce(|a, b| a + b)
    }

    /// The sum of a counter over all steps of a kind and all workers.
    pub(crate) fn total(&self, kind: StepKind, metric: Descriptor) -> u64 {
        let counters = lock(&self.counters);
        counters.iter().filter(|c| c.step.kind() == kind && c.name() == metric.name).map(Counter::get).sum()
    }

    /// The least value of a gauge over all steps and workers that have set it.
    pub(crate) fn least(&self, metric: Descriptor) -> Option<i64> {
        let gauges = lock(&self.gauges);
        gauges.iter().filter(|g| g.metric.name == metric.name).map(Gauge::get).filter(|&v| v != NOT_SET).min()
    }

    /// The watermarks of all steps that have one, on every worker; None for one that has none yet.
    pub(crate) fn watermarks(&self) -> Vec<(Arc<Step>, Slot, Option<i64>)> {
        let gauges = lock(&self.gauges);
        let watermarks = gauges.iter().filter(|gauge| gauge.metric.name == descriptors::WATERMARK_MS.name);
        let known = |gauge: &Gauge| Some(gauge.get()).filter(|value| *value != NOT_SET);
        watermarks.map(|gauge| (gauge.step.clone(), gauge.slot, known(gauge))).collect()
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self, job: &str) -> String {
        exposition::render(self, job)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_names_every_value_with_its_operator_and_worker() {
        let metrics = Metrics::default();
        let step = Step::new(StepKind::Source, "read\"ings");
        for slot in [Slot(1), Slot(0)] {
            metrics.counter(&step, descriptors::RECORDS_IN, slot).add(5 + u64::from(slot.0));
            metrics.set(descriptors::CHECKPOINT_BYTES, Some(slot), 7.0);
        }
        metrics.gauge(&step, descriptors::STATE_ENTRIES, Slot(0)).set(3);
        metrics.gauge(&step, descriptors::WATERMARK_MS, Slot(0));
        metrics.stopwatch(&step, descriptors::BUSY_MICROSECONDS, Slot(0));
        metrics.set_stuck(vec![]);
        let record = "offset 7".to_owned();
        metrics.set_stuck(vec![Stuck { step: step.clone(), slot: Slot(1), record, seconds: 6.5 }]);
        metrics.set(descriptors::EPOCH, None, 9.0);
        metrics.set(descriptors::EPOCH, None, 12.0);
        let text = r#"# HELP tidegate_records_in_total Records taken; at a source malformed ones too.
# TYPE tidegate_records_in_total counter
tidegate_records_in_total{job="j",operator="read\"ings",worker="0"} 5
tidegate_records_in_total{job="j",operator="read\"ings",worker="1"} 6
# HELP tidegate_state_entries Keys in memory; not those that are only on disk.
# TYPE tidegate_state_entries gauge
tidegate_state_entries{job="j",operator="read\"ings",worker="0"} 3
# HELP tidegate_busy_microseconds Time spent working since the start of the attempt, with what is under way.
# TYPE tidegate_busy_microseconds gauge
tidegate_busy_microseconds{job="j",operator="read\"ings",worker="0"} 0
# HELP tidegate_stuck_seconds For how long a step has not come back from a record; there only while it hangs.
# TYPE tidegate_stuck_seconds gauge
tidegate_stuck_seconds{job="j",operator="read\"ings",worker="1",record="offset 7"} 6.5
# HELP tidegate_epoch The last epoch that is complete and published.
# TYPE tidegate_epoch gauge
tidegate_epoch{job="j"} 12
# HELP tidegate_checkpoint_bytes The size of the worker's state in its last snapshot.
# TYPE tidegate_checkpoint_bytes gauge
tidegate_checkpoint_bytes{job="j",worker="0"} 7
tidegate_checkpoint_bytes{job="j",worker="1"} 7
"#;
        assert_eq!(metrics.render("j"), text);
        assert_eq!(
            (metrics.whole(descriptors::CHECKPOINT_BYTES), metrics.whole(descriptors::MESSAGES_DROPPED)),
            (Some(14.0), None)
        );
    }

    #[test]
    fn a_stopwatch_shows_what_is_under_way() {
        let metrics = Metrics::default();
        let stopwatch = metrics.stopwatch(
            &Step::new(StepKind::Chain, "readings"),
            descriptors::BUSY_MICROSECONDS,
            Slot(0),
        );
        let began = stopwatch.base + Duration::from_millis(1);
        stopwatch.start(began);
        stopwatch.stop(began + Duration::from_millis(5));
        assert_eq!(stopwatch.get(), 5_000);
        // The interval began at the base, which is in the past.
        stopwatch.start(stopwatch.base);
        while stopwatch.get() == 5_000 {}
        stopwatch.stop(stopwatch.base + Duration::from_millis(2));
        assert!((6_999..=7_000).contains(&stopwatch.get()), "{}", stopwatch.get());
    }
}
