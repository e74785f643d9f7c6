//! Numbers that a job keeps about itself: counters that ride in the snapshot, and gauges that do not.
//!
//! Every value has one writer, a worker, and any number of readers; so adding is a load and a store.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::Slot;

/// The name of a step of a job, which may be given after the step was made.
#[derive(Debug)]
pub(crate) struct Step {
    kind: &'static str,
    /// The step that this one is called after.
    after: Option<Arc<Step>>,
    names: Mutex<(String, Option<String>)>,
}

impl Step {
    pub(crate) fn new(kind: &'static str, name: &str) -> Arc<Self> {
        Arc::new(Self { kind, after: None, names: Mutex::new((name.to_owned(), None)) })
    }

    /// A step that is called after another one, whatever that comes to be called.
    pub(crate) fn after(kind: &'static str, other: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { kind, after: Some(other.clone()), names: Mutex::default() })
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn name(&self) -> String {
        match &self.after {
            Some(other) => format!("{}.{}", other.name(), self.kind),
            None => self.names.lock().unwrap_or_else(PoisonError::into_inner).0.clone(),
        }
    }

    pub(crate) fn rename(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).0 = name.to_owned();
    }

    /// What the step is called in a snapshot: its name, unless it was given something that stays when the name changes.
    pub(crate) fn uid(&self) -> String {
        if let Some(other) = &self.after {
            return format!("{}.{}", other.uid(), self.kind);
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.1.clone().unwrap_or_else(|| names.0.clone())
    }

    pub(crate) fn set_uid(&self, uid: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(uid.to_owned());
    }
}

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
        let value = Arc::new(AtomicI64::new(i64::MIN));
        let gauge = Gauge { step: step.clone(), name, slot, value };
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).push(gauge.clone());
        gauge
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
    pub(crate) fn total(&self, kind: &str, name: &str) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().filter(|c| c.step.kind == kind && c.name == name).map(Counter::get).sum()
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
            lines.push(sample(job, name, "counter", &c.step, c.slot, c.get() as f64));
        }
        for g in self.gauges.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if g.get() != i64::MIN {
                let name = format!("tidegate_{}", g.name);
                lines.push(sample(job, name, "gauge", &g.step, g.slot, g.get() as f64));
            }
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

/// A sample: its metric, the metric's type, the line.
fn sample(job: &str, name: String, kind: &'static str, step: &Step, slot: Slot, value: f64) -> Sample {
    let (job, step) = (escape(job), escape(&step.name()));
    let line = format!("{name}{{job=\"{job}\",operator=\"{step}\",worker=\"{slot}\"}} {value}\n");
    (name, kind, line)
}

type Sample = (String, &'static str, String);

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_value_with_its_operator_and_worker() {
        let metrics = Metrics::default();
        let step = Step::new("source", "read\"ings");
        for slot in [Slot(1), Slot(0)] {
            metrics.counter(&step, "records_in", slot).add(5 + u64::from(slot.0));
            metrics.set("checkpoint_bytes", Some(slot), "Bytes.", 7.0);
        }
        metrics.gauge(&step, "state_entries", Slot(0)).set(3);
        metrics.gauge(&step, "watermark_ms", Slot(0));
        metrics.set("epoch", None, "The epoch.", 9.0);
        metrics.set("epoch", None, "The epoch.", 12.0);
        let text = r#"# TYPE tidegate_records_in_total counter
tidegate_records_in_total{job="j",operator="read\"ings",worker="0"} 5
tidegate_records_in_total{job="j",operator="read\"ings",worker="1"} 6
# TYPE tidegate_state_entries gauge
tidegate_state_entries{job="j",operator="read\"ings",worker="0"} 3
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
}
