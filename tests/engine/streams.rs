//! Steps without state: what goes in and what comes out, on any number of workers.

use tidegate::connector::DeadLetter;
use tidegate::testing::{Discard, Item, TestJob, TestSource, VecSink, VecSource};
use tidegate::{Job, OnError, Result, Stream};

/// Runs `steps` over the numbers from 0 to 2,999 in three partitions and returns what comes out, sorted.
fn out_of<T, F>(workers: usize, steps: F) -> Vec<T>
where
    T: Ord + Clone + Send + 'static,
    F: Fn(Stream<u32>) -> Stream<T> + Send + Sync + 'static,
{
    let parts: Vec<Vec<u32>> = (0..3).map(|p| (p * 1_000..(p + 1) * 1_000).collect()).collect();
    let (out, source) = (VecSink::new(), VecSource::partitions(parts));
    let sink = out.clone();
    let job = TestJob::new(move |job| {
        steps(job.source("numbers", source.clone())).sink("out", sink.clone());
        Ok(())
    });
    job.parallelism(workers).run().unwrap();
    out.sorted()
}

fn all() -> std::ops::Range<u32> {
    0..3_000
}

#[test]
fn records_are_mapped_filtered_and_multiplied() {
    for workers in 1..=3 {
        let mapped: Vec<u32> = out_of(workers, |s| s.map(|n| n * 2));
        assert_eq!(mapped, all().map(|n| n * 2).collect::<Vec<_>>());
        let some = out_of(workers, |s| s.filter(|n| n % 7 == 0).filter_map(|n| (n % 2 == 0).then_some(n)));
        assert_eq!(some, all().filter(|n| n % 14 == 0).collect::<Vec<_>>());
        let many = out_of(workers, |s| s.flat_map(|n| (0..n % 3).map(move |i| (n, i))));
        assert_eq!(many, all().flat_map(|n| (0..n % 3).map(move |i| (n, i))).collect::<Vec<_>>());
    }
}

#[test]
fn one_record_can_become_more_than_a_batch() {
    let many = out_of(2, |s| s.filter(|n| n % 1_000 == 0).flat_map(|n| (0..5_000).map(move |i| (n, i))));
    assert_eq!(many.len(), 15_000);
    assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn both_branches_of_a_stream_see_every_record() {
    for workers in 1..=3 {
        let both = out_of(workers, |s| {
            let (other, seen) = (s.clone(), s.clone());
            drop(seen);
            s.map(|n| (n, 'a')).union(other.map(|n| (n, 'b')))
        });
        assert_eq!(both, all().flat_map(|n| [(n, 'a'), (n, 'b')]).collect::<Vec<_>>());
    }
}

#[test]
fn a_stream_is_split_and_put_together_again() {
    for workers in 1..=3 {
        let again: Vec<i64> = out_of(workers, |s| {
            let (even, odd) = s.split(|n| if n % 2 == 0 { Ok(n) } else { Err(i64::from(n)) });
            even.map(|n| -i64::from(n)).union(odd)
        });
        let mut expected: Vec<i64> = all().map(i64::from).map(|n| if n % 2 == 0 { -n } else { n }).collect();
        expected.sort_unstable();
        assert_eq!(again, expected);
    }
}

#[test]
fn rebalance_keeps_every_record_once_and_broadcast_every_record_everywhere() {
    for workers in 1..=3 {
        let dealt = out_of(workers, |s| s.filter(|n| *n < 1_000).rebalance());
        assert_eq!(dealt, (0..1_000).collect::<Vec<_>>());
        let everywhere = out_of(workers, |s| s.broadcast());
        assert_eq!(everywhere, all().flat_map(|n| vec![n; workers]).collect::<Vec<_>>());
    }
}

#[test]
fn rebalance_gives_all_workers_something_to_do() {
    let threads = out_of(3, |s| {
        let one_partition = s.filter(|n| *n < 1_000).flat_map(|n| vec![n; 20]);
        one_partition.rebalance().map(|_| format!("{:?}", std::thread::current().id()))
    });
    let mut different = threads.clone();
    different.dedup();
    assert_eq!(different.len(), 3);
}

#[test]
fn keys_meet_on_one_worker_and_running_values_count_every_record() {
    for workers in 1..=3 {
        let sums = out_of(workers, |s| {
            s.map(|n| (n % 10, 1u32)).key_by(|r| &r.0).reduce("sum", |sum, r| sum.1 += r.1).map(|(_, r)| r)
        });
        assert_eq!(sums, (0..10).flat_map(|key| (1..=300).map(move |n| (key, n))).collect::<Vec<_>>());
        let counts = out_of(workers, |s| {
            s.key_by_value(|n| format!("key-{}", n % 10)).aggregate("count", tidegate::aggregates::Count)
        });
        assert_eq!(counts.len(), 3_000);
        assert_eq!(counts.iter().filter(|c| c.1 == 300).count(), 10);
    }
}

/// Letters of malformed entries and of refused records; with the policy, what comes out otherwise.
fn parsing(
    route: impl Fn(Stream<String>, &VecSink<DeadLetter>) -> Stream<i32> + Send + Sync + 'static,
) -> Parsing {
    let items =
        [Item::Record("1".to_owned()), Item::Malformed("??".to_owned()), Item::Record("two".to_owned())];
    let source = VecSource::items([items.to_vec(), vec![Item::Record("3".to_owned())]]);
    let (out, letters) = (VecSink::new(), VecSink::new());
    let (to, letters_to) = (out.clone(), letters.clone());
    let job = TestJob::new(move |job: &mut Job| {
        route(job.source("words", source.clone()), &letters_to).sink("out", to.clone());
        Ok(())
    });
    let summary = job.parallelism(2).run();
    Parsing { summary, out: out.sorted(), letters: letters.records() }
}

struct Parsing {
    summary: Result<tidegate::Summary>,
    out: Vec<i32>,
    letters: Vec<DeadLetter>,
}

#[test]
fn what_cannot_be_read_goes_to_dead_letters() {
    let parsing = parsing(|words, letters| {
        let refused = Discard::named("refused");
        words.dead_letters(letters.clone()).try_map("parse", |w| w.parse::<i32>()).dead_letters(refused)
    });
    let summary = parsing.summary.unwrap();
    assert_eq!((parsing.out, parsing.letters.len()), (vec![1, 3], 1));
    let letter = &parsing.letters[0];
    assert_eq!(
        (letter.source.as_str(), letter.partition.as_deref(), letter.offset),
        ("words", Some("partition-0"), Some(1))
    );
    assert_eq!((letter.error.as_str(), letter.raw.as_deref()), ("not a record", Some("??")));
    assert_eq!((summary.rows_in, summary.malformed, summary.dead_letters, summary.rows_out), (4, 2, 2, 2));
}

#[test]
fn a_refused_record_says_where_it_stood() {
    let parsing = parsing(|words, letters| {
        words.on_error(OnError::Skip).try_map("parse", |w| w.parse::<i32>()).dead_letters(letters.clone())
    });
    let letter = &parsing.letters[0];
    assert_eq!(
        (letter.source.as_str(), letter.partition.as_deref(), letter.offset),
        ("parse", Some("partition-0"), Some(2))
    );
    assert_eq!(letter.raw.as_deref(), Some("\"two\""));
    assert_eq!(parsing.summary.unwrap().malformed, 2);
}

#[test]
fn a_record_that_is_refused_behind_an_exchange_has_no_place() {
    let parsing = parsing(|words, letters| {
        let keyed = words.on_error(OnError::Skip).key_by(|w| w).reduce("last", |last, w| last.clone_from(w));
        keyed.try_map("parse", |(_, w)| w.parse::<i32>()).dead_letters(letters.clone())
    });
    assert_eq!(parsing.out, [1, 3]);
    let letter = serde_json::to_value(&parsing.letters[0]).unwrap();
    assert_eq!((&letter["source"], &letter["raw"]), (&"parse".into(), &"[\"two\",\"two\"]".into()));
    assert_eq!((letter.get("partition"), letter.get("offset")), (None, None));
    // What is written can be read.
    assert_eq!(serde_json::from_value::<DeadLetter>(letter).unwrap(), parsing.letters[0]);
}

#[test]
fn without_a_policy_what_cannot_be_read_ends_the_job() {
    let of_source = parsing(|words, _| words.map(|w| w.len() as i32)).summary.unwrap_err().to_string();
    for part in ["'words'", "'partition-0'", "offset 1", "not a record", ".dead_letters(..)"] {
        assert!(of_source.contains(part), "{of_source}");
    }
    let of_step = parsing(|words, _| words.on_error(OnError::Skip).try_map("parse", |w| w.parse::<i32>()));
    let of_step = of_step.summary.unwrap_err().to_string();
    for part in ["'parse'", "'partition-0'", "offset 2", "invalid digit"] {
        assert!(of_step.contains(part), "{of_step}");
    }
}

#[test]
fn policies_belong_behind_parsing_steps() {
    let refused = |steps: fn(Stream<u32>) -> Stream<u32>| {
        let job = TestJob::new(move |job| {
            steps(job.source("numbers", VecSource::of([1]))).sink("out", Discard::named("out"));
            Ok(())
        });
        job.run().unwrap_err().to_string()
    };
    assert!(refused(|s| s.map(|n| n).on_error(OnError::Skip)).contains("it is not a parsing step"));
    assert!(refused(|s| s.map(|n| n).dead_letters(Discard::named("a"))).contains("it is not a parsing step"));
    let twice = refused(|s| s.dead_letters(Discard::named("a")).dead_letters(Discard::named("b")));
    assert!(twice.contains("two sinks for its dead letters"), "{twice}");
    let nobody = refused(|s| s.on_error(OnError::DeadLetter).map(|n| n));
    assert!(nobody.contains("'numbers'") && nobody.contains("add .dead_letters(..)"), "{nobody}");
    let useless: [(&str, fn(Stream<u32>) -> Stream<u32>); 2] = [
        ("OnError::Skip", |s| s.dead_letters(Discard::named("a")).on_error(OnError::Skip)),
        ("OnError::Fail", |s| s.on_error(OnError::Fail).dead_letters(Discard::named("a"))),
    ];
    for (policy, steps) in useless {
        let text = refused(steps);
        assert!(text.contains(policy) && text.contains("leave one of the two out"), "{text}");
    }
}

#[test]
fn every_policy_does_what_it_says() {
    let with = |policy| {
        parsing(move |words, letters| {
            let words = words.on_error(OnError::Skip).try_map("parse", |w| w.parse::<i32>()).on_error(policy);
            if policy == OnError::DeadLetter { words.dead_letters(letters.clone()) } else { words }
        })
    };
    let letters = with(OnError::DeadLetter);
    assert_eq!((letters.out, letters.letters.len()), (vec![1, 3], 1));
    assert_eq!(letters.summary.unwrap().dead_letters, 1);
    let skipped = with(OnError::Skip);
    assert_eq!((skipped.out, skipped.letters.len()), (vec![1, 3], 0));
    assert_eq!(skipped.summary.unwrap().malformed, 2);
    let failed = with(OnError::Fail).summary.unwrap_err().to_string();
    assert!(failed.contains("step 'parse', partition 'partition-0', offset 2"), "{failed}");
}

#[test]
fn the_order_of_a_partition_is_kept() {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone());
        numbers.key_by_value(|_| 0u8).aggregate("count", tidegate::aggregates::Count).sink("out", to.clone());
        Ok(())
    });
    let running = job.parallelism(3);
    let running = running.start();
    for round in 0..5u32 {
        source.extend(0, round * 1_000..(round + 1) * 1_000);
        running.checkpoint();
    }
    source.end();
    running.wait().unwrap();
    assert_eq!(out.records(), (1..=5_000).map(|n| (0u8, n)).collect::<Vec<_>>());
}

/// Four ticks of 10,000 records may be under way at a time: a worker that has read all of its own must not hold them back.
#[test]
fn a_worker_that_has_read_all_of_its_input_holds_nobody_up() {
    let source = VecSource::partitions([(0..5).collect(), (0..200_000).collect::<Vec<u32>>()]);
    let job = TestJob::new(move |job| {
        job.source("numbers", source.clone()).rebalance().sink("out", Discard::named("out"));
        Ok(())
    });
    assert_eq!(job.parallelism(2).no_interval().run().unwrap().rows_in, 200_005);
}
