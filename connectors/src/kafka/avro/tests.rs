use serde::Deserialize;

use super::*;
use crate::kafka::schema_registry::tests::{TestRegistry, answered, malformed};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: String,
    #[serde(default)]
    celsius: f64,
}

const OLD: &str =
    r#"{"type": "record", "name": "Reading", "fields": [{"name": "device", "type": "string"}]}"#;
const NEW: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "device", "type": "string"}, {"name": "celsius", "type": "double", "default": 20.5}]}"#;

/// Id 1 is [`OLD`], 2 a schema that refers to another type, 3 one of Protobuf, 4 no schema.
fn server() -> TestRegistry {
    TestRegistry::start(|path| {
        let answer = match path {
            "/schemas/ids/1" => serde_json::json!({"schema": OLD}),
            "/schemas/ids/2" => serde_json::json!({
                "schema": r#"{"type": "record", "name": "R", "fields": [{"name": "device", "type": "plant.Device"}]}"#,
                "references": [{"name": "plant.Device", "subject": "device", "version": 1}],
            }),
            "/subjects/device/versions/1" => serde_json::json!({
                "schema": r#"{"type": "enum", "name": "plant.Device", "symbols": ["A", "B"]}"#,
            }),
            "/schemas/ids/3" => serde_json::json!({"schema": "message R {}", "schemaType": "PROTOBUF"}),
            "/schemas/ids/4" => serde_json::json!({"schema": "{}"}),
            "/subjects/t-value/versions" => serde_json::json!({"id": 1}),
            _ => return (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
        };
        (200, answer.to_string())
    })
}

fn read(format: &mut Avro<Reading>, value: &[u8]) -> Result<Reading, ReadError> {
    answered(|| format.read_value(value))
}

#[test]
fn values_are_read_by_the_schema_of_their_id() {
    let server = server();
    let mut format = Avro::<Reading>::new((&server.registry()).into());
    let reading = |device: &str, celsius| Reading { device: device.to_owned(), celsius };
    assert_eq!(read(&mut format, &[0, 0, 0, 0, 1, 4, b'd', b'1']).unwrap(), reading("d1", 0.0));
    assert_eq!(read(&mut format, &[0, 0, 0, 0, 2, 2]).unwrap(), reading("B", 0.0));
    let schema = AvroSchema::parse(NEW).unwrap().registered(&server.registry());
    let mut resolved = Avro::<Reading>::new(schema.into());
    assert_eq!(read(&mut resolved, &[0, 0, 0, 0, 1, 4, b'd', b'1']).unwrap(), reading("d1", 20.5));
}

#[test]
fn every_malformed_value_has_its_reason() {
    let server = server();
    let mut format = Avro::<Reading>::new((&server.registry()).into());
    let mut reason = |value: &[u8]| malformed(read(&mut format, value));
    assert!(reason(b"{}").contains("not written with a schema registry"));
    assert!(reason(&[0, 0, 0]).contains("cut off: it has 3 bytes"));
    assert!(reason(&[0, 0, 0, 0, 9, 1]).contains("no schema of the id 9"));
    assert!(reason(&[0, 0, 0, 0, 3, 1]).contains("id 3 cannot be used: it is of the type PROTOBUF"));
    assert!(reason(&[0, 0, 0, 0, 4, 1]).contains("id 4 cannot be used: it is not a schema of Avro"));
    let cut = reason(&[0, 0, 0, 0, 1, 4, b'd']);
    assert!(cut.contains("the value is cut off: a string begins at byte 1 and needs 2 bytes"), "{cut}");
    assert!(cut.ends_with("(its schema has the id 1)"), "{cut}");
    assert!(reason(&[0, 0, 0, 0, 1, 2, b'd', 7]).contains("1 bytes are left behind the datum"));
}

#[test]
fn a_sink_puts_the_id_in_front_if_its_schema_is_registered() {
    let server = server();
    let record = Reading { device: "d1".to_owned(), celsius: 1.0 };
    let written = |schema: SinkSchema<AvroSchema>| {
        let (mut format, mut message) = (AvroValue::new(schema), OutgoingMessage::default());
        RecordFormat::<Reading>::open(&mut format, "t").unwrap();
        format.write(&record, &mut message).unwrap();
        message.value().clone()
    };
    let schema = AvroSchema::parse(NEW).unwrap();
    let plain = written(schema.into());
    assert_eq!(plain, [&[4, b'd', b'1'][..], &1.0_f64.to_le_bytes()].concat());
    let registered = written(schema.registered(&server.registry()).into());
    assert_eq!(registered, [&[0, 0, 0, 0, 1][..], &plain].concat());
    let read = Avro::<Reading>::new(schema.into()).read_value(&plain).unwrap();
    assert_eq!(read, record);
}
