//! Nothing is lost and nothing is there twice, whatever happens to producers, brokers and checkpoint directories. Each of the
//! traps of transactional output has a test here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate::connector::awaited;
use tidegate::testing::TestJob;
use tidegate_connectors::kafka::{TopicSink, WhenUnknown};
use tidegate_kafka_tests::Brokers;

use crate::Test;
use crate::setting::{Setting, copy, numbers, write_text};

pub(crate) const TESTS: &[Test] = &[
    ("recovery::kills_lose_and_repeat_nothing", kills_lose_and_repeat_nothing),
    ("recovery::output_whose_publishing_was_not_noted_is_not_repeated", publishing_was_not_noted),
    ("recovery::output_that_was_not_published_is_published_by_fewer_workers", fewer_workers),
    (
        "recovery::output_whose_publishing_was_not_noted_is_not_repeated_by_fewer_workers",
        fewer_workers_repeat_nothing,
    ),
    ("recovery::an_orphaned_transaction_is_aborted_at_the_start", an_orphaned_transaction),
    ("recovery::a_producer_that_fences_the_job_is_fenced_in_turn", a_zombie_producer),
    ("recovery::an_older_snapshot_than_what_is_published_is_refused", an_older_snapshot),
    ("recovery::a_copy_of_a_job_is_noticed", a_copy_of_a_job),
    ("recovery::a_marker_that_has_expired_is_not_guessed", a_marker_that_has_expired),
    ("recovery::a_marker_is_written_again_before_brokers_forget_it", a_marker_that_ages),
    ("recovery::output_that_is_damaged_is_not_published_by_half", damaged_output),
    ("recovery::what_transactional_ids_hold_is_listed_and_aborted", what_ids_hold),
];

pub(crate) const TESTS_WITH_OWN_BROKERS: &[Test] = &[
    ("recovery::brokers_that_die_and_pause_are_waited_for", brokers_that_die_and_pause),
    ("recovery::output_that_is_too_slow_for_one_transaction_goes_out_in_several", slow_brokers),
];

fn kills_lose_and_repeat_nothing(setting: &Setting) {
    let (from, to) = (setting.topic(3), setting.topic(3));
    let mut written = 0;
    let job = setting.copy(&from, &to);
    for round in 0..6 {
        let more = written + 500;
        setting.client.write(&from, round % 3, numbers(written..more));
        written = more;
        let running = job.start();
        // The last runs are killed at once: while they restore, and before they have published anything.
        if round < 4 {
            running.checkpoint();
        }
        running.kill();
    }
    let running = job.start();
    running.checkpoint();
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..written));
}

/// Runs the job until the topic holds these values, and kills it.
fn run_until(setting: &Setting, job: &TestJob, to: &str, values: &[String]) {
    let running = job.start();
    setting.expect(to, values);
    running.kill();
}

/// Has the job forget what it has noted of its publishing, as if it had been killed between the commit and the note.
fn forget_published(directory: &Path) {
    fs::remove_file(directory.join("published")).expect("it was noted");
}

fn publishing_was_not_noted(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = copy_once(setting, &from, &to, |sink| sink);
    assert!(job.run().unwrap().finished);
    forget_published(job.directory());
    assert!(job.run().unwrap().finished);
    setting.expect(&to, &numbers(0..10));
}

/// The transactional id of a slot of a job that runs alone.
fn id(job: &TestJob, slot: usize) -> String {
    let note = fs::read_to_string(job.directory().join("job-id")).expect("the job has an id");
    format!("tidegate.{}.out.{slot}", note.split(' ').next().unwrap_or_default())
}

fn fewer_workers(setting: &Setting) {
    go_on_with_fewer_workers(setting, |to| {
        // As if it had been killed before it published: neither messages nor markers are there.
        setting.client.delete(to);
        setting.client.create(to, 1, &[]);
    });
}

fn fewer_workers_repeat_nothing(setting: &Setting) {
    // The output of each slot is noted under its own transactional id, and a worker that takes it over asks for that.
    go_on_with_fewer_workers(setting, |_| {});
}

/// Three workers publish, and one goes on from their snapshot, for which nothing is noted as published.
fn go_on_with_fewer_workers(setting: &Setting, between: impl FnOnce(&str)) {
    let (from, to) = (setting.topic(3), setting.topic(1));
    (0..3).for_each(|n| setting.client.write(&from, n as i32, numbers(10 * n..10 * n + 10)));
    let directory = tempfile::tempdir().unwrap();
    let job = |workers: usize| {
        copy_once(setting, &from, &to, |sink| sink).parallelism(workers).checkpoint_dir(directory.path())
    };
    assert!(job(3).run().unwrap().finished);
    setting.expect(&to, &numbers(0..30));
    between(&to);
    forget_published(directory.path());
    assert!(job(1).run().unwrap().finished);
    setting.expect(&to, &numbers(0..30));
}

fn an_orphaned_transaction(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = setting.copy(&from, &to);
    run_until(setting, &job, &to, &numbers(0..10));
    // What a process leaves that dies in the middle of publishing, and would come back to commit it.
    let orphan = setting.client.transaction(&id(&job, 0), &to, 0, &["orphan"]);
    setting.client.write(&from, 0, numbers(10..20));
    let running = job.start();
    // A reader would be blocked for the minute of the transaction's timeout.
    setting.expect(&to, &numbers(0..20));
    running.stop().unwrap();
    assert!(orphan.try_commit().is_err(), "it was fenced");
    setting.expect(&to, &numbers(0..20));
}

fn a_zombie_producer(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = setting.copy(&from, &to);
    let running = job.start();
    running.checkpoint();
    for round in 0..3 {
        let zombie = setting.client.transaction(&id(&job, 0), &to, 0, &["zombie"]);
        setting.client.write(&from, 0, numbers(10 + 10 * round..20 + 10 * round));
        setting.expect(&to, &numbers(0..20 + 10 * round));
        assert!(zombie.try_commit().is_err(), "it was fenced");
    }
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..40));
}

fn what_ids_hold(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = copy_once(setting, &from, &to, |sink| sink);
    assert!(job.run().unwrap().finished);
    let (kafka, id) = (setting.kafka(), id(&job, 0));
    let prefix = id.strip_suffix(".out.0").unwrap();
    let published = kafka.published(prefix).unwrap();
    let found: Vec<_> =
        published.iter().map(|p| (&*p.transactional_id, &*p.topic, p.epoch, p.messages, p.done)).collect();
    assert_eq!(found, [(&*id, &*to, 1, 10, 10)]);
    assert!(kafka.published("tidegate-other").unwrap().is_empty());

    let topics = [to.clone()];
    assert_eq!(kafka.blocked(&topics).unwrap(), []);
    let orphan = setting.client.transaction(&id, &to, 0, &["orphan"]);
    let blocked = kafka.blocked(&topics).unwrap();
    assert_eq!(blocked.iter().map(|b| (&*b.topic, b.partition)).collect::<Vec<_>>(), [(&*to, 0)]);
    // Behind the ten messages is the marker of their commit.
    assert_eq!((blocked[0].last_stable_offset, blocked[0].high_watermark), (11, 12));
    assert_eq!(kafka.published(prefix).unwrap(), published, "also while a transaction is open");
    kafka.abort_transaction(&id).unwrap();
    assert_eq!(kafka.blocked(&topics).unwrap(), []);
    assert!(orphan.try_commit().is_err(), "it was fenced");
    setting.expect(&to, &numbers(0..10));
}

fn an_older_snapshot(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = setting.copy(&from, &to);
    run_until(setting, &job, &to, &numbers(0..10));
    let older = tempfile::tempdir().unwrap();
    copy_directory(job.directory(), older.path());
    setting.client.write(&from, 0, numbers(10..20));
    run_until(setting, &job, &to, &numbers(0..20));

    // A state from a backup: what was published since then would be there twice.
    let error = setting.copy(&from, &to).checkpoint_dir(older.path()).run().unwrap_err().to_string();
    assert!(error.contains("cannot be taken back from a topic") && error.contains("job-id"), "{error}");
    setting.expect(&to, &numbers(0..20));

    // As another job it may go on from there, and repeats what came after the snapshot.
    fs::remove_file(older.path().join("job-id")).unwrap();
    let mut twice = [numbers(0..20), numbers(10..20)].concat();
    twice.sort();
    run_until(setting, &setting.copy(&from, &to).checkpoint_dir(older.path()), &to, &twice);
}

fn a_copy_of_a_job(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = setting.copy(&from, &to);
    let running = job.start();
    running.checkpoint();
    running.stop().unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_directory(job.directory(), copy.path());
    // Both go on from the same snapshot. Which of them publishes first is not known; the other one must end, at its start or when
    // it publishes.
    let both = [job.start(), setting.copy(&from, &to).checkpoint_dir(copy.path()).start()];
    setting.client.write(&from, 0, ["new"]);
    let ended = loop {
        setting.client.write(&from, 0, ["more"]);
        std::thread::sleep(Duration::from_millis(100));
        if both.iter().any(|running| running.metrics().is_empty()) {
            break both;
        }
    };
    let errors = ended.map(|running| running.stop().err().map(|error| error.to_string()));
    let told: Vec<_> = errors.iter().flatten().collect();
    assert!(!told.is_empty());
    let is_right = |error: &&String| {
        error.contains("by another run of the job") || error.contains("cannot be taken back from a topic")
    };
    assert!(told.iter().all(is_right), "{told:?}");
}

fn a_marker_that_has_expired(setting: &Setting) {
    for (when_unknown, expected) in [
        (WhenUnknown::Fail, None),
        (WhenUnknown::Skip, Some(numbers(0..10))),
        (WhenUnknown::Publish, Some(twice())),
    ] {
        let (from, to) = (setting.topic(1), setting.topic(1));
        setting.client.write(&from, 0, numbers(0..10));
        let job = copy_once(setting, &from, &to, move |sink| {
            sink.marker_retention(Duration::ZERO).when_unknown(when_unknown)
        });
        assert!(job.run().unwrap().finished);
        forget_published(job.directory());
        setting.client.delete_group(&id(&job, 0));
        let Some(expected) = expected else {
            let error = job.run().unwrap_err().to_string();
            assert!(
                error.contains("it cannot be known whether") && error.contains("WhenUnknown::Skip"),
                "{error}"
            );
            continue;
        };
        assert!(job.run().unwrap().finished);
        setting.expect(&to, &expected);
    }
}

fn a_marker_that_ages(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let job = copy_with_sink(setting, &from, &to, true, |sink| sink.marker_retention(Duration::from_secs(2)));
    let running = job.start();
    setting.expect(&to, &numbers(0..10));
    let id = id(&job, 0);
    let prefix = id.strip_suffix(".out.0").unwrap();
    let marker = || setting.kafka().published(prefix).unwrap().pop();
    let published = marker().unwrap();
    running.checkpoint();
    let before = tempfile::tempdir().unwrap();
    copy_directory(job.directory(), before.path());
    setting.client.delete_group(&id);
    assert_eq!(marker(), None);
    // There is nothing to publish any more.
    let until = Instant::now() + Duration::from_secs(30);
    while marker().is_none() {
        assert!(Instant::now() < until, "the marker is not written again");
        running.checkpoint();
    }
    assert_eq!(marker(), Some(published), "what is published has not changed");
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..10));
    // A marker of a newer epoch would say that output is there which this snapshot does not know of.
    setting.client.write(&from, 0, ["more"]);
    let and_more = [numbers(0..10), vec!["more".to_owned()]].concat();
    run_until(setting, &job.checkpoint_dir(before.path()), &to, &and_more);
}

fn damaged_output(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    // More than goes into one transaction.
    let line = "x".repeat(900_000);
    (0..50).for_each(|_| setting.client.write(&from, 0, [&*line]));
    let job = copy_once(setting, &from, &to, |sink| sink);
    assert!(job.run().unwrap().finished);
    assert_eq!(setting.rows(&to).len(), 50);
    // As if it had been killed before it published.
    setting.client.delete(&to);
    setting.client.create(&to, 1, &[]);
    forget_published(job.directory());
    let staged = largest_file(job.directory());
    let mut bytes = fs::read(&staged).unwrap();
    let place = bytes.len() - 1_000;
    bytes[place] ^= 1;
    fs::write(&staged, bytes).unwrap();

    let error = job.run().unwrap_err().to_string();
    assert!(error.contains(staged.file_name().unwrap().to_str().unwrap()), "{error}");
    assert_eq!(setting.rows(&to).len(), 0);
}

fn largest_file(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.map(|path| if path.is_dir() { largest_file(&path) } else { path });
    files.max_by_key(|path| fs::metadata(path).map_or(0, |file| file.len())).unwrap_or_default()
}

/// Ten numbers, each twice.
fn twice() -> Vec<String> {
    let mut twice = [numbers(0..10), numbers(0..10)].concat();
    twice.sort();
    twice
}

/// A job that copies what a topic holds in one epoch, and ends.
fn copy_once(
    setting: &Setting,
    from: &str,
    to: &str,
    options: impl Fn(TopicSink) -> TopicSink + Send + Sync + 'static,
) -> TestJob {
    copy_with_sink(setting, from, to, false, options).no_interval()
}

fn copy_with_sink(
    setting: &Setting,
    from: &str,
    to: &str,
    follow: bool,
    options: impl Fn(TopicSink) -> TopicSink + Send + Sync + 'static,
) -> TestJob {
    let (kafka, from, to) = (setting.kafka(), from.to_owned(), to.to_owned());
    TestJob::new(move |job| {
        let text = kafka.topic(&from).follow(follow).utf8();
        job.source("in", text).sink("out", options(kafka.sink(&to)).write_by(write_text));
        Ok(())
    })
}

fn brokers_that_die_and_pause(_: &Setting) {
    let brokers = Brokers::start(1, &[]).expect("others have started");
    let setting = Setting::of(brokers);
    let (from, to) = (setting.topic(2), setting.topic(2));
    let job = setting.copy_with(&[("transaction.timeout.ms", "5000")], &from, &to).parallelism(2);
    let running = job.start();
    setting.client.write(&from, 0, numbers(0..100));
    running.checkpoint();

    // For longer than the timeout of its transactions.
    setting.client.write(&from, 1, numbers(100..200));
    setting.brokers.pause(1).unwrap();
    std::thread::sleep(Duration::from_secs(8));
    let address = setting.brokers.bootstrap();
    let asked = [format!("the brokers {address}: "), format!("the broker {address} of partition")];
    until_awaited("it is shown", |what| asked.iter().all(|part| what.contains(part)));
    setting.brokers.go_on(1).unwrap();
    setting.client.write(&from, 0, numbers(200..300));
    setting.expect(&to, &numbers(0..300));
    until_awaited("it is shown no longer", |what| !what.contains(address));

    setting.client.write(&from, 1, numbers(300..400));
    setting.brokers.kill(1).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    setting.brokers.restart(1).unwrap();
    setting.client.write(&from, 0, numbers(400..500));
    setting.expect(&to, &numbers(0..500));
    running.checkpoint();
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..500));
}

fn slow_brokers(_: &Setting) {
    let brokers = Brokers::start(1, &[]).expect("others have started");
    let setting = Setting::of(brokers);
    let (from, to) = (setting.topic(1), setting.topic(1));
    let line = "x".repeat(100_000);
    (0..15).for_each(|_| setting.client.write(&from, 0, vec![&*line; 10]));
    let quota = "--alter --add-config producer_byte_rate=1000000 --entity-type clients --entity-name slow";
    setting.brokers.tool("ConfigCommand", &quota.split(' ').collect::<Vec<_>>());
    // More than may be sent within the timeout of a transaction.
    let settings = [("transaction.timeout.ms", "5000"), ("client.id", "slow"), ("compression.type", "none")];
    let kafka = setting.kafka_with(&settings);
    assert!(copy(kafka, &from, &to, false).run().unwrap().finished);
    assert_eq!(setting.rows(&to).len(), 150);
}

/// Waits until what the job shows to wait for, all in one text, is so.
fn until_awaited(what: &str, is_so: impl Fn(&str) -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let shown: Vec<String> = awaited().into_iter().map(|it| it.what).collect();
        if is_so(&shown.join("\n")) {
            return;
        }
        assert!(Instant::now() < until, "{what}: {shown:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
