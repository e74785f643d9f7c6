//! Which job a snapshot belongs to: what may change between two starts, and what is refused, and how that is said.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate::aggregates::Count;
use tidegate::testing::{Discard, TestJob, VecSource};
use tidegate::{
    Aggregate, BroadcastContext, BroadcastProcess, Context, Job, Key, KeyedProcess, Result, Sliding,
    Tumbling, Watermarks, Windows,
};

use crate::events::ms;

/// Runs a job to its stop on a directory, in which a later one is to be refused or not.
fn run(
    dir: &Path,
    build: impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static,
) -> Result<tidegate::Summary> {
    TestJob::new(build).checkpoint_dir(dir).run()
}

fn numbers() -> VecSource<u32> {
    VecSource::of(0..100)
}

/// The job that the others differ from.
fn original(job: &mut Job) -> Result<()> {
    let counts = job.source("numbers", numbers()).key_by_value(|n| n % 10).aggregate("count", Count);
    counts.sink("out", Discard::named("a"));
    Ok(())
}

/// How the restart of the original as another job is refused.
fn refusal(build: impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static) -> String {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    run(dir.path(), build).unwrap_err().to_string()
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn the_same_job_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    assert_eq!(run(dir.path(), original).unwrap().rows_in, 100);
}

#[test]
fn two_steps_of_one_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(dir.path(), |job| {
        let numbers = job.source("count", numbers()).key_by_value(|n| n % 10);
        numbers.aggregate("count", Count).sink("out", Discard::named("a"));
        Ok(())
    });
    says(&refused.unwrap_err().to_string(), &["two steps are called 'count'", "a source and a aggregate"]);
}

#[test]
fn a_uid_makes_two_steps_of_one_name_possible_and_one_of_another_impossible() {
    let build = |uid: &'static str| {
        move |job: &mut Job| {
            let numbers = job.source("numbers", numbers());
            let first = numbers.clone().key_by_value(|n| n % 10).aggregate("count", Count).uid(uid);
            let second = numbers.key_by_value(|n| n % 7).aggregate("count", Count);
            first.union(second).sink("out", Discard::named("a"));
            Ok(())
        }
    };
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), build("other")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    says(&run(dir.path(), build("count")).unwrap_err().to_string(), &["two steps are called 'count'"]);
}

#[test]
fn a_renamed_step_is_refused_and_restores_with_its_uid() {
    let renamed = |uid: Option<&'static str>| {
        move |job: &mut Job| {
            let counts = job.source("numbers", numbers()).key_by_value(|n| n % 10).aggregate("tally", Count);
            let counts = if let Some(uid) = uid { counts.uid(uid) } else { counts };
            counts.sink("out", Discard::named("a"));
            Ok(())
        }
    };
    says(&refusal(renamed(None)), &["it holds a aggregate with the uid 'count'", ".uid(\"count\")"]);
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    run(dir.path(), renamed(Some("count"))).unwrap();
}

#[test]
fn a_removed_step_is_refused_and_an_added_one_is_not() {
    says(
        &refusal(|job| {
            job.source("numbers", numbers()).map(|n| (n, 1u64)).sink("out", Discard::named("a"));
            Ok(())
        }),
        &["a aggregate with the uid 'count', which the job does not have"],
    );
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    let more = run(dir.path(), |job| {
        let counts = job.source("numbers", numbers()).key_by_value(|n| n % 10).aggregate("count", Count);
        counts.clone().sink("out", Discard::named("a"));
        counts.key_by(|c| &c.0).aggregate("again", Count).sink("out2", Discard::named("b"));
        Ok(())
    });
    more.unwrap();
}

#[test]
fn a_source_that_is_renamed_and_keeps_its_uid_keeps_its_dead_letters() {
    let letters = || Discard::named("letters");
    let dir = tempfile::tempdir().unwrap();
    let before = run(dir.path(), move |job| {
        job.source("numbers", numbers()).dead_letters(letters()).sink("out", Discard::named("a"));
        Ok(())
    });
    before.unwrap();
    // The uid may be given before the sink or after it.
    for first in [true, false] {
        let renamed = run(dir.path(), move |job| {
            let readings = job.source("readings", numbers());
            let readings = match first {
                true => readings.uid("numbers").dead_letters(letters()),
                false => readings.dead_letters(letters()).uid("numbers"),
            };
            readings.sink("out", Discard::named("a"));
            Ok(())
        });
        assert_eq!(renamed.unwrap().rows_in, 100);
    }
}

#[test]
fn a_sink_can_be_renamed_if_it_keeps_its_uid() {
    let renamed = |job: &mut Job| {
        let counts = job.source("numbers", numbers()).key_by_value(|n| n % 10).aggregate("count", Count);
        counts.sink("archive", Discard::named("a"))
    };
    let refused = refusal(move |job| {
        renamed(job);
        Ok(())
    });
    says(&refused, &["a sink with the uid 'out'", "give it .uid(\"out\")"]);
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    let with_uid = run(dir.path(), move |job| {
        renamed(job).uid("out");
        Ok(())
    });
    assert_eq!(with_uid.unwrap().rows_in, 100);
}

/// Counts too, but in another type.
struct Average;

impl Aggregate<u32> for Average {
    type Acc = (u64, f64);
    type Out = u64;

    fn create(&self) -> (u64, f64) {
        (0, 0.0)
    }

    fn add(&self, acc: &mut (u64, f64), _: &u32) {
        acc.0 += 1;
    }

    fn finish(&self, acc: &(u64, f64)) -> u64 {
        acc.0
    }
}

#[test]
fn state_of_another_type_is_refused_with_both_named() {
    let refused = refusal(|job| {
        let counts = job.source("numbers", numbers()).key_by_value(|n| n % 10).aggregate("count", Average);
        counts.sink("out", Discard::named("a"));
        Ok(())
    });
    let named = "was of type u64 by key u32 (u64 by key u32) and is of type (u64, f64) by key u32 (";
    says(&refused, &["the state of 'count'", named]);
}

/// Every kind of step that keeps something by key, with a key of this type.
fn keyed_by<K: Key>(
    step: &'static str,
    key: impl Fn(&u32) -> K + Copy + Send + Sync + 'static,
) -> impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static {
    move |job| {
        let numbers = job.source("numbers", numbers());
        let keyed = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous()).key_by_value(key);
        let out = match step {
            "aggregate" => keyed.aggregate("step", Count).map(|c| c.1),
            "reduce" => keyed.reduce("step", |sum, n| *sum += n).map(|r| u64::from(r.1)),
            "window" => keyed.window(Tumbling::of(ms(10))).aggregate("step", Count).map(|w| w.value),
            _ => keyed.map_with_state("step", |seen: &mut u64, _| {
                *seen += 1;
                *seen
            }),
        };
        out.sink("out", Discard::named("a"));
        Ok(())
    }
}

/// Rows hold their key: with another type it is not found, or not even read.
#[test]
fn another_type_of_key_is_refused_with_both_named() {
    for step in ["aggregate", "reduce", "window", "process"] {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), keyed_by(step, |n| n % 10)).unwrap();
        run(dir.path(), keyed_by(step, |n| n % 10)).unwrap();
        let number = run(dir.path(), keyed_by(step, |n| (n % 10) as i32)).unwrap_err().to_string();
        says(&number, &["the state of 'step' was of type ", " by key u32 (", " by key i32 ("]);
        let text = run(dir.path(), keyed_by(step, |n| n.to_string())).unwrap_err().to_string();
        says(&text, &["the state of 'step' was of type ", " by key u32 (", " by key String ("]);
    }
}

#[test]
fn a_step_of_another_kind_is_refused() {
    let refused = refusal(|job| {
        job.source("numbers", numbers())
            .event_time(|n| i64::from(*n), Watermarks::monotonous())
            .key_by_value(|n| n % 10)
            .window(Tumbling::of(std::time::Duration::from_secs(1)))
            .aggregate("count", Count)
            .map(|w| (w.key, w.value))
            .sink("out", Discard::named("a"));
        Ok(())
    });
    says(&refused, &["'count' was a aggregate and is a window now"]);
}

#[test]
fn another_input_and_another_output_are_refused() {
    let other = |from: &'static str, to: &'static str| {
        move |job: &mut Job| {
            let numbers = job.source("numbers", numbers().called(from)).key_by_value(|n| n % 10);
            numbers.aggregate("count", Count).sink("out", Discard::named(to));
            Ok(())
        }
    };
    let input = refusal(other("elsewhere", "a"));
    says(&input, &["'numbers' read from memory and is given memory elsewhere now"]);
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), other("x", "a")).unwrap();
    let output = run(dir.path(), other("x", "b")).unwrap_err().to_string();
    says(&output, &["'out' wrote to nowhere a and is given nowhere b now"]);
}

#[test]
fn another_jobs_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), original).unwrap();
    let other = TestJob::new(original).named("other").checkpoint_dir(dir.path());
    says(&other.run().unwrap_err().to_string(), &["snapshots of the job 'test', and this is 'other'"]);
}

#[test]
fn two_sinks_into_one_place_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(dir.path(), |job| {
        let numbers = job.source("numbers", numbers());
        numbers.clone().sink("first", Discard::named("a"));
        numbers.sink("second", Discard::named("a"));
        Ok(())
    });
    says(&refused.unwrap_err().to_string(), &["'first'", "'second'", "both write to nowhere a"]);
}

#[test]
fn a_changed_argument_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let source = tidegate::testing::TestSource::<u32>::new(1);
    let job = |limit| {
        let source = source.clone();
        let build = move |job: &mut Job| {
            job.source("numbers", source.clone()).sink("out", Discard::named("out"));
            Ok(())
        };
        TestJob::new(build).checkpoint_dir(dir.path()).argument("limit", limit)
    };
    job("5").start().stop().unwrap();
    let second = job("6");
    second.start().stop().unwrap();
    assert!(second.notes().iter().any(|n| n.contains("--limit was 5 and is 6")), "{:?}", second.notes());
}

#[test]
fn what_cannot_be_a_job_is_refused_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    says(&run(dir.path(), |_| Ok(())).unwrap_err().to_string(), &["no source"]);
    let late = run(dir.path(), |job| {
        let numbers = job.source("numbers", numbers()).rebalance();
        numbers.event_time(|n| i64::from(*n), Watermarks::monotonous()).sink("out", Discard::named("a"));
        Ok(())
    });
    says(
        &late.unwrap_err().to_string(),
        &["event_time comes after a step that has records change the worker"],
    );
    let empty = run(dir.path(), |job| {
        let keyed = job.source("numbers", numbers()).key_by_value(|n| n % 10);
        let windows = keyed.window(Tumbling::of(std::time::Duration::ZERO));
        windows.aggregate("count", Count).map(|w| w.value).sink("out", Discard::named("a"));
        Ok(())
    });
    says(&empty.unwrap_err().to_string(), &["step 'count': windows of 0ns every 0ns are invalid"]);
}

#[test]
fn windows_of_records_without_event_time_are_refused() {
    /// A window behind one source, or two of which the second has no event time.
    fn windowed(windows: Windows, is_timed: bool, union: bool) -> Result<tidegate::Summary> {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), move |job| {
            let mut numbers_in = job.source("numbers", numbers());
            if is_timed {
                numbers_in =
                    numbers_in.event_time(|n| i64::from(*n), Watermarks::monotonous()).map(|n| n + 1);
            }
            if union {
                numbers_in = numbers_in.union(job.source("others", numbers().called("others")));
            }
            let keyed = numbers_in.rebalance().key_by_value(|n| n % 10);
            let counts = keyed.window(windows).aggregate("count", Count).map(|w| w.value);
            counts.sink("out", Discard::named("a"));
            Ok(())
        })
    }
    let minutes = Tumbling::of(Duration::from_secs(60));
    for (is_timed, union) in [(false, false), (true, true), (false, true)] {
        let refused = windowed(minutes, is_timed, union).unwrap_err().to_string();
        says(
            &refused,
            &["step 'count': it has windows of event time", "without an event time", ".event_time(..)"],
        );
    }
    windowed(minutes, true, false).unwrap();
    windowed(Tumbling::of_processing_time(ms(10)), false, true).unwrap();
}

/// Counts by window.
fn windowed(windows: Windows, lateness: Duration) -> impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static {
    move |job| {
        let numbers =
            job.source("numbers", numbers()).event_time(|n| i64::from(*n), Watermarks::monotonous());
        let windows = numbers.key_by_value(|n| n % 10).window(windows).allowed_lateness(lateness);
        windows.aggregate("count", Count).sink("out", Discard::named("a"));
        Ok(())
    }
}

#[test]
fn windows_that_are_cut_in_another_way_are_refused() {
    let (before, lateness) = (Tumbling::of(ms(50)), ms(0));
    for (now, late, named) in [
        (Tumbling::of(ms(70)), lateness, "tumbling windows of 70ms of event time, lateness 0ns"),
        (Sliding::of(ms(50), ms(10)), lateness, "sliding windows of 50ms every 10ms of event time"),
        (Tumbling::of_processing_time(ms(50)), lateness, "tumbling windows of 50ms of processing time"),
        (before, ms(5), "tumbling windows of 50ms of event time, lateness 5ms"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), windowed(before, lateness)).unwrap();
        let refused = run(dir.path(), windowed(now, late)).unwrap_err().to_string();
        says(&refused, &["'count'", "tumbling windows of 50ms of event time, lateness 0ns", named]);
    }
}

#[test]
fn windows_of_processing_time_with_allowed_lateness_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(dir.path(), windowed(Tumbling::of_processing_time(ms(50)), ms(5)));
    says(&refused.unwrap_err().to_string(), &["'count'", "processing time", ".allowed_lateness(..)"]);
}

/// Keeps what a snapshot cannot be read back from.
struct Loose;

impl KeyedProcess for Loose {
    type Key = u32;
    type In = u32;
    type State = Value;
    type Out = u32;
    type Side = ();

    fn on_record(&mut self, n: u32, context: &mut Context<'_, Self>) -> Result<()> {
        *context.state.get_mut() = n.into();
        Ok(())
    }
}

impl BroadcastProcess for Loose {
    type Key = u32;
    type In = u32;
    type Broadcast = u32;
    type State = ();
    type Shared = Value;
    type Out = u32;
    type Side = ();

    fn on_broadcast(&mut self, n: u32, shared: &mut Value) -> Result<()> {
        *shared = n.into();
        Ok(())
    }

    fn on_record(&mut self, _: u32, _: &Value, _: &mut BroadcastContext<'_, Self>) -> Result<()> {
        Ok(())
    }
}

impl Aggregate<u32> for Loose {
    type Acc = Vec<Value>;
    type Out = u32;

    fn create(&self) -> Vec<Value> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<Value>, n: &u32) {
        acc.push((*n).into());
    }

    fn finish(&self, _: &Vec<Value>) -> u32 {
        0
    }
}

#[test]
fn what_could_not_be_read_back_is_refused_before_it_is_written() {
    let cannot_be = |what: &str, build: fn(&mut Job)| {
        let dir = tempfile::tempdir().unwrap();
        let refused = run(dir.path(), move |job| {
            build(job);
            Ok(())
        });
        let refused = refused.unwrap_err().to_string();
        says(&refused, &["step 'step': ", &format!("a value of type {what} can be written"), "untagged"]);
    };
    cannot_be("Value (any)", |job| {
        let keyed = job.source("numbers", numbers()).key_by(|n| n);
        keyed.process("step", Loose).sink("out", Discard::named("a"));
    });
    cannot_be("Vec<Value> (seq<any>)", |job| {
        let keyed = job.source("numbers", numbers()).key_by(|n| n);
        keyed.aggregate("step", Loose).sink("out", Discard::named("a"));
    });
    cannot_be("Vec<Value> (seq<any>)", |job| {
        let numbers = job.source("numbers", numbers());
        let keyed = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous()).key_by(|n| n);
        keyed.window(Tumbling::of(ms(10))).aggregate("step", Loose).sink("out", Discard::named("a"));
    });
    cannot_be("Value (any)", |job| {
        let keyed = job.source("numbers", numbers()).key_by_value(|n| Value::from(*n));
        keyed.aggregate("step", Count).sink("out", Discard::named("a"));
    });
    cannot_be("Value (any)", |job| {
        let rules = job.source("rules", numbers().called("rules"));
        let keyed = job.source("numbers", numbers()).key_by(|n| n);
        keyed.connect_broadcast(rules).process("step", Loose).sink("out", Discard::named("a"));
    });
}

/// Records are not kept, and those that stay on their worker are not even written.
#[test]
fn records_may_be_what_cannot_be_kept_as_long_as_they_stay_on_their_worker() {
    let dir = tempfile::tempdir().unwrap();
    let summary = run(dir.path(), |job| {
        let values = job.source("numbers", numbers()).map(Value::from);
        let keyed = values.map(|n| n.as_u64().unwrap_or(0)).rebalance().key_by_value(|n| n % 10);
        keyed.aggregate("count", Count).map(|(key, n)| Value::from(key + n)).sink("out", Discard::named("a"));
        Ok(())
    });
    assert_eq!(summary.unwrap().rows_out, 100);
}

/// Two sources, each with its event time; `uids` are those that the steps are given.
fn two_times(uids: [Option<&'static str>; 2]) -> impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static {
    move |job| {
        let mut sources = ["first", "second"].into_iter().zip(uids).map(|(name, uid)| {
            let numbers = job.source(name, numbers().called(name));
            let numbers = numbers.event_time(|n| i64::from(*n), Watermarks::monotonous());
            if let Some(uid) = uid { numbers.uid(uid) } else { numbers }
        });
        let (first, second) = (sources.next().unwrap(), sources.next().unwrap());
        first.union(second).sink("out", Discard::named("a"));
        Ok(())
    }
}

/// What partitions keep of event time is kept by the step's uid, which is a number as long as nobody names the step.
#[test]
fn steps_of_event_time_that_numbers_do_not_tell_apart_are_refused() {
    let only_second = |job: &mut Job| {
        let numbers = job.source("second", numbers().called("second"));
        numbers.event_time(|n| i64::from(*n), Watermarks::monotonous()).sink("out", Discard::named("a"));
        Ok(())
    };
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), only_second).unwrap();
    let refused = run(dir.path(), two_times([None, None])).unwrap_err().to_string();
    says(&refused, &["without a name, 'event_time-2'", ".named(\"..\")", ".uid(\"event_time-1\")"]);
    let told_apart = two_times([Some("new"), Some("event_time-1")]);
    run(dir.path(), told_apart).unwrap();
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), two_times([None, None])).unwrap();
    let refused = run(dir.path(), two_times([None, Some("late")])).unwrap_err().to_string();
    says(&refused, &["it holds a event_time with the uid 'event_time-2'", ".uid(\"event_time-2\")"]);
}
