//! Numbers that a job keeps about itself: counters that ride in the snapshot, and gauges that do not.
//!
//! Every value has one writer, a worker, and any number of readers; so adding is a load and a store.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidegate_protocol::Slot;

use crate::step::{Step, StepKind};

/// A total that only grows, of one step on one worker.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    step: Arc<Step>,
    name: &'static str,
    slot: Slot,
    value: Arc<AtomicU64>,
}

impl Counter {
    pub(crate) fn step(&self) -> &Step {
        &self.step
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
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
    name: &'static str,
    slot: Slot,
    value: Arc<AtomicI64>,
}

impl Gauge {
    fn new(step: &Arc<Step>, name: &'static str, slot: Slot) -> Self {
        Self { step: step.clone(), name, slot, value: Arc::new(AtomicI64::new(i64::MIN)) }
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
}

/// The time that a step has spent in something, in microseconds, with what is under way.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch {
    total: Gauge,
    base: Instant,
    /// Microseconds after `base` at which what is under way began; 0 if nothing is.
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
        // In this order: what ends in between is missing for a moment, and not there twice.
        let total = self.total.get().max(0);
        match self.began.load(Ordering::Relaxed) {
            0 => total,
            began => total + self.micros(Instant::now()).saturating_sub(began) as i64,
        }
    }
}

/// A step that has not come back.
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
    name: &'static str,
    worker: Option<Slot>,
    help: &'static str,
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
    pub(crate) fn counter(&self, step: &Arc<Step>, name: &'static str, slot: Slot) -> Counter {
        let counter = Counter { step: step.clone(), name, slot, value: Arc::default() };
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(counter.clone());
        counter
    }

    pub(crate) fn gauge(&self, step: &Arc<Step>, name: &'static str, slot: Slot) -> Gauge {
        let gauge = Gauge::new(step, name, slot);
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).push(gauge.clone());
        gauge
    }

    pub(crate) fn stopwatch(&self, step: &Arc<Step>, name: &'static str, slot: Slot) -> Stopwatch {
        let stopwatch =
            Stopwatch { total: Gauge::new(step, name, slot), base: Instant::now(), began: Arc::default() };
        self.stopwatches.lock().unwrap_or_else(PoisonError::into_inner).push(stopwatch.clone());
        stopwatch
    }

    /// Sets which steps have not come back; all others have.
    pub(crate) fn set_stuck(&self, stuck: Vec<Stuck>) {
        *self.stuck.lock().unwrap_or_else(PoisonError::into_inner) = stuck;
    }

    /// Sets a number of the job as a whole, or of all that one of its workers does.
    pub(crate) fn set(&self, name: &'static str, worker: Option<Slot>, help: &'static str, value: f64) {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        match whole.iter_mut().find(|entry| (entry.name, entry.worker) == (name, worker)) {
            Some(entry) => entry.value = value,
            None => whole.push(Whole { name, worker, help, value }),
        }
        whole.sort_by_key(|entry| (entry.name, entry.worker));
    }

    /// The sum of a number without a step over all workers; None if nobody has set it.
    pub(crate) fn whole(&self, name: &str) -> Option<f64> {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let values = whole.iter().filter(|entry| entry.name == name).map(|entry| entry.value);
        values.reduce(|a, b| a + b)
    }

    /// The sum of a counter over all steps of a kind and all workers.
    pub(crate) fn total(&self, kind: StepKind, name: &str) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().filter(|c| c.step.kind() == kind && c.name == name).map(Counter::get).sum()
    }

    /// The least value of a gauge over all steps and workers that have set it.
    pub(crate) fn least(&self, name: &str) -> Option<i64> {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.iter().filter(|g| g.name == name).map(Gauge::get).filter(|&v| v != i64::MIN).min()
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self, job: &str) -> String {
        let mut lines = Vec::new();
        for c in self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let name = format!("tidegate_{}_total", c.name);
            lines.push(sample(job, name, "counter", &c.step, c.slot, "", c.get() as f64));
        }
        let mut gauge = |g: &Gauge, value: i64| {
            if value != i64::MIN {
                let name = format!("tidegate_{}", g.name);
                lines.push(sample(job, name, "gauge", &g.step, g.slot, "", value as f64));
            }
        };
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|g| gauge(g, g.get()));
        let stopwatches = self.stopwatches.lock().unwrap_or_else(PoisonError::into_inner);
        stopwatches.iter().for_each(|s| gauge(&s.total, s.get()));
        for s in self.stuck.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let name = "tidegate_stuck_seconds".to_owned();
            let record = format!(",record=\"{}\"", escape(&s.record));
            lines.push(sample(job, name, "gauge", &s.step, s.slot, &record, s.seconds));
        }
        lines.sort();
        let mut text = String::new();
        let mut last = String::new();
        for (name, kind, line) in lines {
            if name != last {
                let _ = writeln!(text, "# TYPE {name} {kind}");
                last = name;
            }
            text.push_str(&line);
        }
        for Whole { name, worker, help, value } in
            self.whole.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            if *name != last {
                let _ = writeln!(text, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} gauge");
                last = (*name).to_owned();
            }
            let worker = worker.map_or(String::new(), |slot| format!(",worker=\"{slot}\""));
            let _ = writeln!(text, "tidegate_{name}{{job=\"{}\"{worker}}} {value}", escape(job));
        }
        text
    }
}

/// A sample: its metric, the metric's type, the line. `more` are further labels.
fn sample(
    job: &str,
    name: String,
    kind: &'static str,
    step: &Step,
    slot: Slot,
    more: &str,
    value: f64,
) -> Sample {
    let (job, step) = (escape(job), escape(&step.name()));
    let line = format!("{name}{{job=\"{job}\",operator=\"{step}\",worker=\"{slot}\"{more}}} {value}\n");
    (name, kind, line)
}

type Sample = (String, &'static str, String);

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
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
            metrics.counter(&step, "records_in", slot).add(5 + u64::from(slot.0));
            metrics.set("checkpoint_bytes", Some(slot), "Bytes.", 7.0);
        }
        metrics.gauge(&step, "state_entries", Slot(0)).set(3);
        metrics.gauge(&step, "watermark_ms", Slot(0));
        metrics.stopwatch(&step, "busy_microseconds", Slot(0));
        metrics.set_stuck(vec![]);
        let record = "offset 7".to_owned();
        metrics.set_stuck(vec![Stuck { step: step.clone(), slot: Slot(1), record, seconds: 6.5 }]);
        metrics.set("epoch", None, "The epoch.", 9.0);
        metrics.set("epoch", None, "The epoch.", 12.0);
        let text = r#"# TYPE tidegate_busy_microseconds gauge
tidegate_busy_microseconds{job="j",operator="read\"ings",worker="0"} 0
# TYPE tidegate_records_in_total counter
tidegate_records_in_total{job="j",operator="read\"ings",worker="0"} 5
tidegate_records_in_total{job="j",operator="read\"ings",worker="1"} 6
# TYPE tidegate_state_entries gauge
tidegate_state_entries{job="j",operator="read\"ings",worker="0"} 3
# TYPE tidegate_stuck_seconds gauge
tidegate_stuck_seconds{job="j",operator="read\"ings",worker="1",record="offset 7"} 6.5
# HELP tidegate_checkpoint_bytes Bytes.
# TYPE tidegate_checkpoint_bytes gauge
tidegate_checkpoint_bytes{job="j",worker="0"} 7
tidegate_checkpoint_bytes{job="j",worker="1"} 7
# HELP tidegate_epoch The epoch.
# TYPE tidegate_epoch gauge
tidegate_epoch{job="j"} 12
"#;
        assert_eq!(metrics.render("j"), text);
        assert_eq!((metrics.whole("checkpoint_bytes"), metrics.whole("nothing")), (Some(14.0), None));
    }

    #[test]
    fn a_stopwatch_shows_what_is_under_way() {
        let metrics = Metrics::default();
        let stopwatch =
            metrics.stopwatch(&Step::new(StepKind::Chain, "readings"), "busy_microseconds", Slot(0));
        let began = stopwatch.base + Duration::from_millis(1);
        stopwatch.start(began);
        stopwatch.stop(began + Duration::from_millis(5));
        assert_eq!(stopwatch.get(), 5_000);
        // It began at the base, which is not now any more.
        stopwatch.start(stopwatch.base);
        while stopwatch.get() == 5_000 {}
        stopwatch.stop(stopwatch.base + Duration::from_millis(2));
        assert!((6_999..=7_000).contains(&stopwatch.get()), "{}", stopwatch.get());
    }
}
