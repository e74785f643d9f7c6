//! The documentation's table for what is written.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate::testing::{TestJob, VecSource};
use tidegate::{Result, Watermarks};
use tidegate_connectors::kafka::OutgoingMessage;
use tidegate_kafka_tests::Row;

use crate::Test;
use crate::setting::{Setting, numbers};

pub(crate) const TESTS: &[Test] = &[
    ("writing::a_job_copies_a_topic_as_it_grows", a_job_copies_a_topic_as_it_grows),
    ("writing::a_record_becomes_key_value_headers_and_timestamp", a_record_becomes_a_message),
    ("writing::the_event_time_is_the_timestamp_and_a_key_chooses_the_partition", event_time_and_key),
    ("writing::a_record_chooses_its_topic_and_partition", a_record_chooses_its_topic),
    ("writing::a_message_that_no_topic_takes_is_named", a_message_that_no_topic_takes),
    ("writing::a_timestamp_too_far_from_now_is_named", a_timestamp_too_far_from_now),
    ("writing::a_topic_that_cannot_be_is_refused_before_it_is_staged", an_impossible_topic),
    ("writing::a_topic_that_is_missing_is_named", a_missing_topic_is_named),
    ("writing::malformed_records_are_written_with_their_place", dead_letters),
    ("writing::a_large_epoch_is_published_in_several_transactions", a_large_epoch),
];

fn a_job_copies_a_topic_as_it_grows(setting: &Setting) {
    let (from, to) = (setting.topic(3), setting.topic(2));
    setting.client.write(&from, 0, numbers(0..100));
    let running = setting.copy(&from, &to).parallelism(2).start();
    setting.expect(&to, &numbers(0..100));
    setting.client.write(&from, 2, numbers(100..300));
    setting.expect(&to, &numbers(0..300));
    running.stop().unwrap();
    setting.expect(&to, &numbers(0..300));
}

/// A job that writes a list of texts to a topic by a function.
fn write(
    setting: &Setting,
    to: &str,
    texts: &[&'static str],
    fill: impl Fn(&String, &mut OutgoingMessage) + Clone + Send + Sync + 'static,
) -> Result<()> {
    let (kafka, to) = (setting.kafka(), to.to_owned());
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    let job = TestJob::new(move |job| {
        let fill = fill.clone();
        let sink = kafka.sink(&to).write_by(move |text: &String, message| {
            fill(text, message);
            Ok(())
        });
        job.source("in", VecSource::of(texts.clone())).sink("out", sink);
        Ok(())
    });
    job.run().map(|summary| assert!(summary.finished))
}

fn a_record_becomes_a_message(setting: &Setting) {
    let to = setting.lasting_topic(1);
    write(setting, &to, &["a", "b"], |text, message| {
        if text == "a" {
            message.key().extend_from_slice(b"ka");
            message.value().extend_from_slice(b"va");
            message.add_header("h", Some(b"1"));
            message.set_timestamp(99);
        } else {
            message.key().extend_from_slice(b"kb");
        }
    })
    .unwrap();
    let rows = setting.rows(&to);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!((&rows[0].key, &rows[0].value, rows[0].timestamp), (&some("ka"), &some("va"), Some(99)));
    assert_eq!(rows[0].headers, [("h".to_owned(), "1".to_owned())]);
    assert_eq!((&rows[1].key, &rows[1].value), (&some("kb"), &None), "a tombstone");
    assert!(rows[1].timestamp > Some(1_600_000_000_000), "the time of producing");
}

fn event_time_and_key(setting: &Setting) {
    let (kafka, to) = (setting.kafka(), setting.lasting_topic(4));
    let target = to.clone();
    let rows: Vec<(String, i64)> = (0..200).map(|i| (format!("key {}", i % 20), i)).collect();
    let job = TestJob::new(move |job| {
        let timed = job
            .source("in", VecSource::of(rows.clone()))
            .event_time(|row| 1_000 + row.1, Watermarks::monotonous());
        timed.sink("out", kafka.sink(&target).json_by_key(|row: &(String, i64)| &row.0));
        Ok(())
    });
    assert!(job.run().unwrap().finished);
    let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for Row { partition, key, value, timestamp, .. } in setting.rows(&to) {
        let (name, number): (String, i64) = serde_json::from_str(&value.unwrap()).unwrap();
        assert_eq!((key.as_deref(), timestamp), (Some(&*name), Some(1_000 + number)));
        partitions.entry(name).or_default().push(partition);
    }
    assert_eq!(partitions.len(), 20);
    assert!(partitions.values().all(|all| all.len() == 10 && all.iter().all(|one| one == &all[0])));
    // As Kafka's own clients choose it, by murmur2: 0x0f49b0d3 for "key 0", as an independent implementation computes it.
    assert_eq!(partitions["key 0"][0], (murmur2(b"key 0") & 0x7fff_ffff) as i32 % 4);
}

/// The hash of Kafka's default partitioner (org.apache.kafka.common.utils.Utils.murmur2), which is Appleby's MurmurHash2.
fn murmur2(bytes: &[u8]) -> u32 {
    let m = 0x5bd1_e995_u32;
    let mut hash = 0x9747_b28c_u32 ^ bytes.len() as u32;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(m);
        k ^= k >> 24;
        hash = hash.wrapping_mul(m) ^ k.wrapping_mul(m);
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(m);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(m);
    hash ^ (hash >> 15)
}

fn a_record_chooses_its_topic(setting: &Setting) {
    let (to, other) = (setting.topic(2), setting.topic(3));
    let elsewhere = other.clone();
    write(setting, &to, &["a", "b"], move |text, message| {
        message.value().extend_from_slice(text.as_bytes());
        if text == "b" {
            message.set_topic(&elsewhere);
            message.set_partition(2);
        }
    })
    .unwrap();
    setting.expect(&to, &["a".to_owned()]);
    let rows = setting.rows(&other);
    assert_eq!((rows.len(), rows[0].partition, rows[0].value.as_deref()), (1, 2, Some("b")));
}

fn a_message_that_no_topic_takes(setting: &Setting) {
    let to = setting.topic_with(2, &[("max.message.bytes", "1000")]);
    let fill = |text: &String, message: &mut OutgoingMessage| {
        message.set_partition(i32::from(text == "large"));
        message.key().extend_from_slice(text.as_bytes());
        message.value().resize(if text == "large" { 5_000 } else { 10 }, b'x');
    };
    let error = write(setting, &to, &["small", "large"], fill).unwrap_err().to_string();
    let parts =
        [&format!("for the topic {to} with the key \"large\""), "raise max.message.bytes of the topic"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    assert_eq!(setting.client.values(&to), [""; 0], "the epoch is there as a whole or not at all");
    let blocked = setting.kafka().blocked(std::slice::from_ref(&to)).unwrap();
    assert!(blocked.is_empty(), "readers wait for a transaction that nobody goes on with: {blocked:?}");
}

fn a_timestamp_too_far_from_now(setting: &Setting) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for texts in [&["now", "later"][..], &["now", "later", "later"]] {
        let to = setting.topic(1);
        let fill = move |text: &String, message: &mut OutgoingMessage| {
            message.set_timestamp(if text == "now" { now } else { now + 86_400_000 });
            message.key().extend_from_slice(text.as_bytes());
        };
        let error = write(setting, &to, texts, fill).unwrap_err().to_string();
        // The brokers refuse the first one, too, because of what was sent with it.
        let parts = [&format!("for the topic {to} with the key \"later\""), "message.timestamp.after.max.ms"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

fn an_impossible_topic(setting: &Setting) {
    let to = setting.topic(1);
    let error = write(setting, &to, &["a"], |_, message| message.set_topic("a\0b")).unwrap_err().to_string();
    assert!(error.contains("\"a\\0b\" cannot be the name of a topic"), "{error}");
}

fn a_missing_topic_is_named(setting: &Setting) {
    let to = setting.name();
    let error = write(setting, &to, &["a"], |_, _| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("there is no topic {to} at ")), "{error}");
}

fn dead_letters(setting: &Setting) {
    let (from, to, dead) = (setting.topic(2), setting.topic(1), setting.topic(1));
    setting.client.write(&from, 1, ["1", "no number"]);
    let (kafka, source, target, letters) = (setting.kafka(), from.clone(), to.clone(), dead.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("in", kafka.topic(&source).json::<u64>()).dead_letters(kafka.sink(&letters));
        numbers.sink("out", kafka.sink(&target).json());
        Ok(())
    });
    assert_eq!(job.run().unwrap().dead_letters, 1);
    setting.expect(&to, &["1".to_owned()]);
    let letter: serde_json::Value =
        serde_json::from_str(setting.rows(&dead)[0].value.as_ref().unwrap()).unwrap();
    assert_eq!(letter["partition"], format!("{from}-1"));
    assert_eq!((&letter["offset"], &letter["raw"]), (&1.into(), &"no number".into()));
}

fn a_large_epoch(setting: &Setting) {
    let to = setting.topic(2);
    let (kafka, target) = (setting.kafka(), to.clone());
    let job = TestJob::new(move |job| {
        let large = kafka.sink(&target).write_by(|number: &u64, message| {
            message.value().extend_from_slice(number.to_string().as_bytes());
            message.value().resize(200_000, b' ');
            Ok(())
        });
        job.source("in", VecSource::of(0..400u64)).sink("out", large);
        Ok(())
    });
    assert!(job.no_interval().run().unwrap().finished);
    let rows = setting.rows(&to);
    let mut found: Vec<_> = rows.iter().map(|row| row.value.as_ref().unwrap().trim().to_owned()).collect();
    found.sort();
    assert_eq!(found, numbers(0..400));
    // Every transaction ends with a marker, which takes an offset.
    let markers = |partition| {
        let offsets: Vec<_> =
            rows.iter().filter(|row| row.partition == partition).map(|row| row.offset).collect();
        offsets.iter().max().unwrap() + 1 - offsets.len() as i64
    };
    assert!(markers(0).max(markers(1)) >= 2, "80 MB in transactions of 32");
}
