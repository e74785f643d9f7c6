//! Partitions that are read at different speeds of event time stay near each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidegate::Watermarks;
use tidegate::testing::{TestJob, VecSink};

use crate::Test;
use crate::setting::Setting;

pub(crate) const TESTS: &[Test] =
    &[("drift::a_partition_with_few_messages_for_an_hour_does_not_run_away", no_partition_runs_away)];

/// The same 200 s in both partitions, with a message every 10 ms and every 100 ms.
const STEPS: [i64; 2] = [10, 100];
const UNTIL: i64 = 200_000;

/// By how much the second partition is ahead of the first one at most, as far as that has more.
fn most_ahead(setting: &Setting, topic: &str, workers: usize, drift: Duration) -> i64 {
    let (kafka, topic, out) = (setting.kafka(), topic.to_owned(), VecSink::<(usize, i64)>::new());
    let (to, most) = (out.clone(), Arc::new(AtomicI64::new(0)));
    let read = Arc::new([0, 0].map(AtomicI64::new));
    let seen = most.clone();
    let job = TestJob::new(move |job| {
        let (seen, read) = (seen.clone(), read.clone());
        let ahead = move |(partition, at): &(usize, i64)| {
            read[*partition].store(*at, Ordering::SeqCst);
            let [first, second] = [0, 1].map(|partition: usize| read[partition].load(Ordering::SeqCst));
            if first < UNTIL - STEPS[0] {
                seen.fetch_max(second - first, Ordering::SeqCst);
            }
        };
        let messages = job.source("in", kafka.topic(&topic).follow(true).json::<(usize, i64)>());
        let marks = Watermarks::monotonous().max_drift(drift);
        messages.event_time(|message| message.1, marks).inspect(ahead).sink("out", to.clone());
        Ok(())
    });
    let running = job.parallelism(workers).start();
    assert_eq!(out.wait_for((UNTIL / STEPS[0] + UNTIL / STEPS[1]) as usize).len(), 22_000);
    running.stop().unwrap();
    most.load(Ordering::SeqCst)
}

fn no_partition_runs_away(setting: &Setting) {
    let topic = setting.topic(2);
    for (number, step) in STEPS.into_iter().enumerate() {
        let messages: Vec<String> = (0..UNTIL / step).map(|n| format!("[{number},{}]", n * step)).collect();
        setting.client.write(&topic, number as i32, messages.iter().map(String::as_str));
    }
    // A batch of 256 messages, and one that the other partition has read and not passed on yet.
    let bound = 20_000 + 2 * 256 * STEPS[1];
    for workers in [1, 2] {
        let most = most_ahead(setting, &topic, workers, Duration::from_secs(20));
        assert!(most <= bound, "{most} ms ahead, with {workers} workers");
    }
}
