//! The metrics as text for Prometheus, in its own text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use tidegate_protocol::Slot;

use super::descriptors::{self, Descriptor};
use super::{Counter, Gauge, Metrics, NOT_SET, Stuck, Whole, lock};
use crate::step::Step;

/// The labels of a sample, beside the job.
type Labels = Vec<(&'static str, String)>;

/// A value at the moment.
#[derive(Clone, Copy, Debug)]
enum Value {
    Counter(u64),
    Whole(i64),
    Real(f64),
}

impl Value {
    fn of(value: f64) -> Self {
        let whole = value as i64;
        if whole as f64 == value { Self::Whole(whole) } else { Self::Real(value) }
    }
}

/// All values at the moment, by the name of the metric.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, Vec<(Labels, Value)>>);

/// Everything in Prometheus' text format.
pub(super) fn render(metrics: &Metrics, job: &str) -> String {
    let labels = [("job".into(), job.to_owned().into())];
    let mut registry = Registry::with_prefix_and_labels("tidegate", labels.into_iter());
    registry.register_collector(Box::new(Samples::of(metrics)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

fn of_step(step: &Step, slot: Slot) -> Labels {
    vec![("operator", step.name()), ("worker", slot.to_string())]
}

impl Samples {
    fn of(metrics: &Metrics) -> Self {
        let mut samples = Self::default();
        for Counter { step, metric, slot, partition, value } in lock(&metrics.counters).iter() {
            let value = value.load(std::sync::atomic::Ordering::Relaxed);
            let partition = partition.iter().map(|partition| ("partition", partition.to_string()));
            let labels = of_step(step, *slot).into_iter().chain(partition).collect();
            samples.add(metric.name, labels, Value::Counter(value));
        }
        lock(&metrics.gauges).iter().for_each(|gauge| samples.add_gauge(gauge, gauge.get()));
        lock(&metrics.stopwatches).iter().for_each(|watch| samples.add_gauge(&watch.total, watch.get()));
        for Stuck { step, slot, record, seconds } in lock(&metrics.stuck).iter() {
            let mut labels = of_step(step, *slot);
            labels.push(("record", record.clone()));
            samples.add(descriptors::STUCK_SECONDS.name, labels, Value::Real(*seconds));
        }
        for Whole { metric, worker, value } in lock(&metrics.whole).iter() {
            let labels = worker.map(|slot| ("worker", slot.to_string()));
            samples.add(metric.name, labels.into_iter().collect(), Value::of(*value));
        }
        samples.0.values_mut().for_each(|samples| samples.sort_by(|a, b| a.0.cmp(&b.0)));
        samples
    }

    fn add_gauge(&mut self, gauge: &Gauge, value: i64) {
        if value != NOT_SET {
            self.add(gauge.metric.name, of_step(&gauge.step, gauge.slot), Value::Whole(value));
        }
    }

    fn add(&mut self, name: &'static str, labels: Labels, value: Value) {
        self.0.entry(name).or_default().push((labels, value));
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Descriptor { name, kind, help } in descriptors::ALL {
            let Some(samples) = self.0.get(name) else { continue };
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                match kind {
                    // One without labels of its own is no family.
                    _ if labels.is_empty() => encode(&mut metric, *value)?,
                    _ => encode(&mut metric.encode_family(labels)?, *value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, value: Value) -> fmt::Result {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    match value {
        Value::Counter(value) => metric.encode_counter(&value, NO_EXEMPLAR),
        Value::Whole(value) => metric.encode_gauge(&value),
        Value::Real(value) => metric.encode_gauge(&value),
    }
}
