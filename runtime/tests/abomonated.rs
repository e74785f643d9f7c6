//! A job whose records cross between processes as they lie in memory, beside others that cross as serde writes them.

#![allow(deprecated, reason = "the macro says what the derive hides: which fields are behind pointers")]

use abomonation::Abomonation;
use serde::{Deserialize, Serialize};
use tidegate::testing::{TestJob, VecSink, VecSource};

#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Reading {
    device: String,
    note: Option<String>,
    at: i64,
    value: f64,
}

abomonation::unsafe_abomonate!(Reading: device, note);

fn readings() -> Vec<Reading> {
    let reading = |i: i64| Reading {
        device: format!("device-{}", i % 10),
        note: (i % 3 == 0).then(|| format!("reading {i}")),
        at: i,
        value: 0.5 * i as f64,
    };
    (0..5_000).map(reading).collect()
}

#[test]
fn records_cross_as_they_lie_in_memory() {
    let (source, out, numbers) = (VecSource::of(readings()), VecSink::new(), VecSink::new());
    let (sink, others) = (out.clone(), numbers.clone());
    let job = TestJob::new(move |job| {
        // SAFETY: numbers, and texts that are named above.
        unsafe { job.abomonate::<Reading>() };
        job.source("readings", source.clone()).rebalance().sink("out", sink.clone());
        job.source("numbers", VecSource::of(0..100u64)).rebalance().sink("others", others.clone());
        Ok(())
    });
    job.parallelism(3).no_interval().over_the_wire().run().unwrap();
    let mut all = out.records();
    all.sort_by_key(|reading| reading.at);
    assert_eq!(all, readings());
    assert_eq!(numbers.sorted(), (0..100).collect::<Vec<_>>());
}
