use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::format::any_bytes::any_or_like;

const PLANT: &str = r#"
    syntax = "proto3";
    package plant;
    import "google/protobuf/timestamp.proto";

    message Other { message Inner { int32 n = 1; } }

    message Reading {
        enum Quality { UNKNOWN = 0; GOOD = 1; BAD = 2; }
        message Place { string hall = 1; optional uint32 row = 2; }
        string device = 1;
        double celsius = 2;
        optional int64 count = 3;
        Quality quality = 4;
        Place place = 5;
        repeated float samples = 6;
        map<string, sint64> tags = 7;
        bytes raw = 8;
        oneof alarm { string text = 9; uint64 code = 10; }
        google.protobuf.Timestamp at = 11;
        map<int32, Place> places = 12;
    }
"#;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Quality {
    #[default]
    Unknown,
    Good,
    Bad,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    hall: String,
    row: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Timestamp {
    seconds: i64,
    nanos: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Device(String);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: Device,
    celsius: f64,
    count: Option<i64>,
    quality: Quality,
    place: Option<Place>,
    samples: Vec<f32>,
    tags: BTreeMap<String, i64>,
    raw: Vec<u8>,
    text: Option<String>,
    code: Option<u64>,
    at: Option<Timestamp>,
    places: BTreeMap<i32, Place>,
}

fn schema() -> ProtobufSchema {
    ProtobufSchema::parse(PLANT, "plant.Reading").unwrap()
}

fn reading() -> Reading {
    let place = Place { hall: "A".to_owned(), row: Some(0) };
    Reading {
        device: Device("d1".to_owned()),
        celsius: 21.5,
        count: Some(-7),
        quality: Quality::Bad,
        place: Some(place.clone()),
        samples: vec![0.5, -1.0],
        tags: [("x".to_owned(), i64::MIN)].into(),
        raw: vec![0, 255],
        text: None,
        code: Some(u64::MAX),
        at: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        places: [(-3, place)].into(),
    }
}

fn encoded(schema: &ProtobufSchema, record: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    schema.write(record, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_kind_of_field_is_written_and_read() {
    assert_eq!(schema().read(&encoded(&schema(), &reading())), Ok(reading()));
    // What is not set has its default, or is none.
    assert_eq!(schema().read(&[]), Ok(Reading::default()));
    assert!(encoded(&schema(), &Reading::default()).is_empty());
}

#[test]
fn a_message_is_the_bytes_that_the_specification_says() {
    let bytes = encoded(&schema(), &serde_json::json!({"device": "d1", "count": 0, "quality": 1}));
    assert_eq!(bytes, [0x0a, 2, b'd', b'1', 0x18, 0, 0x20, 1]);
}

#[test]
fn numbers_that_are_none_and_bytes_come_through() {
    let bytes = encoded(&schema(), &Reading { celsius: f64::NAN, samples: vec![f32::INFINITY], ..reading() });
    let read: Reading = schema().read(&bytes).unwrap();
    assert!(read.celsius.is_nan() && read.samples == [f32::INFINITY]);
}

#[test]
fn unknown_fields_are_left_out_and_unknown_values_of_enums_are_numbers() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Number {
        device: String,
        quality: i32,
    }
    let bytes = [0x0a, 1, b'd', 0x20, 9, 0xf8, 0x07, 1];
    assert_eq!(schema().read(&bytes), Ok(Number { device: "d".to_owned(), quality: 9 }));
    let error = schema().read::<Reading>(&bytes).unwrap_err();
    assert!(error.contains("field quality: 9 is no value of the enum"), "{error}");
}

#[test]
fn a_message_that_is_cut_anywhere_is_malformed_or_has_fewer_fields() {
    let bytes = encoded(&schema(), &reading());
    let mut malformed = 0;
    for cut in 0..bytes.len() {
        match schema().read::<Reading>(&bytes[..cut]) {
            Ok(read) => assert_ne!(read, reading(), "cut at {cut}"),
            Err(error) => {
                malformed += 1;
                assert!(error.contains("it is not a message plant.Reading"), "cut at {cut}: {error}");
            }
        }
    }
    assert!(malformed > bytes.len() / 2, "{malformed} of {}", bytes.len());
}

#[test]
fn bytes_that_are_no_message_are_named_with_the_field() {
    let error = schema().read::<Reading>(&[0x08, 1]).unwrap_err();
    assert!(error.contains("plant.Reading") && error.contains("wire type"), "{error}");
    let error = schema().read::<Reading>(&[0x0a, 1, 0xff]).unwrap_err();
    assert!(error.contains("UTF-8"), "{error}");
    let deep = [0x1b].repeat(1_000_000);
    assert!(schema().read::<Reading>(&deep).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever may write to a topic can write any bytes.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any_or_like(encoded(&schema(), &reading()))) {
        drop(schema().read::<serde_json::Value>(&bytes));
        if let Ok(read) = schema().read::<Reading>(&bytes) {
            drop(encoded(&schema(), &read));
        }
    }
}

#[test]
fn a_message_that_does_not_fit_the_type_names_both() {
    #[derive(Debug, Deserialize)]
    struct Weight {
        #[expect(dead_code, reason = "it is never read")]
        celsius: u8,
    }
    let error = schema().read::<Weight>(&encoded(&schema(), &reading())).unwrap_err();
    assert!(error.contains("plant.Reading does not fit the type"), "{error}");
    assert!(error.contains("Weight: field celsius: invalid type: floating point `21.5`"), "{error}");
}

#[test]
fn a_record_that_does_not_fit_is_refused_with_the_field() {
    let error = |record: serde_json::Value| schema().write(&record, &mut Vec::new()).unwrap_err();
    let json = serde_json::from_str::<serde_json::Value>;
    assert_eq!(error(json(r#"{"weight": 1}"#).unwrap()), "the message plant.Reading has no field weight");
    assert_eq!(error(json(r#"{"device": 1}"#).unwrap()), "field device: U64(1) does not fit string");
    assert!(error(json(r#"{"place": {"row": -1}}"#).unwrap()).starts_with("field place: field row: I64(-1)"));
    assert!(error(json(r#"{"quality": "WORSE"}"#).unwrap()).contains("WORSE is no value of the enum"));
    assert!(error(json(r#"{"samples": 1}"#).unwrap()).contains("is no list"));
    assert!(error(json(r#"{"samples": [1e300]}"#).unwrap()).contains("does not fit float"));
    assert!(error(json("[1]").unwrap()).contains("is no message plant.Reading"));
}

#[test]
fn descriptors_of_protoc_are_read() {
    let mut compiler = protox::Compiler::with_file_resolver(GoogleFileResolver::new());
    compiler.include_imports(true);
    let set = compiler.open_file("google/protobuf/timestamp.proto").unwrap().encode_file_descriptor_set();
    let schema = ProtobufSchema::decode(&set, "google.protobuf.Timestamp").unwrap();
    assert_eq!(schema.read(&[0x08, 7]), Ok(Timestamp { seconds: 7, nanos: 0 }));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &set).unwrap();
    assert_eq!(ProtobufSchema::load(file.path(), "google.protobuf.Timestamp").unwrap().name(), schema.name());
    let error = |set: &[u8], name| ProtobufSchema::decode(set, name).unwrap_err().to_string();
    assert!(error(&set, "Nothing").contains("no message Nothing in it, only google.protobuf.Timestamp"));
    assert!(error(b"no descriptors", "Nothing").contains("--include_imports"));
    let missing = ProtobufSchema::load("/nowhere/plant.descriptors", "A").unwrap_err().to_string();
    assert!(missing.contains("/nowhere/plant.descriptors"), "{missing}");
}

#[test]
fn messages_of_a_file_are_found_by_their_indexes() {
    let file = ProtobufFile::compile(PLANT, &[]).unwrap();
    let at = |indexes: &[usize]| file.at(indexes).map(|found| found.name().to_owned());
    assert_eq!(at(&[0]).unwrap(), "plant.Other");
    assert_eq!(at(&[1, 0]).unwrap(), "plant.Reading.Place");
    assert_eq!((at(&[2]), at(&[1, 9]), at(&[])), (None, None, None));
    assert_eq!(schema().indexes(), [1]);
    assert_eq!(ProtobufSchema::parse(PLANT, "plant.Other.Inner").unwrap().indexes(), [0, 0]);
}

#[test]
fn files_import_others_by_name() {
    let unit = r#"syntax = "proto3"; package units; enum Unit { C = 0; F = 1; }"#;
    let pair = r#"syntax = "proto3"; package units; import "a/unit.proto"; message Pair { Unit first = 1; }"#;
    let text = r#"syntax = "proto3"; import "pair.proto"; message R { units.Pair pair = 1; }"#;
    let file = ProtobufFile::compile(text, &[("a/unit.proto", unit), ("pair.proto", pair)]).unwrap();
    let read: serde_json::Value = file.at(&[0]).unwrap().read(&[0x0a, 2, 0x08, 1]).unwrap();
    assert_eq!(read, serde_json::json!({"pair": {"first": "F"}}));
    let error = ProtobufFile::compile(text, &[("pair.proto", pair)]).unwrap_err();
    assert!(error.contains("a/unit.proto"), "{error}");
    let error = ProtobufSchema::parse("syntax = \"proto3\"; message {}", "R").unwrap_err().to_string();
    assert!(error.contains("not a .proto file that compiles"), "{error}");
}

/// `cargo test --release -p tidegate-connectors --features protobuf --lib -- --ignored --nocapture throughput_of`
#[test]
#[ignore = "a measurement"]
fn throughput_of_protobuf() {
    #[derive(Serialize, Deserialize)]
    struct Short {
        device: String,
        celsius: f64,
        count: i64,
    }
    let text =
        r#"syntax = "proto3"; message Short { string device = 1; double celsius = 2; int64 count = 3; }"#;
    let schema = ProtobufSchema::parse(text, "Short").unwrap();
    let (short, mut bytes, records) =
        (Short { device: "dev-00017".to_owned(), celsius: 21.5, count: 7 }, Vec::new(), 1_000_000);
    let began = std::time::Instant::now();
    for _ in 0..records {
        bytes.clear();
        schema.write(&short, &mut bytes).unwrap();
    }
    println!("written as Protobuf: {} ns", began.elapsed().as_nanos() / records);
    let began = std::time::Instant::now();
    for _ in 0..records {
        assert_eq!(schema.read::<Short>(&bytes).unwrap().count, 7);
    }
    println!("read from Protobuf: {} ns, {} bytes", began.elapsed().as_nanos() / records, bytes.len());
}
