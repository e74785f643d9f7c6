//! Sinks that do not wait for snapshots.

use std::time::{Duration, Instant};

use tidegate::testing::{TestJob, TestSource};
use tidegate_connectors::kafka::DeliveryGuarantee;
use tidegate_kafka_tests::Brokers;

use crate::Test;
use crate::setting::{Setting, copy, numbers, write_text};

pub(crate) const TESTS: &[Test] = &[
    ("delivery::at_least_once_is_there_before_the_snapshot", there_before_the_snapshot),
    ("delivery::at_least_once_loses_nothing_by_kills", kills_lose_nothing),
    ("delivery::a_message_that_no_topic_takes_ends_the_job", a_message_that_no_topic_takes),
    ("delivery::a_job_may_go_on_with_another_guarantee", another_guarantee),
];

pub(crate) const TESTS_WITH_OWN_BROKERS: &[Test] = &[
    ("delivery::at_least_once_a_snapshot_waits_for_the_brokers", a_snapshot_waits),
    ("delivery::none_loses_what_the_brokers_do_not_take_and_goes_on", none_goes_on),
];

/// A job that writes what a test gives it.
fn write(
    setting: &Setting,
    settings: &[(&str, &str)],
    to: &str,
    guarantee: DeliveryGuarantee,
) -> (TestJob, TestSource<String>) {
    let (kafka, to) = (setting.kafka_with(settings).delivery(guarantee), to.to_owned());
    let source = TestSource::followed(1);
    let input = source.clone();
    let job = TestJob::new(move |job| {
        job.source("in", input.clone()).sink("out", kafka.sink(&to).write_by(write_text));
        Ok(())
    });
    (job, source)
}

fn there_before_the_snapshot(setting: &Setting) {
    let to = setting.topic(2);
    let (job, source) = write(setting, &[], &to, DeliveryGuarantee::AtLeastOnce);
    let running = job.interval(Duration::from_secs(3_600)).start();
    source.extend(0, numbers(0..100));
    setting.expect(&to, &numbers(0..100));
    running.kill();
}

fn a_snapshot_waits(_: &Setting) {
    let setting = Setting::of(Brokers::start(1, &[]).expect("others have started"));
    let to = setting.topic(1);
    let (job, source) = write(&setting, &[], &to, DeliveryGuarantee::AtLeastOnce);
    let running = job.start();
    source.extend(0, numbers(0..10));
    running.checkpoint();
    setting.brokers.pause(1).unwrap();
    source.extend(0, numbers(10..20));
    source.wait_until_read();
    // At most the checkpoint that was under way ends, and one that began before the records were read.
    let before = running.published();
    std::thread::sleep(Duration::from_secs(2));
    assert!(running.published().0 <= before.0 + 2, "a snapshot counts what is not written");
    setting.brokers.go_on(1).unwrap();
    running.checkpoint();
    running.kill();
    setting.expect(&to, &numbers(0..20));
}

fn kills_lose_nothing(setting: &Setting) {
    let (from, to) = (setting.topic(2), setting.topic(2));
    let job = copy(setting.kafka().delivery(DeliveryGuarantee::AtLeastOnce), &from, &to, true);
    for round in 0..5 {
        setting.client.write(&from, round % 2, numbers(500 * round as usize..500 * (round as usize + 1)));
        let running = job.start();
        if round % 2 == 0 {
            running.checkpoint();
        }
        running.kill();
    }
    let running = job.start();
    running.checkpoint();
    running.stop().unwrap();
    let mut found = setting.client.values(&to);
    assert!(found.len() >= 2_500);
    found.dedup();
    assert_eq!(found, numbers(0..2_500));
}

fn a_message_that_no_topic_takes(setting: &Setting) {
    for guarantee in [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::None] {
        let to = setting.topic_with(1, &[("max.message.bytes", "1000")]);
        let (job, source) = write(setting, &[], &to, guarantee);
        let running = job.start();
        source.push(0, "x".repeat(5_000));
        let error = running.wait().unwrap_err().to_string();
        assert!(error.contains(&to) && error.contains("raise max.message.bytes"), "{error}");
        assert!(error.contains("value Some(\"xxx") && error.len() < 1_000, "{error}");
    }
}

fn none_goes_on(_: &Setting) {
    let setting = Setting::of(Brokers::start(1, &[]).expect("others have started"));
    let to = setting.topic(1);
    let (job, source) = write(&setting, &[("message.timeout.ms", "500")], &to, DeliveryGuarantee::None);
    let running = job.start();
    source.extend(0, numbers(0..10));
    setting.expect(&to, &numbers(0..10));
    setting.brokers.pause(1).unwrap();
    source.extend(0, numbers(10..20));
    running.checkpoint();
    std::thread::sleep(Duration::from_secs(2));
    setting.brokers.go_on(1).unwrap();
    source.extend(0, numbers(20..30));
    let until = Instant::now() + Duration::from_secs(60);
    while !numbers(20..30).iter().all(|number| setting.client.values(&to).contains(number)) {
        assert!(Instant::now() < until, "what is sent later does not arrive");
    }
    running.kill();
}

fn another_guarantee(setting: &Setting) {
    let (from, to) = (setting.topic(1), setting.topic(1));
    setting.client.write(&from, 0, numbers(0..10));
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let job = |guarantee, follow: bool| {
        let job = copy(setting.kafka().delivery(guarantee), &from, &to, follow);
        job.checkpoint_dir(directories[usize::from(follow)].path())
    };
    assert!(job(DeliveryGuarantee::ExactlyOnce, false).no_interval().run().unwrap().finished);
    setting.expect(&to, &numbers(0..10));
    // As if it had been killed before it published: neither messages nor markers are there, and the staged output is.
    std::fs::remove_file(directories[0].path().join("published")).unwrap();
    setting.client.delete(&to);
    setting.client.create(&to, 1, &[]);
    assert!(job(DeliveryGuarantee::AtLeastOnce, false).no_interval().run().unwrap().finished);
    setting.expect(&to, &numbers(0..10));
    // Another job goes on from one to the other.
    setting.client.delete(&to);
    setting.client.create(&to, 1, &[]);
    for (round, guarantee) in
        [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce].into_iter().enumerate()
    {
        let running = job(guarantee, true).start();
        setting.client.write(&from, 0, numbers(10 + 10 * round..20 + 10 * round));
        running.checkpoint();
        running.stop().unwrap();
        setting.expect(&to, &numbers(0..20 + 10 * round));
    }
}
