//! What cannot be done is refused in a sentence, and no part of it is lost without a word.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::aggregates::Count;
use tidegate::testing::{Discard, TestJob, VecSink, VecSource};
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
    assert!(none.contains("--parallelism 0 is invalid"), "{none}");
}

#[test]
fn windows_of_event_time_without_event_time_are_refused_before_the_job_runs() {
    let refused = |job: TestJob| job.run().unwrap_err().to_string();
    let message = refused(TestJob::new(|job| {
        let times = job.source("times", VecSource::<i64>::of([])).filter(|_| true).key_by_value(|_| 0u8);
        let windows = times.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count);
        windows.named("by_second").sink("out", Discard::named("out"));
        Ok(())
    }));
    for part in
        ["step 'by_second': ", "the source 'times'", "add .event_time(..) between", "of_processing_time"]
    {
        assert!(message.contains(part), "{message}");
    }
    // One of two inputs is enough, and an exchange or an aggregate in between gives no time.
    let message = refused(TestJob::new(|job| {
        let timed =
            job.source("timed", VecSource::<i64>::of([])).event_time(|t| *t, Watermarks::monotonous());
        let both = timed.union(job.source("untimed", VecSource::<i64>::of([])).rebalance());
        let counts = both.key_by(|n| n).aggregate("running", Count).key_by(|count| &count.0);
        let windows = counts.window(Tumbling::of(Duration::from_secs(1))).aggregate("count", Count);
        windows.sink("out", Discard::named("out"));
        Ok(())
    }));
    assert!(message.starts_with("step 'count': ") && message.contains("the source 'untimed'"), "{message}");
}

#[test]
fn windows_of_processing_time_and_windows_behind_them_need_no_event_time() {
    let job = TestJob::new(|job| {
        let words = job.source("words", VecSource::<u32>::of([])).key_by(|word| word);
        let seconds = words.window(Tumbling::of_processing_time(Duration::from_secs(1)));
        let seconds = seconds.aggregate("seconds", Count).key_by(|second| &second.key);
        let minutes = seconds.window(Tumbling::of(Duration::from_secs(60))).aggregate("minutes", Count);
        minutes.sink("out", Discard::named("out"));
        Ok(())
    });
    job.run().unwrap();
}

/// What is said about steps that lead to no sink.
fn warnings(job: &TestJob) -> Vec<String> {
    job.run().unwrap();
    job.notes().into_iter().filter(|note| note.contains("ends in no sink")).collect()
}

#[test]
fn a_stream_that_ends_in_no_sink_is_said_before_the_job_runs() {
    let job = TestJob::new(|job| {
        let numbers = job.source("numbers", VecSource::of([1, 2]));
        drop(numbers.clone().map(|n| n + 1).named("one_more"));
        let (even, _odd) = numbers.split(|n| if n % 2 == 0 { Ok(n) } else { Err(n) });
        even.sink("even", Discard::named("even"));
        Ok(())
    });
    let [warning] = warnings(&job).try_into().unwrap();
    assert!(
        warning.starts_with("warning: the stream behind the map 'one_more' ends in no sink"),
        "{warning}"
    );
    let complete = TestJob::new(|job| {
        job.source("numbers", VecSource::of([1, 2])).rebalance().sink("out", Discard::named("out"));
        Ok(())
    });
    assert_eq!(warnings(&complete), Vec::<String>::new());
}

/// Its first field is left out for a value that the check before the start does not try.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "is_seven")]
    n: u32,
    more: u32,
}

fn is_seven(n: &u32) -> bool {
    *n == 7
}

struct Last;

impl tidegate::Aggregate<u32> for Last {
    type Acc = Sparse;
    type Out = u32;

    fn create(&self) -> Sparse {
        Sparse::default()
    }

    fn add(&self, acc: &mut Sparse, n: &u32) {
        *acc = Sparse { n: *n, more: 1 };
    }

    fn finish(&self, acc: &Sparse) -> u32 {
        acc.n
    }
}

#[test]
fn state_that_could_not_be_read_back_is_not_written_to_a_snapshot() {
    let job = |numbers: [u32; 2]| {
        TestJob::new(move |job| {
            let numbers = job.source("numbers", VecSource::of(numbers)).key_by_value(|_| 0u8);
            numbers.aggregate("last", Last).sink("out", Discard::named("out"));
            Ok(())
        })
    };
    job([7, 8]).run().unwrap();
    let error = job([8, 7]).run().unwrap_err().to_string();
    for part in [
        "step 'last'",
        "of type Sparse",
        "its field 'n' (of Sparse)",
        "skip_serializing_if",
        "remove that attribute",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
