//! The documentation's table for what is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate::connector::{DeadLetter, PartitionStatus, Polled, Source};
use tidegate::testing::{Discard, TestJob, VecSink};
use tidegate_connectors::kafka::{Message, Reset, Start, TopicSource};

use crate::Test;
use crate::setting::{Setting, numbers, read_all};

pub(crate) const TESTS: &[Test] = &[
    ("reading::a_bounded_source_ends_where_the_partitions_ended_at_the_start", a_bounded_source_ends),
    ("reading::a_bounded_source_ends_while_the_topic_is_written", a_bounded_source_ends_under_load),
    ("reading::a_job_goes_on_behind_what_it_has_read", a_job_goes_on_behind_what_it_has_read),
    ("reading::every_kind_of_value_has_its_outcome", every_kind_of_value_has_its_outcome),
    ("reading::a_message_has_key_headers_timestamp_partition_and_offset", a_message_has_all_its_parts),
    ("reading::aborted_transactions_are_not_read_and_open_ones_are_waited_for", transactions_in_the_input),
    ("reading::partitions_that_are_added_are_read_from_their_beginning", partitions_that_are_added),
    ("reading::latest_and_timestamp_count_for_the_first_start_only", latest_and_timestamp),
    ("reading::several_topics_are_read_as_one_source", several_topics),
    ("reading::topics_of_a_pattern_come_and_go", topics_of_a_pattern),
    ("reading::topics_of_a_pattern_that_were_deleted_do_not_hold_a_start_up", many_deleted_topics),
    ("reading::explicit_offsets_count_for_the_partitions_that_they_name", explicit_offsets),
    ("reading::offsets_are_committed_to_the_group_and_started_from", offsets_of_a_group),
    ("reading::lost_messages_end_the_job_by_name", lost_messages_end_the_job),
    ("reading::a_topic_that_is_missing_is_named", a_missing_topic_is_named),
    ("reading::a_topic_that_is_deleted_ends_the_job", a_topic_that_is_deleted),
    ("reading::a_topic_that_is_deleted_ends_a_bounded_read", a_bounded_topic_that_is_deleted),
    ("reading::large_messages_and_all_codecs_are_read", large_messages_and_all_codecs),
];

/// A job that follows a topic of text, and what it has read.
fn follow(setting: &Setting, topic: &str, start: Start) -> (TestJob, VecSink<String>) {
    let (kafka, topic, out) = (setting.kafka(), topic.to_owned(), VecSink::new());
    let sink = out.clone();
    let job = TestJob::new(move |job| {
        job.source("in", kafka.topic(&topic).start(start.clone()).follow(true).utf8())
            .sink("out", sink.clone());
        Ok(())
    });
    (job, out)
}

fn a_bounded_source_ends(setting: &Setting) {
    let topic = setting.topic(3);
    setting.client.write(&topic, 0, ["a", "b"]);
    setting.client.write(&topic, 2, ["c"]);
    let source = setting.kafka().topic(&topic).utf8();
    assert_eq!(source.partitions().unwrap(), [0, 1, 2].map(|n| format!("{topic}-{n}")));
    let (read, reader) = read_all(&source);
    assert_eq!(read, ["a", "b", "c"]);
    assert_eq!([0, 1, 2].map(|n| reader.position(n)), [2, 0, 1]);
    assert!(!source.has_more(&format!("{topic}-0"), &2.into()).unwrap());
    setting.client.write(&topic, 0, ["d"]);
    assert!(source.has_more(&format!("{topic}-0"), &2.into()).unwrap());
}

fn a_bounded_source_ends_under_load(setting: &Setting) {
    let topic = setting.topic(1);
    // The last offset in front of the end is that of a marker, and not of a message.
    setting.client.transaction(&setting.name(), &topic, 0, &["a", "b"]).commit();
    setting.client.until_committed(&topic);
    let source = setting.kafka().topic(&topic).utf8();
    let mut reader = source.reader().unwrap();
    reader.open(&format!("{topic}-0"), None).unwrap();
    let is_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Never so long without a message that the end would be met by itself.
        let more = (0..).take_while(|_| !is_read.load(Ordering::SeqCst)).map(|number: u32| {
            std::thread::sleep(Duration::from_millis(5));
            (None, Some(number.to_string().into_bytes()))
        });
        scope.spawn(|| setting.client.write_with(&[("linger.ms", "0")], &topic, 0, more));
        let (mut polled, until) = (Polled::new(), Instant::now() + Duration::from_secs(30));
        while reader.poll(0, &mut polled, 100).unwrap() != PartitionStatus::Ended {
            assert!(Instant::now() < until || is_read.swap(true, Ordering::SeqCst), "it does not end");
        }
        is_read.store(true, Ordering::SeqCst);
        let read: Vec<_> = polled.take().0.into_iter().map(|(_, text)| text).collect();
        assert_eq!((&*read, reader.position(0)), (&["a".to_owned(), "b".to_owned()][..], 3.into()));
    });
}

fn a_job_goes_on_behind_what_it_has_read(setting: &Setting) {
    let topic = setting.topic(2);
    setting.client.write(&topic, 0, ["1", "2"]);
    let (job, out) = follow(setting, &topic, Start::Earliest);
    let running = job.start();
    out.wait_for(2);
    running.kill();
    setting.client.write(&topic, 1, ["3"]);
    let running = job.start();
    assert_eq!(out.wait_for(3), ["1", "2", "3"]);
    assert!(!running.stop().unwrap().finished);
}

fn every_kind_of_value_has_its_outcome(setting: &Setting) {
    let topic = setting.topic(1);
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let messages = [
        (some("key"), some("{\"n\":1}")),
        (None, some("{\"n\":2}")),
        (some("gone"), None),
        (None, some("")),
        (None, some("{\"n\":")),
        (None, Some(b"{\"n\":\"\xff\"}".to_vec())),
    ];
    setting.client.write_with(&[], &topic, 0, messages);
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Row {
        n: u32,
    }
    let (out, letters) = (VecSink::<Row>::new(), VecSink::<DeadLetter>::new());
    let (kafka, from, sinks) = (setting.kafka(), topic.clone(), (out.clone(), letters.clone()));
    let job = TestJob::new(move |job| {
        let rows = job.source("in", kafka.topic(&from).json::<Row>()).dead_letters(sinks.1.clone());
        rows.sink("out", sinks.0.clone());
        Ok(())
    });
    assert!(job.run().unwrap().finished);
    assert_eq!(out.records(), [Row { n: 1 }, Row { n: 2 }]);
    let letters: Vec<_> = letters.records().into_iter().map(|l| (l.partition, l.offset, l.error)).collect();
    let expected = [
        (2, "the message has no value: it is a tombstone"),
        (3, "EOF while parsing a value at column 0"),
        (4, "EOF while parsing a value at column 5"),
        (5, "not UTF-8 from byte 6 on"),
    ];
    let partition = format!("{topic}-0");
    assert_eq!(
        letters,
        expected.map(|(offset, error)| (Some(partition.clone()), Some(offset), error.to_owned()))
    );
}

fn a_message_has_all_its_parts(setting: &Setting) {
    let (from, to) = (setting.topic(2), setting.lasting_topic(1));
    setting.client.write_with(&[], &from, 1, [(Some(b"k".to_vec()), Some(b"v".to_vec()))]);
    let kafka = setting.kafka();
    // Through a sink and back, for the headers and the timestamp.
    let (source, target) = (from.clone(), to.clone());
    let job = TestJob::new(move |job| {
        job.source("in", kafka.topic(&source).utf8()).sink(
            "out",
            kafka.sink(&target).write_by(|text: &String, message| {
                message.key().extend_from_slice(b"key");
                message.value().extend_from_slice(text.as_bytes());
                message.add_header("trace", Some(b"7"));
                message.set_timestamp(1_234);
                Ok(())
            }),
        );
        Ok(())
    });
    assert!(job.run().unwrap().finished);
    let describe = |message: &Message<'_>| {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let headers: Vec<_> =
            message.headers().into_iter().map(|(name, value)| (name, text(value))).collect();
        let place = (message.topic().to_owned(), message.partition(), message.offset());
        Ok((place, text(message.key()), text(message.value()), message.timestamp(), headers))
    };
    setting.client.until_committed(&to);
    let (read, _) = read_all(&setting.kafka().topic(&to).read_by(describe));
    let some = |text: &str| Some(text.to_owned());
    let headers = vec![("trace".to_owned(), some("7"))];
    assert_eq!(read, [((to.clone(), 0, 0), some("key"), some("v"), Some(1_234), headers)]);
    let (read, _) = read_all(&setting.kafka().topic(&from).read_by(describe));
    assert_eq!((&read[0].0, &read[0].1), (&(from.clone(), 1, 0), &some("k")));
}

fn transactions_in_the_input(setting: &Setting) {
    let topic = setting.topic(1);
    let id = setting.name();
    setting.client.write(&topic, 0, ["before"]);
    setting.client.transaction(&id, &topic, 0, &["aborted 1", "aborted 2"]).abort();
    setting.client.transaction(&id, &topic, 0, &["committed"]).commit();
    setting.client.until_committed(&topic);
    let source = setting.kafka().topic(&topic).utf8();
    let (read, reader) = read_all(&source);
    assert_eq!(read, ["before", "committed"]);
    // Behind the last message is the marker of the commit, and there is nothing more to read.
    assert_eq!(reader.position(0), 6);
    assert!(!source.has_more(&format!("{topic}-0"), &reader.position(0)).unwrap());

    let open = setting.client.transaction(&id, &topic, 0, &["open"]);
    setting.client.write(&topic, 0, ["behind it"]);
    assert_eq!(read_all(&source).0, ["before", "committed"], "it ends in front of an open transaction");
    let (job, out) = follow(setting, &topic, Start::Earliest);
    let running = job.start();
    assert_eq!(out.wait_for(2), ["before", "committed"]);
    open.commit();
    assert_eq!(out.wait_for(4), ["before", "committed", "open", "behind it"]);
    running.stop().unwrap();
}

fn partitions_that_are_added(setting: &Setting) {
    let topic = setting.topic(1);
    let (job, out) = follow(setting, &topic, Start::Latest);
    let running = job.start();
    running.checkpoint();
    setting.client.write(&topic, 0, ["1"]);
    out.wait_for(1);
    setting.client.add_partitions(&topic, 2);
    setting.client.write(&topic, 1, ["2", "3"]);
    assert_eq!(out.wait_for(3), ["1", "2", "3"]);
    running.stop().unwrap();
    setting.client.add_partitions(&topic, 3);
    setting.client.write(&topic, 2, ["4"]);
    let running = job.start();
    assert_eq!(out.wait_for(4), ["1", "2", "3", "4"], "also one that was added while the job was away");
    running.stop().unwrap();
}

fn latest_and_timestamp(setting: &Setting) {
    let topic = setting.topic(2);
    setting.client.write(&topic, 0, ["old"]);
    std::thread::sleep(Duration::from_millis(20));
    let between = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    std::thread::sleep(Duration::from_millis(20));
    setting.client.write(&topic, 0, ["new"]);
    let (job, out) = follow(setting, &topic, Start::Timestamp(between));
    let running = job.start();
    assert_eq!(out.wait_for(1), ["new"]);
    running.stop().unwrap();
    let (latest, out) = follow(setting, &topic, Start::Latest);
    let running = latest.start();
    running.checkpoint();
    running.stop().unwrap();
    setting.client.write(&topic, 0, ["while it was away"]);
    let running = latest.start();
    assert_eq!(out.wait_for(1), ["while it was away"]);
    running.stop().unwrap();
}

/// A job that follows a source of text, and what it has read.
fn follow_by(source: impl Fn() -> TopicSource + Send + Sync + 'static) -> (TestJob, VecSink<String>) {
    let out = VecSink::new();
    let sink = out.clone();
    let job = TestJob::new(move |job| {
        job.source("in", source().follow(true).utf8()).sink("out", sink.clone());
        Ok(())
    });
    (job, out)
}

fn several_topics(setting: &Setting) {
    let (a, b) = (setting.topic(2), setting.topic(1));
    setting.client.write(&a, 1, ["1"]);
    setting.client.write(&b, 0, ["2"]);
    let source = setting.kafka().topics([&*b, &*a]).utf8();
    assert_eq!(source.uri().unwrap(), format!("kafka:{a},{b}"), "the order does not count");
    let (mut read, _) = read_all(&source);
    read.sort();
    assert_eq!(read, ["1", "2"]);
    let missing = setting.name();
    let error = setting.kafka().topics([&*a, &*missing]).utf8().partitions().unwrap_err().to_string();
    assert!(error.contains(&missing) && !error.contains(&a), "{error}");
}

fn topics_of_a_pattern(setting: &Setting) {
    let prefix = setting.name();
    let [first, second, other] = ["-x", "-y", "-z-not"].map(|end| format!("{prefix}{end}"));
    for topic in [&first, &other] {
        setting.client.create(topic, 1, &[]);
        setting.client.write(topic, 0, [topic]);
    }
    let pattern = format!("{prefix}-.");
    let kafka = setting.kafka();
    assert_eq!(read_all(&kafka.topic_pattern(&pattern).utf8()).0, [&*first]);
    let no_match = kafka.topic_pattern(&format!("{prefix}-none")).utf8().partitions().unwrap_err();
    assert!(no_match.to_string().contains("-none"), "{no_match}");

    let (job, out) = follow_by(move || kafka.topic_pattern(&pattern));
    let running = job.start();
    assert_eq!(out.wait_for(1), [&*first]);
    setting.client.create(&second, 1, &[]);
    setting.client.write(&second, 0, ["new topic"]);
    assert_eq!(out.wait_for(2)[1], "new topic");
    // A topic that is deleted has ended, while it is read and when the job is started again.
    let often =
        [("topic.metadata.refresh.interval.ms", "1000"), ("topic.metadata.propagation.max.ms", "1000")];
    let source = setting.kafka_with(&often).topic_pattern(&first).follow(true).utf8();
    let mut reader = source.reader().unwrap();
    reader.open(&format!("{first}-0"), None).unwrap();
    running.checkpoint();
    setting.client.delete(&first);
    running.checkpoint();
    running.kill();
    let running = job.start();
    setting.client.write(&second, 0, ["still read"]);
    assert_eq!(out.wait_for(3)[2], "still read");
    running.stop().unwrap();
    let until = Instant::now() + Duration::from_secs(90);
    while reader.poll(0, &mut Polled::new(), 100).unwrap() != PartitionStatus::Ended {
        assert!(Instant::now() < until, "a deleted topic does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    // One that is made again is another one, and read from its beginning.
    let position = reader.position(0);
    let reopened = || {
        let mut reader = source.reader().unwrap();
        reader.open(&format!("{first}-0"), Some(&position)).unwrap();
        reader
    };
    assert_eq!(reopened().poll(0, &mut Polled::new(), 100).unwrap(), PartitionStatus::Ended);
    setting.client.create(&first, 1, &[]);
    setting.client.write(&first, 0, ["again"]);
    let (mut reader, mut polled, mut read) = (reopened(), Polled::new(), Vec::new());
    while read.is_empty() {
        assert_ne!(reader.poll(0, &mut polled, 100).unwrap(), PartitionStatus::Ended);
        read.extend(polled.take().0.into_iter().map(|(_, text)| text));
    }
    assert_eq!(read, ["again"]);
}

fn many_deleted_topics(setting: &Setting) {
    let prefix = setting.name();
    let source = setting.kafka().topic_pattern(&format!("{prefix}-.*")).follow(true).utf8();
    let (mut reader, began) = (source.reader().unwrap(), Instant::now());
    for number in 0..8 {
        // Half of them were read before, and half only found.
        let position = (number % 2 == 0).then(|| 5.into());
        reader.open(&format!("{prefix}-{number}-0"), position.as_ref()).unwrap();
        assert_eq!(reader.poll(number, &mut Polled::new(), 100).unwrap(), PartitionStatus::Ended);
    }
    // Brokers have to insist on it for ten seconds, once.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

fn explicit_offsets(setting: &Setting) {
    let topic = setting.topic(2);
    setting.client.write(&topic, 0, ["0", "1", "2"]);
    setting.client.write(&topic, 1, ["10"]);
    let (kafka, name) = (setting.kafka(), topic.clone());
    let (job, out) = follow_by(move || kafka.topic(&name).start(Start::offsets([(&*name, 0, 2)])));
    let running = job.start();
    let mut read = out.wait_for(2);
    read.sort();
    assert_eq!(read, ["10", "2"]);
    running.stop().unwrap();
    for (start, part) in [(4, "has the offsets 0 to 3"), (-1, "offset -1")] {
        let (kafka, name) = (setting.kafka(), topic.clone());
        let (job, _) = follow_by(move || kafka.topic(&name).start(Start::offsets([(&*name, 0, start)])));
        let error = job.run().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let (kafka, name) = (setting.kafka(), topic.clone());
    let (job, _) = follow_by(move || kafka.topic(&name).start(Start::offsets([(&*name, 7, 0)])));
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("partition 7"), "{error}");

    // A topic of a pattern may be deleted when the job has begun, and has to be there when it begins.
    let (prefix, pattern_of) = (setting.name(), setting.kafka());
    let (first, second) = (format!("{prefix}-1"), format!("{prefix}-2"));
    [&first, &second].into_iter().for_each(|topic| setting.client.create(topic, 1, &[]));
    setting.client.write(&first, 0, ["skipped", "first"]);
    let named = first.clone();
    let (job, out) = follow_by(move || {
        pattern_of.topic_pattern(&format!("{prefix}-.")).start(Start::offsets([(&*named, 0, 1)]))
    });
    let running = job.start();
    assert_eq!(out.wait_for(1), ["first"]);
    running.checkpoint();
    running.kill();
    setting.client.delete(&first);
    setting.client.write(&second, 0, ["second"]);
    let running = job.start();
    assert_eq!(out.wait_for(2)[1], "second");
    running.stop().unwrap();
    let (kafka, pattern) = (setting.kafka(), format!("{second}.*"));
    let (job, _) = follow_by(move || kafka.topic_pattern(&pattern).start(Start::offsets([("none", 0, 1)])));
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("partition 0 of the topic none"), "{error}");
}

fn offsets_of_a_group(setting: &Setting) {
    let (topic, group) = (setting.topic(2), setting.name());
    let kafka = setting.kafka_with(&[("group.id", &group)]);
    setting.client.write(&topic, 0, ["1", "2"]);
    let start = |reset| {
        let (kafka, topic) = (kafka.clone(), topic.clone());
        follow_by(move || kafka.topic(&topic).start(Start::Committed(reset)))
    };
    let error = start(Reset::None).0.run().unwrap_err().to_string();
    assert!(error.contains(&group) && error.contains("Reset::Earliest"), "{error}");
    let (job, out) = start(Reset::Earliest);
    let running = job.start();
    assert_eq!(out.wait_for(2), ["1", "2"]);
    running.stop().unwrap();
    assert_eq!(setting.client.committed(&group, &topic), [Some(2), Some(0)], "what the last snapshot has");
    // A job that begins now goes on from there.
    setting.client.write(&topic, 0, ["3"]);
    let (job, out) = start(Reset::None);
    let running = job.start();
    assert_eq!(out.wait_for(1), ["3"]);
    running.stop().unwrap();
    // Its own later starts do not look at the group.
    assert_eq!(setting.client.committed(&group, &topic), [Some(3), Some(0)]);
    let without = setting.kafka();
    let (job, _) = follow_by(move || without.topic("any").start(Start::Committed(Reset::Latest)));
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("group.id"), "{error}");
}

fn lost_messages_end_the_job(setting: &Setting) {
    let topic = setting.topic(1);
    setting.client.write(&topic, 0, numbers(0..10));
    let (kafka, from) = (setting.kafka(), topic.clone());
    let job = TestJob::new(move |job| {
        job.source("in", kafka.topic(&from).follow(true).utf8()).sink("out", Discard::named("out"));
        Ok(())
    });
    let running = job.start();
    running.checkpoint();
    running.stop().unwrap();
    setting.client.write(&topic, 0, numbers(10..30));
    setting.client.delete_before(&topic, 0, 20);
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("from offset 10 on are gone: the first that is left has offset 20"), "{error}");

    // The topic is made again, and shorter than what was read.
    setting.client.delete(&topic);
    setting.client.create(&topic, 1, &[]);
    setting.client.write(&topic, 0, ["another"]);
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains("ends at offset 1, and the job has read up to 10"), "{error}");
}

fn a_missing_topic_is_named(setting: &Setting) {
    let topic = setting.name();
    let (kafka, from) = (setting.kafka(), topic.clone());
    let job = TestJob::new(move |job| {
        job.source("in", kafka.topic(&from).utf8()).sink("out", Discard::named("out"));
        Ok(())
    });
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains(&format!("there is no topic {topic} at ")), "{error}");
}

fn a_topic_that_is_deleted(setting: &Setting) {
    let topic = setting.topic(1);
    setting.client.write(&topic, 0, ["a"]);
    let (job, out) = follow(setting, &topic, Start::Earliest);
    let running = job.start();
    out.wait_for(1);
    setting.client.delete(&topic);
    let error = running.wait().unwrap_err().to_string();
    assert!(error.contains(&format!("the topic {topic} is not there any more")), "{error}");
}

fn a_bounded_topic_that_is_deleted(setting: &Setting) {
    let topic = setting.topic(1);
    let line = "x".repeat(10_000);
    (0..100).for_each(|_| setting.client.write(&topic, 0, [&*line]));
    // So that most of them are not fetched yet.
    let few = [("fetch.message.max.bytes", "10000"), ("queued.max.messages.kbytes", "10")];
    let source = setting.kafka_with(&few).topic(&topic).utf8();
    let mut reader = source.reader().unwrap();
    reader.open(&source.partitions().unwrap()[0], None).unwrap();
    let (mut read, mut is_deleted, until) = (0, false, Instant::now() + Duration::from_secs(120));
    let error = loop {
        let mut polled = Polled::new();
        match reader.poll(0, &mut polled, 1) {
            Ok(PartitionStatus::Ended) => panic!("all {read} messages had been fetched"),
            Ok(_) => read += polled.take().0.len(),
            Err(error) => break error.to_string(),
        }
        if read > 0 && !is_deleted {
            setting.client.delete(&topic);
            is_deleted = true;
        }
        assert!(Instant::now() < until, "after {read} messages it waits for a topic that is gone");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(error.contains(&format!("partition 0 of the topic {topic} is not there any more")), "{error}");
}

fn large_messages_and_all_codecs(setting: &Setting) {
    let topic = setting.topic_with(1, &[("max.message.bytes", "20000000")]);
    let large = "x".repeat(10 << 20);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let messages = ["a", "b"].map(|text| (None, Some(format!("{codec} {text}").into_bytes())));
        setting.client.write_with(&[("compression.type", codec)], &topic, 0, messages);
    }
    setting.client.write(&topic, 0, [&large]);
    setting.client.write(&topic, 0, ["behind it"]);
    let (read, _) = read_all(&setting.kafka().topic(&topic).utf8());
    assert_eq!(read.len(), 12);
    assert_eq!((&*read[0], &*read[9]), ("none a", "zstd b"));
    assert!(read[10] == large && read[11] == "behind it");
}
