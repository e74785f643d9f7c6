//! Messages of Avro and Protobuf, with and without a schema registry.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate::connector::{DeadLetter, TransactionalSink};
use tidegate::testing::{TestJob, VecSink, VecSource};
use tidegate_connectors::kafka::SchemaRegistry;
use tidegate_connectors::{AvroSchema, ProtobufSchema};

use crate::Test;
use crate::setting::{Setting, read_all};

pub(crate) const TESTS: &[Test] =
    &[("formats::avro_and_protobuf_are_written_and_read_by_a_given_schema", given_schemas)];

/// Those that need a schema registry.
pub(crate) const TESTS_WITH_REGISTRY: &[Test] = &[
    ("formats::avro_goes_through_a_registry_and_back", avro_goes_through_a_registry),
    ("formats::protobuf_goes_through_a_registry_and_back", protobuf_goes_through_a_registry),
    ("formats::what_a_registry_does_not_explain_goes_to_the_dead_letters", malformed_messages),
    ("formats::a_registry_that_is_away_holds_up_only_its_messages", a_registry_that_is_away),
];

#[derive(Clone, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Reading {
    device: String,
    celsius: f64,
    count: u64,
}

const AVRO: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "device", "type": "string"}, {"name": "celsius", "type": "double"}, {"name": "count", "type": "long"}]}"#;
/// The same with a field more, and one less.
const NEWER: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "device", "type": "string"}, {"name": "count", "type": "long"},
    {"name": "unit", "type": "string", "default": "C"}, {"name": "celsius", "type": "double", "default": -1}]}"#;
const PROTOBUF: &str = r#"syntax = "proto3"; package plant;
    message Hall { string name = 1; }
    message Reading { string device = 1; double celsius = 2; uint64 count = 3; }"#;

fn readings() -> Vec<Reading> {
    let reading = |n: u32| Reading { device: format!("d{n}"), celsius: f64::from(n) / 2.0, count: n.into() };
    (0..100).map(reading).collect()
}

/// Writes all readings to a topic, by a job.
fn write(sink: impl TransactionalSink<Reading> + Clone) {
    let job = TestJob::new(move |job| {
        job.source("in", VecSource::of(readings())).sink("out", sink.clone());
        Ok(())
    });
    assert!(job.run().unwrap().finished);
}

fn sorted(mut readings: Vec<Reading>) -> Vec<Reading> {
    readings.sort_by_key(|reading| reading.count);
    readings
}

fn given_schemas(setting: &Setting) {
    let (kafka, topic) = (setting.kafka(), setting.topic(2));
    let schema = AvroSchema::parse(AVRO).unwrap();
    write(kafka.sink(&topic).avro_by_key(schema, |reading: &Reading| &reading.device));
    let (read, _) = read_all(&kafka.topic(&topic).avro::<Reading>(schema));
    assert_eq!(sorted(read), readings());
    let keys: Vec<_> = setting.client.read(&topic).into_iter().filter_map(|row| row.key).collect();
    assert_eq!(keys.len(), 100);

    let topic = setting.topic(1);
    let schema = ProtobufSchema::parse(PROTOBUF, "plant.Reading").unwrap();
    write(kafka.sink(&topic).protobuf(schema.clone()));
    let (read, _) = read_all(&kafka.topic(&topic).protobuf::<Reading>(schema.clone()));
    assert_eq!(read, readings());
    let (dynamic, _) = read_all(&kafka.topic(&topic).dynamic_protobuf(schema));
    let device = dynamic[7].get_field_by_name("device").unwrap();
    assert_eq!(device.as_str(), Some("d7"));
}

fn avro_goes_through_a_registry(setting: &Setting) {
    let (kafka, topic) = (setting.kafka(), setting.topic(2));
    let registry = setting.registry();
    let (old, new) = (AvroSchema::parse(AVRO).unwrap(), AvroSchema::parse(NEWER).unwrap());
    write(kafka.sink(&topic).avro(old.registered(&registry)));
    write(kafka.sink(&topic).avro(new.registered(&registry)));

    // Two schemas, and so two ids.
    let (raw, _) = read_all(&kafka.topic(&topic).bytes());
    let mut ids: Vec<_> = raw.iter().map(|value| value[..5].to_vec()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((raw.len(), ids.len()), (200, 2), "{ids:?}");

    let twice: Vec<_> = readings().into_iter().flat_map(|reading| [reading.clone(), reading]).collect();
    let (read, _) = read_all(&kafka.topic(&topic).avro::<Reading>(&registry));
    assert_eq!(sorted(read), twice);

    #[derive(Debug, Deserialize)]
    struct Newer {
        unit: String,
    }
    let (read, _) = read_all(&kafka.topic(&topic).avro::<Newer>(new.registered(&registry)));
    assert_eq!(read.iter().filter(|newer| newer.unit == "C").count(), 200);

    // It is there now, and need not be registered; another one would have to be.
    let reading_only = registry.clone().auto_register(false);
    write(kafka.sink(&topic).avro(old.registered(&reading_only)));
    let other = setting.topic(1);
    let sink = kafka.sink(&other).avro(old.registered(&reading_only));
    let job = TestJob::new(move |job| {
        job.source("in", VecSource::of(readings())).sink("out", sink.clone());
        Ok(())
    });
    let error = job.run().unwrap_err().to_string();
    assert!(error.contains(&format!("{other}-value")) && error.contains("auto_register(true)"), "{error}");
}

fn protobuf_goes_through_a_registry(setting: &Setting) {
    let (kafka, topic) = (setting.kafka(), setting.topic(1));
    let registry = setting.registry();
    let schema = ProtobufSchema::parse(PROTOBUF, "plant.Reading").unwrap();
    write(kafka.sink(&topic).protobuf(schema.clone().registered(&registry)));
    let (read, _) = read_all(&kafka.topic(&topic).protobuf::<Reading>(&registry));
    assert_eq!(read, readings());
    let (read, _) = read_all(&kafka.topic(&topic).protobuf::<Reading>(schema.registered(&registry)));
    assert_eq!(read, readings());

    // A file that imports another one, by a name that has a subject of its own.
    let (unit, measure) = (setting.name(), setting.name());
    let server = setting.registry_server();
    let text = r#"syntax = "proto3"; package plant; message Unit { string name = 1; }"#;
    server.register(&unit, &serde_json::json!({"schemaType": "PROTOBUF", "schema": text}).to_string());
    let text =
        r#"syntax = "proto3"; package plant; import "plant/unit.proto"; message Measure { Unit unit = 1; }"#;
    let reference = serde_json::json!({"name": "plant/unit.proto", "subject": unit, "version": 1});
    let body = serde_json::json!({"schemaType": "PROTOBUF", "schema": text, "references": [reference]});
    let id = server.register(&measure, &body.to_string());
    let topic = setting.topic(1);
    let value = [&[0], &id.to_be_bytes()[..], &[0, 0x0a, 3, 0x0a, 1, b'K']].concat();
    setting.client.write(&topic, 0, [value]);
    let (read, _) = read_all(&kafka.topic(&topic).protobuf::<serde_json::Value>(&registry));
    assert_eq!(read, [serde_json::json!({"unit": {"name": "K"}})]);
}

fn malformed_messages(setting: &Setting) {
    let (kafka, topic, registry) = (setting.kafka(), setting.topic(1), setting.registry());
    let id =
        setting.registry_server().register(&setting.name(), &serde_json::json!({"schema": AVRO}).to_string());
    let value = |id: u32, datum: &[u8]| Some([&[0], &id.to_be_bytes()[..], datum].concat());
    let good = [&[4, b'd', b'1'][..], &1.5_f64.to_le_bytes(), &[14]].concat();
    let messages = [
        value(id, &good),
        None,
        Some(b"{\"device\":\"d1\"}".to_vec()),
        value(2_000_000_000, &good),
        value(id, &good[..7]),
        value(id, &[&good[..], &[1]].concat()),
        value(id, &good),
    ];
    setting.client.write_with(&[], &topic, 0, messages.map(|value| (None, value)));
    let (out, letters) = (VecSink::<Reading>::new(), VecSink::<DeadLetter>::new());
    let (from, sinks) = (topic.clone(), (out.clone(), letters.clone()));
    let job = TestJob::new(move |job| {
        let rows = job.source("in", kafka.topic(&from).avro::<Reading>(&registry));
        rows.dead_letters(sinks.1.clone()).sink("out", sinks.0.clone());
        Ok(())
    });
    assert!(job.run().unwrap().finished);
    let reading = Reading { device: "d1".to_owned(), celsius: 1.5, count: 7 };
    assert_eq!(out.records(), [reading.clone(), reading]);
    let letters: Vec<_> =
        letters.records().into_iter().map(|letter| (letter.offset.unwrap(), letter.error)).collect();
    let expected = [
        (1, "it is a tombstone"),
        (2, "begins with the byte 0x7b"),
        (3, "has no schema of the id 2000000000"),
        (
            4,
            "cut off: a double begins at byte 3 and needs 8 bytes, and the value has 7, in the field celsius",
        ),
        (5, "1 bytes are left behind the datum, which ends at byte 12"),
    ];
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for ((offset, error), (expected_offset, expected)) in letters.iter().zip(expected) {
        assert!(*offset == expected_offset && error.contains(expected), "{offset}: {error}");
    }
}

/// A registry of its own, which is paused: it takes connections, and answers nothing.
fn a_registry_that_is_away(setting: &Setting) {
    let server = tidegate_kafka_tests::Registry::start().unwrap();
    let registry = SchemaRegistry::new(server.url()).unwrap();
    let (kafka, topic) = (setting.kafka(), setting.topic(2));
    let text = |schema: &str| serde_json::json!({"schema": schema}).to_string();
    let (known, late) = (server.register("a", &text(AVRO)), server.register("b", &text(NEWER)));
    let of_known =
        |n: u8| [&[0], &known.to_be_bytes()[..], &[2, b'k'], &0.0_f64.to_le_bytes(), &[2 * n]].concat();
    let of_late =
        |n: u8| [&[0], &late.to_be_bytes()[..], &[2, b'l', 2 * n, 2, b'C'], &0.0_f64.to_le_bytes()].concat();
    setting.client.write(&topic, 0, (0..10).map(of_known));

    let (out, letters) = (VecSink::<Reading>::new(), VecSink::<DeadLetter>::new());
    let (from, sinks) = (topic.clone(), (out.clone(), letters.clone()));
    let job = TestJob::new(move |job| {
        let rows = job.source("in", kafka.topic(&from).follow(true).avro::<Reading>(&registry));
        rows.dead_letters(sinks.1.clone()).sink("out", sinks.0.clone());
        Ok(())
    });
    // One worker, which both partitions need.
    let job = job.parallelism(1);
    let running = job.start();
    out.wait_for(10);

    server.pause();
    // In partition 1 those with the other id wait, and what is behind them.
    setting.client.write(&topic, 1, [of_known(10), of_late(11), of_known(12), of_late(13)]);
    out.wait_for(11);
    let began = Instant::now();
    setting.client.write(&topic, 0, (14..20).map(of_known));
    out.wait_for(17);
    for _ in 0..3 {
        running.checkpoint();
    }
    assert!(!running.stop().unwrap().finished);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(out.records().len(), 17);

    // A job that starts meanwhile knows no schema, so all wait.
    let running = job.start();
    running.checkpoint();
    server.go_on();
    out.wait_for(20);
    assert!(!running.stop().unwrap().finished);
    let mut counts: Vec<_> = out.records().into_iter().map(|reading| reading.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, (0..20).collect::<Vec<_>>());
    assert!(letters.records().is_empty(), "{:?}", letters.records());
}
