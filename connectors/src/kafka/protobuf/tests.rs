use serde::Deserialize;

use super::*;
use crate::kafka::schema_registry::tests::{TestRegistry, answered, malformed};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: String,
}

const PLANT: &str = r#"syntax = "proto3"; package plant; import "unit.proto";
    message Hall { message Door { int32 n = 1; } string name = 1; }
    message Reading { string device = 1; Unit unit = 2; }"#;
const READING: &str = r#"syntax = "proto3"; package plant; message Reading { string device = 1; }"#;

/// Id 1 is [`PLANT`] with what it imports, 2 one of Avro, 3 no .proto file.
fn server() -> TestRegistry {
    TestRegistry::start(|path| {
        let answer = match path {
            "/schemas/ids/1" => serde_json::json!({
                "schema": PLANT,
                "schemaType": "PROTOBUF",
                "references": [{"name": "unit.proto", "subject": "unit", "version": 1}],
            }),
            "/subjects/unit/versions/1" => {
                serde_json::json!({"schema": r#"syntax = "proto3"; package plant; enum Unit { C = 0; F = 1; }"#})
            }
            "/schemas/ids/2" => serde_json::json!({"schema": "\"long\""}),
            "/schemas/ids/3" => serde_json::json!({"schema": "message", "schemaType": "PROTOBUF"}),
            "/subjects/t-value/versions" => serde_json::json!({"id": 4}),
            _ => return (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
        };
        (200, answer.to_string())
    })
}

fn read(messages: &mut Messages, value: &[u8]) -> Result<serde_json::Value, ReadError> {
    answered(|| messages.read(value, ProtobufSchema::read))
}

#[test]
fn values_are_read_as_the_message_that_their_head_names() {
    let server = server();
    let mut any = Messages::new((&server.registry()).into());
    let reading = [0, 0, 0, 0, 1, 2, 2, 0x0a, 1, b'd', 0x10, 1];
    assert_eq!(read(&mut any, &reading).unwrap(), serde_json::json!({"device": "d", "unit": "F"}));
    assert_eq!(read(&mut any, &[0, 0, 0, 0, 1, 4, 0, 0, 8, 7]).unwrap(), serde_json::json!({"n": 7}));
    assert_eq!(read(&mut any, &[0, 0, 0, 0, 1, 0, 0x0a, 1, b'h']).unwrap(), serde_json::json!({"name": "h"}));

    let own = ProtobufSchema::parse(READING, "plant.Reading").unwrap().registered(&server.registry());
    let mut own = Messages::new(own.into());
    assert_eq!(read(&mut own, &reading).unwrap(), serde_json::json!({"device": "d"}));
    let other = malformed(read(&mut own, &[0, 0, 0, 0, 1, 0]));
    assert!(other.contains("it is a message plant.Hall, and the job reads plant.Reading"), "{other}");
}

#[test]
fn every_malformed_value_has_its_reason() {
    let server = server();
    let mut any = Messages::new((&server.registry()).into());
    let mut reason = |value: &[u8]| malformed(read(&mut any, value));
    assert!(reason(&[0x0a, 1, b'd']).contains("not written with a schema registry"));
    assert!(reason(&[0, 0, 0]).contains("cut off: it has 3 bytes"));
    assert!(reason(&[0, 0, 0, 0, 1]).contains("indexes of the message in its .proto file are cut off"));
    assert!(reason(&[0, 0, 0, 0, 9, 0]).contains("no schema of the id 9"));
    let avro = reason(&[0, 0, 0, 0, 2, 0]);
    assert!(avro.contains("it is of the type AVRO") && avro.contains("has the id 2"), "{avro}");
    assert!(reason(&[0, 0, 0, 0, 3, 0]).contains("not a .proto file that compiles"));
    assert!(reason(&[0, 0, 0, 0, 1, 2, 10]).contains("there is no message [5]"));
    let cut = reason(&[0, 0, 0, 0, 1, 2, 2, 0x0a, 9, b'd']);
    assert!(cut.contains("it is not a message plant.Reading"), "{cut}");
    assert!(cut.ends_with("(its schema has the id 1)"), "{cut}");
}

#[test]
fn a_sink_puts_id_and_indexes_in_front_if_its_schema_is_registered() {
    let server = server();
    let record = Reading { device: "d".to_owned() };
    let written = |schema: SinkSchema<ProtobufSchema>| {
        let (mut format, mut message) = (ProtobufValue::new(schema), OutgoingMessage::default());
        RecordFormat::<Reading>::check(&format).unwrap();
        RecordFormat::<Reading>::open(&mut format, "t").unwrap();
        format.write(&record, &mut message).unwrap();
        message.value().clone()
    };
    let schema = ProtobufSchema::parse(READING, "plant.Reading").unwrap();
    assert_eq!(written(schema.clone().into()), [0x0a, 1, b'd']);
    let registered = written(schema.registered(&server.registry()).into());
    assert_eq!(registered, [0, 0, 0, 0, 4, 0, 0x0a, 1, b'd']);
    let second = r#"syntax = "proto3"; message A {} message B { message C { string device = 1; } }"#;
    let second = ProtobufSchema::parse(second, "B.C").unwrap().registered(&server.registry());
    assert_eq!(written(second.into()), [0, 0, 0, 0, 4, 4, 2, 0, 0x0a, 1, b'd']);
}

#[test]
fn descriptors_cannot_be_registered() {
    let mut set = Vec::new();
    let file = ProtobufFile::compile(READING, &[]).unwrap();
    file.pool().encode(&mut set).unwrap();
    let schema = ProtobufSchema::decode(&set, "plant.Reading").unwrap();
    let format = ProtobufValue::new(schema.registered(&server().registry()).into());
    let error = RecordFormat::<Reading>::check(&format).unwrap_err().to_string();
    assert!(error.contains("plant.Reading") && error.contains("ProtobufSchema::parse"), "{error}");
}

#[test]
fn types_of_prost_need_no_descriptor() {
    #[derive(Clone, PartialEq, prost::Message)]
    #[prost(prost_path = "prost_reflect::prost")]
    struct Generated {
        #[prost(string, tag = "1")]
        device: String,
    }
    let (mut format, mut message) = (ProstValue, OutgoingMessage::default());
    format.write(&Generated { device: "d".to_owned() }, &mut message).unwrap();
    assert_eq!(*message.value(), [0x0a, 1, b'd']);
}
