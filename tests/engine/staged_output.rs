//! Output that the engine keeps until it is published: none is lost or seen twice, whatever happens in between.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tidegate::connector::{
    Owner, Publisher, SinkId, SinkPlace, SinkTarget, StagedOutput, StagedWriter, Staging, TransactionalSink,
    Writer,
};
use tidegate::protocol::{Epoch, Error, Slot};
use tidegate::testing::{Discard, TestJob, TestSource, VecSource};
use tidegate::{ErrorContext, Result, Watermarks};

use crate::checkpoints::{manifests, read};
use crate::events::ms;

/// What was published, by epoch and slot.
type Published = BTreeMap<(Epoch, Slot), Vec<u64>>;

/// A sink of numbers. What it publishes is read from staged files.
#[derive(Clone, Default)]
struct Numbers {
    published: Arc<Mutex<Published>>,
    /// How often publishing is still to fail.
    failures: Arc<AtomicUsize>,
    /// How many pieces were published that an earlier attempt had staged.
    restored: Arc<AtomicUsize>,
}

impl Numbers {
    fn sorted(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.published.lock().unwrap().values().flatten().copied().collect();
        all.sort_unstable();
        all
    }
}

impl TransactionalSink<u64> for Numbers {
    fn uri(&self) -> Result<String> {
        Ok("numbers".to_owned())
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        Ok(Box::new(self.clone()))
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<u64>>> {
        Ok(Box::new(NumbersWriter(place.staged_files())))
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(self.clone()))
    }
}

struct NumbersWriter(StagedWriter);

impl Writer<u64> for NumbersWriter {
    fn write(&mut self, number: &u64, _: Option<i64>) -> Result<()> {
        self.0.record(|file| {
            file.extend_from_slice(format!("{number}\n").as_bytes());
            Ok(())
        })
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        Ok(self.0.end_epoch()?.map(|file| Staging::file(file, serde_json::Value::Null)))
    }
}

impl Publisher for Numbers {
    fn publish(&mut self, _: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        for output in outputs {
            let fails = |n: usize| n.checked_sub(1);
            if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
                return Err(Error::environment("the target is not there"));
            }
            let mut text = String::new();
            output.open()?.read_to_string(&mut text).context(|| "read")?;
            let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(numbers.len() as u64, output.staged.records);
            self.restored.fetch_add(usize::from(output.is_restored), Ordering::SeqCst);
            let mut published = self.published.lock().unwrap();
            let before = published.insert((output.staged.epoch, output.staged.slot), numbers.clone());
            assert!(before.is_none_or(|before| before == numbers), "one piece with two contents");
        }
        Ok(())
    }
}

impl SinkTarget for Numbers {
    fn recover(&mut self, restored: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        let mut published = self.published.lock().unwrap();
        let taken_back = published.split_off(&(restored.unwrap_or_default().next(), Slot(0)));
        Ok(taken_back.keys().map(|(epoch, slot)| format!("epoch {epoch} of slot {slot}")).collect())
    }
}

/// A job that passes numbers on, and writes a checkpoint whenever it can.
fn job(partitions: usize) -> (TestJob, TestSource<u64>, Numbers) {
    let (source, sink) = (TestSource::new(partitions), Numbers::default());
    let (from, to) = (source.clone(), sink.clone());
    let job = TestJob::new(move |job| {
        job.source("numbers", from.clone()).sink("out", to.clone());
        Ok(())
    });
    (job.interval(ms(1)), source, sink)
}

/// The staged files that are there, and those that the retained manifests name.
fn staged_files(directory: &Path) -> (Vec<String>, Vec<String>) {
    let names = fs::read_dir(directory.join("staged")).unwrap();
    let mut there: Vec<String> =
        names.map(|name| format!("staged/{}", name.unwrap().file_name().to_str().unwrap())).collect();
    let retained = manifests(directory).into_iter().map(|path| read(&path));
    let mut named: Vec<String> = retained
        .flat_map(|manifest| {
            manifest.staged().filter_map(|(_, s)| Some(s.file.clone()?.path)).collect::<Vec<_>>()
        })
        .collect();
    there.sort();
    named.sort();
    (there, named)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_number_is_published_once_through_kills_and_other_parallelisms(
        runs in prop::collection::vec((1usize..4, 1u64..3_000, 0u64..3_000), 1..6),
        last in 1usize..4,
        seed in any::<Option<u64>>(),
    ) {
        let (mut job, source, sink) = job(5);
        if let Some(seed) = seed {
            job = job.hostile_link(seed);
        }
        let mut sent = 0;
        let mut send = |numbers: u64| {
            (sent..sent + numbers).for_each(|n| source.push(n as usize % 5, n));
            sent += numbers;
        };
        for (workers, first, second) in runs {
            job = job.parallelism(workers);
            let running = job.start();
            send(first);
            running.checkpoint();
            send(second);
            running.kill();
        }
        send(100);
        source.end();
        let summary = job.parallelism(last).run();
        prop_assert!(summary.is_ok(), "{:?}", summary.err());
        prop_assert_eq!(sink.sorted(), (0..sent).collect::<Vec<_>>());
    }
}

#[test]
fn staged_files_are_kept_as_long_as_the_snapshots_that_name_them() {
    let (job, source, _sink) = job(3);
    let job = job.parallelism(2).retain(2);
    let running = job.start();
    for n in 0..5 {
        source.extend(n % 3, 0..100_000);
        running.checkpoint();
    }
    running.stop().unwrap();
    source.push(0, 1);
    source.end();
    // One epoch, so that the last manifest names a file.
    let job = job.no_interval();
    job.run().unwrap();
    let (there, named) = staged_files(job.directory());
    assert_eq!(there, named);
    assert!(!there.is_empty(), "the last epoch had a record");
    let left = working_files(job.directory());
    assert!(left.is_empty(), "{left:?}");
}

/// What the last attempt has left where it wrote staged files.
fn working_files(directory: &Path) -> Vec<PathBuf> {
    let attempts = fs::read_dir(directory.join("local")).unwrap().map(|entry| entry.unwrap().path());
    let staged = attempts.filter_map(|attempt| fs::read_dir(attempt.join("staged")).ok());
    staged.flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_could_not_be_published_is_published_by_the_next_start() {
    let (job, source, sink) = job(1);
    source.extend(0, 0..100);
    source.end();
    let job = job.no_interval();
    sink.failures.store(1, Ordering::SeqCst);
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("publish epoch 1 of 'out', slot 0: the target is not there"), "{error}");
    assert_eq!(sink.sorted(), [0; 0]);
    assert!(job.run().unwrap().finished);
    assert_eq!((sink.sorted(), sink.restored.load(Ordering::SeqCst)), ((0..100).collect(), 1));
    // What was published at a start is known to be.
    assert!(job.run().unwrap().finished);
    assert_eq!(sink.restored.load(Ordering::SeqCst), 1);
}

/// A sink that fails to stage as often as it is told to.
#[derive(Clone, Default)]
struct Failing(Arc<AtomicUsize>);

impl TransactionalSink<u64> for Failing {
    fn uri(&self) -> Result<String> {
        Ok("failing".to_owned())
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        TransactionalSink::<u64>::target(&Discard::named("failing"), owner)
    }

    fn writer(&self, _: SinkPlace) -> Result<Box<dyn Writer<u64>>> {
        Ok(Box::new(self.clone()))
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        TransactionalSink::<u64>::publisher(&Discard::named("failing"), sink, slot)
    }
}

impl Writer<u64> for Failing {
    fn write(&mut self, _: &u64, _: Option<i64>) -> Result<()> {
        Ok(())
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        let failures = self.0.clone();
        let stage =
            move || match failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
                Ok(_) => Err(Error::environment("no space")),
                Err(_) => Ok(()),
            };
        Ok(Some(Staging::elsewhere(1, serde_json::Value::Null, stage)))
    }
}

#[test]
fn what_failed_attempts_have_staged_does_not_pile_up() {
    let (source, out, failing) = (TestSource::new(1), Numbers::default(), Failing::default());
    let (from, to, then) = (source.clone(), out.clone(), failing.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone());
        numbers.clone().sink("out", to.clone());
        numbers.sink("failing", then.clone());
        Ok(())
    });
    let job = job.no_interval();
    source.extend(0, 0..1_000);
    source.end();
    failing.0.store(3, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(job.run().unwrap_err().to_string().contains("no space"));
        let (there, _) = staged_files(job.directory());
        assert_eq!(there.len(), 1, "that of the last attempt: {there:?}");
    }
    job.run().unwrap();
    let (there, named) = staged_files(job.directory());
    assert_eq!((&there, there.len()), (&named, 1));
    assert_eq!(out.sorted(), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_staged_file_that_is_damaged_makes_the_snapshot_a_damaged_one() {
    for damage in
        [|path: &Path| fs::write(path, "1\n").unwrap(), |path: &Path| fs::remove_file(path).unwrap()]
    {
        let (job, source, sink) = job(1);
        let running = job.start();
        source.extend(0, 0..1_000);
        running.checkpoint();
        running.kill();
        source.extend(0, 1_000..2_000);
        sink.failures.store(1, Ordering::SeqCst);
        let error = job.run().unwrap_err().to_string();
        assert!(error.contains("the target is not there"), "{error}");
        let newest = read(manifests(job.directory()).last().unwrap());
        let file = newest.staged().next().expect("it was to be published").1.file.clone().unwrap();
        damage(&job.directory().join(&file.path));
        source.end();
        assert!(job.run().unwrap().finished);
        let notes = job.notes().join("\n");
        assert!(notes.contains(&format!("the snapshot of epoch {} is not used", newest.epoch)), "{notes}");
        assert!(notes.contains(&file.path), "{notes}");
        assert_eq!(sink.sorted(), (0..2_000).collect::<Vec<_>>());
    }
}

/// A sink that keeps what it is given, published or not.
#[derive(Clone)]
struct Given {
    name: &'static str,
    records: Arc<Mutex<Vec<(i64, Option<i64>)>>>,
}

impl Given {
    fn named(name: &'static str) -> Self {
        Self { name, records: Arc::default() }
    }
}

impl TransactionalSink<i64> for Given {
    fn uri(&self) -> Result<String> {
        Ok(self.name.to_owned())
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        TransactionalSink::<i64>::target(&Discard::named(self.name), owner)
    }

    fn writer(&self, _: SinkPlace) -> Result<Box<dyn Writer<i64>>> {
        Ok(Box::new(self.clone()))
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        TransactionalSink::<i64>::publisher(&Discard::named(self.name), sink, slot)
    }
}

impl Writer<i64> for Given {
    fn write(&mut self, number: &i64, event_time: Option<i64>) -> Result<()> {
        self.records.lock().unwrap().push((*number, event_time));
        Ok(())
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        Ok(None)
    }
}

#[test]
fn a_sink_is_given_the_event_time_of_every_record_that_has_one() {
    let (untimed, timed) = (Given::named("untimed"), Given::named("timed"));
    let (to_untimed, to_timed) = (untimed.clone(), timed.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", VecSource::of([1, 2]));
        numbers.clone().sink("untimed", to_untimed.clone());
        numbers.event_time(|n| n * 10, Watermarks::monotonous()).sink("timed", to_timed.clone());
        Ok(())
    });
    job.run().unwrap();
    assert_eq!(*untimed.records.lock().unwrap(), [(1, None), (2, None)]);
    assert_eq!(*timed.records.lock().unwrap(), [(1, Some(10)), (2, Some(20))]);
}
