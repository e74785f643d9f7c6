//! What cannot be done is refused in a sentence, and no part of it is lost without a word.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::testing::{Count, Discard, TestJob, VecSink, VecSource};
use tidegate::{Sliding, Tumbling, Watermarks, Windows};

#[test]
fn a_refused_record_that_is_no_json_says_so_in_its_letter() {
    // JSON has maps by text only.
    let records =
        [BTreeMap::from([(1u8, 'a')]), BTreeMap::new()].map(|map| (map, BTreeMap::from([((1u8, 2u8), 3u8)])));
    let letters = VecSink::new();
    let sink = letters.clone();
    let job = TestJob::new(move |job| {
        let parsed = job
            .source("maps", VecSource::of(records.clone()))
            .try_map("parsed", |_| Err::<(), _>("none is right"));
        parsed.dead_letters(sink.clone()).sink("out", Discard::named("out"));
        Ok(())
    });
    assert_eq!(job.run().unwrap().malformed, 2);
    for (offset, letter) in (0..).zip(letters.records()) {
        assert_eq!((letter.offset, letter.raw), (Some(offset), None));
        let error = letter.error;
        assert!(error.starts_with("none is right (the record itself cannot be shown as JSON: "), "{error}");
    }
}

fn refusal(windows: Windows, workers: usize) -> String {
    let job = TestJob::new(move |job| {
        let times = job.source("times", VecSource::of([0])).event_time(|at| *at, Watermarks::monotonous());
        times
            .key_by_value(|_| 0u8)
            .window(windows)
            .aggregate("count", Count)
            .sink("out", Discard::named("out"));
        Ok(())
    });
    job.parallelism(workers).run().unwrap_err().to_string()
}

#[test]
fn numbers_with_which_no_job_can_run_are_refused() {
    let ms = Duration::from_millis;
    let (micros, text) = (Duration::from_micros(1_500), "must be whole milliseconds");
    assert!(refusal(Tumbling::of(micros), 1).contains(text), "{}", refusal(Tumbling::of(micros), 1));
    let day = Sliding::of(ms(86_400_000), ms(1));
    assert!(refusal(day, 1).contains("choose a longer slide"), "{}", refusal(day, 1));
    let none = refusal(Tumbling::of(ms(1)), 0);
    assert!(none.contains("--parallelism 0 cannot be"), "{none}");
}
