//! A build function that describes another dataflow at another call: the job ends at once, with the first difference.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidegate::aggregates::Count;
use tidegate::testing::{Discard, TestJob, TestSource, VecSink, VecSource};
use tidegate::{Error, Job, Result, Stream};

/// Far less than it takes to give up on a worker that hangs.
const AT_ONCE: Duration = Duration::from_secs(4);

type Pair = (String, u64);

/// Runs a job whose build function is told by the how manyth call it is called; 0 is the check. The input has no end, so
/// that only a refusal ends the job.
fn refusal(
    workers: usize,
    build: impl Fn(u32, Stream<Pair>) -> Result<()> + Send + Sync + 'static,
) -> String {
    let (source, calls) = (TestSource::new(2), AtomicU32::new(0));
    source.push(0, ("a".to_owned(), 1));
    let job = TestJob::new(move |job: &mut Job| {
        build(calls.fetch_add(1, Ordering::SeqCst), job.source("in", source.clone()))
    });
    let (job, began) = (job.parallelism(workers), Instant::now());
    let text = job.run().unwrap_err().to_string();
    assert!(began.elapsed() < AT_ONCE, "{:?}: {text}", began.elapsed());
    text
}

fn differs(text: &str, parts: &[&str]) {
    assert!(
        text.contains("describes another dataflow than the one that was checked before the start"),
        "{text}"
    );
    assert!(text.contains("do not loop over a HashMap"), "{text}");
    assert!(!text.contains("defect"), "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "'{part}' is not in: {text}"));
}

fn count(stream: Stream<Pair>) {
    stream.key_by(|r| &r.0).aggregate("n", Count).sink("out", Discard::named("out"));
}

#[test]
fn a_loop_over_a_hash_map_is_refused() {
    let sinks: BTreeMap<String, VecSink<_>> =
        (0..16).map(|n| (format!("n{n}"), VecSink::named(&format!("n{n}")))).collect();
    let (given, source) = (sinks.clone(), VecSource::of((0..100u64).map(|n| (n.to_string(), n))));
    let job = TestJob::new(move |job: &mut Job| {
        let numbers = job.source("in", source.clone());
        // Another order at every call.
        for (name, sink) in given.clone().into_iter().collect::<HashMap<_, _>>() {
            numbers
                .clone()
                .key_by(|r: &Pair| &r.0)
                .aggregate(&name, Count)
                .sink(&format!("{name}.out"), sink);
        }
        Ok(())
    });
    let mut job = job;
    for workers in 1..=3 {
        job = job.parallelism(workers);
        differs(&job.run().unwrap_err().to_string(), &["the aggregate 'n"]);
        assert!(sinks.values().all(|sink| sink.records().is_empty()), "something was published");
    }
}

#[test]
fn an_exchange_more_on_one_worker_is_refused() {
    let text = refusal(2, |call, s| {
        count(if call == 2 { s.rebalance() } else { s });
        Ok(())
    });
    differs(&text, &["is the rebalance 'rebalance-1' on worker", "and was the aggregate 'n'"]);
}

#[test]
fn an_exchange_less_on_one_worker_is_refused() {
    let text = refusal(2, |call, s| {
        count(if call == 2 { s } else { s.rebalance() });
        Ok(())
    });
    differs(&text, &["is the aggregate 'n' on worker", "and was the rebalance 'rebalance-1'"]);
}

#[test]
fn another_type_of_key_is_refused() {
    let text = refusal(2, |call, s| {
        match call {
            2 => s.key_by(|r| &r.1).aggregate("n", Count).sink("out", Discard::named("out")),
            _ => s.key_by(|r| &r.0).aggregate("n", Count).sink("out", Discard::named("out")),
        };
        Ok(())
    });
    differs(
        &text,
        &[
            "by key u64",
            "by key String",
            "records of type (String, u64) ((str,u64)) from operator 0 to operator 1",
        ],
    );
}

#[test]
fn another_type_of_records_is_refused() {
    let text = refusal(2, |call, s| {
        match call {
            2 => s.map(|r| r.0).rebalance().sink("out", Discard::named("out")),
            _ => s.map(|r| r.1).rebalance().sink("out", Discard::named("out")),
        };
        Ok(())
    });
    differs(&text, &["records of type String (str)", "records of type u64 (u64)"]);
}

#[test]
fn another_name_is_refused_with_any_number_of_workers() {
    for workers in 1..=3 {
        let text = refusal(workers, |call, s| {
            s.key_by(|r| &r.0).aggregate(&format!("n{call}"), Count).sink("out", Discard::named("out"));
            Ok(())
        });
        differs(&text, &["is the aggregate 'n", "and was the aggregate 'n0'"]);
    }
}

#[test]
fn another_uid_is_refused() {
    let text = refusal(1, |call, s| {
        s.filter(|_| true).uid(&format!("u{call}")).sink("out", Discard::named("out"));
        Ok(())
    });
    differs(&text, &["the filter 'filter-1' with the uid 'u1'", "the filter 'filter-1' with the uid 'u0'"]);
}

#[test]
fn a_step_more_or_less_at_the_end_is_refused() {
    let text = refusal(2, |call, s| {
        if call == 2 {
            s.clone().sink("second", Discard::named("second"));
        }
        s.sink("out", Discard::named("out"));
        Ok(())
    });
    differs(&text, &["is the sink 'second' on worker", "and was the sink 'out'"]);
    let text = refusal(2, |call, s| {
        s.clone().sink("out", Discard::named("out"));
        if call != 2 {
            s.sink("second", Discard::named("second"));
        }
        Ok(())
    });
    differs(&text, &["is its end on worker", "and was the sink 'second'"]);
}

#[test]
fn a_build_function_that_fails_or_panics_on_one_worker_ends_the_job_at_once() {
    let text = refusal(2, |call, s| {
        count(s);
        if call == 2 { Err(Error::environment("the second worker cannot load its model")) } else { Ok(()) }
    });
    assert!(text.contains("cannot load its model"), "{text}");
    let text = refusal(2, |call, s| {
        assert!(call != 2, "no model");
        count(s);
        Ok(())
    });
    assert!(text.contains("no model"), "{text}");
}

/// The two streams of a split are taken in another order on one worker: steps, edges and types have the same names.
#[test]
fn an_edge_from_another_output_of_a_step_is_refused() {
    let (calls, out) = (AtomicU32::new(0), VecSink::<(u32, u64)>::named("small"));
    let (to, other) = (out.clone(), VecSink::<(u32, u64)>::named("large"));
    let job = TestJob::new(move |job| {
        let numbers = job.source("in", VecSource::partitions([0..100u32, 0..100u32]));
        let (small, large) = numbers.split(|n| if n < 50 { Ok(n) } else { Err(n) });
        let swap = calls.fetch_add(1, Ordering::SeqCst) == 2;
        let (first, second) = if swap { (large, small) } else { (small, large) };
        first.key_by_value(|n: &u32| n % 10).aggregate("small", Count).sink("small.out", to.clone());
        second.key_by_value(|n: &u32| n % 10).aggregate("large", Count).sink("large.out", other.clone());
        Ok(())
    });
    let ended = job.parallelism(2).run();
    assert!(ended.is_err(), "nobody noticed; 'small' counted {:?}", out.sorted());
}
