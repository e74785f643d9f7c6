use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::format::any_bytes::any_or_like;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: String,
    celsius: Option<f64>,
    count: u64,
}

const READING: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "device", "type": "string"},
    {"name": "celsius", "type": ["null", "double"], "default": null},
    {"name": "count", "type": "long"}
]}"#;

fn schema(text: &str) -> AvroSchema {
    AvroSchema::parse(text).unwrap()
}

fn encoded<T: Serialize>(schema: AvroSchema, record: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(schema).unwrap().write(record, &mut bytes).unwrap();
    bytes
}

fn decoded<T: DeserializeOwned>(schema: AvroSchema, bytes: &[u8]) -> Result<T, String> {
    Decoder::new(schema, None).unwrap().read(bytes)
}

fn reading() -> Reading {
    Reading { device: "d1".to_owned(), celsius: Some(21.5), count: 7 }
}

#[test]
fn a_record_is_the_datum_that_the_specification_says() {
    let bytes = encoded(schema(READING), &reading());
    assert_eq!(bytes, [&[4, b'd', b'1', 2][..], &21.5_f64.to_le_bytes(), &[14]].concat());
    assert_eq!(decoded::<Reading>(schema(READING), &bytes), Ok(reading()));
    let none = Reading { celsius: None, ..reading() };
    assert_eq!(encoded(schema(READING), &none), [4, b'd', b'1', 0, 14]);
    assert_eq!(decoded::<Reading>(schema(READING), &[4, b'd', b'1', 0, 14]), Ok(none));
}

#[test]
fn a_datum_that_is_cut_anywhere_is_named_with_byte_and_field() {
    let bytes = encoded(schema(READING), &reading());
    for cut in 0..bytes.len() {
        let error = decoded::<Reading>(schema(READING), &bytes[..cut]).unwrap_err();
        assert!(error.contains("cut off") && error.contains("in the field"), "cut at {cut}: {error}");
    }
    let error = decoded::<Reading>(schema(READING), &bytes[..2]).unwrap_err();
    assert_eq!(
        error,
        "the value is cut off: a string begins at byte 1 and needs 2 bytes, and the value has 2, in the field device"
    );
}

#[test]
fn every_fault_of_a_datum_is_told_with_its_place() {
    let error = |text: &str, bytes: &[u8]| decoded::<serde_json::Value>(schema(text), bytes).unwrap_err();
    let rest = error(READING, &[4, b'd', b'1', 0, 14, 9, 9]);
    assert!(rest.contains("2 bytes are left behind the datum, which ends at byte 5"), "{rest}");
    let text = error(READING, &[4, b'd', 0xff, 0, 14]);
    assert!(text.contains("not UTF-8 from byte 2 on, in the field device"), "{text}");
    let branch = error(READING, &[4, b'd', b'1', 4, 14]);
    assert!(branch.contains("branch of a union 2 is not one of the 2"), "{branch}");
    assert!(branch.contains("in the field celsius"), "{branch}");
    let length = error(READING, &[3, b'd', b'1', 0, 14]);
    assert!(length.contains("the length of a string is -2"), "{length}");
    assert!(error(r#""boolean""#, &[7]).contains("a boolean is 0 or 1, and this is 7"));
    assert!(error(r#""int""#, &[0xff, 0xff, 0xff, 0xff, 0x7f]).contains("too large for an int"));
    assert!(error(r#""long""#, &[0xff; 10]).contains("more than 64 bits"));
    let symbol = error(r#"{"type": "enum", "name": "E", "symbols": ["A", "B"]}"#, &[4]);
    assert!(symbol.contains("symbol of an enum 2 is not one of the 2"), "{symbol}");
    let items = error(r#"{"type": "array", "items": "null"}"#, &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0]);
    assert!(items.contains("an array of 2147483647 items is longer than its bytes"), "{items}");
}

#[test]
fn the_limits_of_numbers_are_read() {
    for number in [0, 1, -1, i64::MAX, i64::MIN] {
        let bytes = encoded(schema(r#""long""#), &number);
        assert_eq!(decoded::<i64>(schema(r#""long""#), &bytes), Ok(number));
    }
    let bytes = encoded(schema(r#""int""#), &i32::MIN);
    assert_eq!(decoded::<i32>(schema(r#""int""#), &bytes), Ok(i32::MIN));
}

#[test]
fn a_datum_that_does_not_fit_the_type_names_the_type() {
    #[derive(Debug, Deserialize)]
    struct Other {
        #[expect(dead_code, reason = "it is never read")]
        weight: f64,
    }
    let error = decoded::<Other>(schema(READING), &encoded(schema(READING), &reading())).unwrap_err();
    assert!(error.contains("does not fit the type") && error.contains("Other"), "{error}");
    assert!(error.contains("missing field `weight`"), "{error}");
}

#[test]
fn data_of_an_older_schema_are_resolved_to_the_readers() {
    let older = schema(
        r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
            {"name": "count", "type": "int"}, {"name": "device", "type": "string"}, {"name": "gone", "type": "float"}
        ]}"#,
    );
    #[derive(Serialize)]
    struct Older {
        count: i32,
        device: String,
        gone: f32,
    }
    let bytes = encoded(older, &Older { count: 7, device: "d1".to_owned(), gone: 0.5 });
    let decoder = Decoder::new(older, Some(schema(READING))).unwrap();
    assert_eq!(decoder.read(&bytes), Ok(Reading { celsius: None, ..reading() }));
    assert!(decoder.read::<Reading>(&bytes[..3]).unwrap_err().contains("cut off"));
    let unlike = schema(
        r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [{"name": "weight", "type": "float"}]}"#,
    );
    let error = Decoder::new(older, Some(unlike)).unwrap().read::<serde_json::Value>(&bytes).unwrap_err();
    assert_eq!(
        error,
        "it does not fit the schema of the job: the field weight is missing, and has no default"
    );
}

#[test]
fn unsigned_numbers_fit_a_long_wherever_it_stands() {
    let text = r#"{"type": "record", "name": "R", "fields": [
        {"name": "one", "type": ["null", "long"]},
        {"name": "many", "type": {"type": "array", "items": {"type": "record", "name": "I", "fields": [
            {"name": "n", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}}},
        {"name": "by_name", "type": {"type": "map", "values": "I"}},
        {"name": "last", "type": ["null", "I"]}
    ]}"#;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Item {
        n: u64,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        one: Option<u64>,
        many: Vec<Item>,
        by_name: BTreeMap<String, Item>,
        last: Option<Item>,
    }
    let record = Record {
        one: Some(5),
        many: vec![Item { n: 6 }],
        by_name: [("a".to_owned(), Item { n: i64::MAX as u64 })].into(),
        last: Some(Item { n: 8 }),
    };
    assert_eq!(decoded::<Record>(schema(text), &encoded(schema(text), &record)), Ok(record));
    let error = Encoder::new(schema(r#""long""#)).unwrap().write(&u64::MAX, &mut Vec::new()).unwrap_err();
    assert!(error.contains("18446744073709551615 is too large for a long"), "{error}");
}

/// The library tries every branch with all that is in it, and again at the next level.
#[test]
fn unions_in_unions_take_no_longer_the_deeper_they_are() {
    let text = r#"{"type": "record", "name": "Node", "fields": [
        {"name": "next", "type": ["null", "Node", {"type": "array", "items": "Node"}]}, {"name": "n", "type": "long"}]}"#;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        next: Option<Box<Node>>,
        n: u64,
    }
    let grow = |next, n| Some(Box::new(Node { next, n }));
    let list = *(0..40).fold(None, grow).unwrap();
    let bytes = encoded(schema(text), &list);
    assert_eq!(Decoder::new(schema(text), Some(schema(text))).unwrap().read(&bytes), Ok(list));
}

#[test]
fn a_branch_is_chosen_by_kind_and_a_record_by_its_fields() {
    let text = r#"[
        "null", "double", "string", {"type": "enum", "name": "E", "symbols": ["ON", "OFF"]},
        {"type": "record", "name": "A", "fields": [{"name": "a", "type": "long"}]},
        {"type": "record", "name": "B", "fields": [{"name": "b", "type": "long", "aliases": ["old_b"]}, {"name": "c", "type": "int", "default": 7}]}
    ]"#;
    let branch = |value: serde_json::Value| {
        let bytes = encoded(schema(text), &value);
        (bytes[0] / 2, decoded::<serde_json::Value>(schema(text), &bytes).unwrap())
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (given, at, read) in [
        ("null", 0, "null"),
        ("1.5", 1, "1.5"),
        ("7", 1, "7.0"),
        (r#""text""#, 2, r#""text""#),
        (r#"{"a": 1}"#, 4, r#"{"a": 1}"#),
        (r#"{"b": 1}"#, 5, r#"{"b": 1, "c": 7}"#),
        (r#"{"old_b": 1, "c": 3}"#, 5, r#"{"b": 1, "c": 3}"#),
    ] {
        assert_eq!(branch(json(given)), (at, json(read)), "{given}");
    }
    let error = Encoder::new(schema(text)).unwrap().write(&true, &mut Vec::new()).unwrap_err();
    assert_eq!(error, "no branch of the union fits: Boolean(true)");
}

#[test]
fn a_record_that_the_schema_does_not_have_is_refused() {
    let error = Encoder::new(schema(READING)).unwrap().write(&("a", 1), &mut Vec::new()).unwrap_err();
    assert!(!error.is_empty() && error.len() < 500, "{error}");
}

#[test]
fn types_of_other_schemas_are_found() {
    let unit = r#"{"type": "enum", "name": "plant.Unit", "symbols": ["C", "F"]}"#;
    let pair = r#"{"type": "record", "name": "plant.Pair", "fields": [
        {"name": "first", "type": "plant.Unit"}, {"name": "second", "type": "plant.Unit"}]}"#;
    let text = r#"{"type": "record", "name": "R", "fields": [
        {"name": "pair", "type": "plant.Pair"}, {"name": "unit", "type": "plant.Unit"}]}"#;
    let schema = AvroSchema::with_references(text, &[unit, pair]).unwrap();
    let value: serde_json::Value = decoded(schema, &[0, 2, 0]).unwrap();
    assert_eq!(value, serde_json::json!({"pair": {"first": "C", "second": "F"}, "unit": "C"}));
    let error = AvroSchema::with_references(text, &[unit]).unwrap_err();
    assert!(error.contains("plant.Pair"), "{error}");
}

#[test]
fn text_that_is_no_schema_is_refused() {
    for text in ["", "{}", r#"{"type": "recrd", "name": "R"}"#, r#""nothing""#] {
        let error = AvroSchema::parse(text).unwrap_err().to_string();
        assert!(error.contains("not a schema of Avro"), "{text}: {error}");
    }
    let error = AvroSchema::load("/nowhere/reading.avsc").unwrap_err().to_string();
    assert!(error.contains("/nowhere/reading.avsc"), "{error}");
}

/// On a stack like that of a worker.
#[test]
fn recursive_types_are_read_to_a_depth_and_refused_beyond_it() {
    let text =
        r#"{"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}"#;
    #[derive(Debug, Deserialize)]
    struct Node {
        next: Option<Box<Node>>,
    }
    let run = move || {
        let length = |bytes: &[u8]| {
            let decoder = Decoder::new(schema(text), Some(schema(text))).unwrap();
            let first = decoder.read::<Node>(bytes)?;
            let all = std::iter::successors(Some(&first), |node| node.next.as_deref());
            Ok::<_, String>(all.count())
        };
        assert_eq!(length(&[&[2; 80][..], &[0]].concat()), Ok(81));
        let error = length(&[2; 1_000_000]).unwrap_err();
        assert!(error.contains("nested deeper than 256"), "{error}");
        let endless = r#"{"type": "record", "name": "E", "fields": [{"name": "e", "type": "E"}]}"#;
        let error = decoded::<serde_json::Value>(schema(endless), &[]).unwrap_err();
        assert!(error.contains("nested deeper than 256"), "{error}");
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

const ALL: &str = r#"{"type": "record", "name": "All", "fields": [
    {"name": "text", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "bytes", "type": "bytes"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "any_amount", "type": {"type": "bytes", "logicalType": "big-decimal"}},
    {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
    {"name": "for", "type": {"type": "fixed", "name": "For", "size": 12, "logicalType": "duration"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"], "default": "A"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "ratio", "type": "float"},
    {"name": "is_on", "type": "boolean"},
    {"name": "maybe", "type": ["null", "long", "string", "All"]},
    {"name": "many", "type": {"type": "array", "items": ["null", "double"]}},
    {"name": "named", "type": {"type": "map", "values": {"type": "array", "items": "int"}}}
]}"#;

#[test]
fn a_datum_of_every_type_is_read() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Part {
        kind: String,
        maybe: Option<i64>,
        named: BTreeMap<String, Vec<i32>>,
    }
    let named = [("k".to_owned(), vec![3])].into();
    let expected = Part { kind: "B".to_owned(), maybe: Some(7), named };
    assert_eq!(decoded::<Part>(schema(ALL), &all()), Ok(expected));
}

/// A datum of [`ALL`]: the ids and the duration are zero, and there is an item in the array and in the map.
fn all() -> Vec<u8> {
    let text = [&[72][..], b"67e55044-10b1-426f-9247-bb680e5fe0c8"].concat();
    let amounts = [4, 1, 2, 4, 1, 2, 8, 4, 1, 2, 0];
    let tail = [2, 10, 200, 1, 0, 0, 0, 0, 1, 2, 14, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, b'k', 2, 6, 0, 0];
    [&text[..], &amounts, &[0; 28], &tail].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever may write to a topic can write any bytes.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any_or_like(all())) {
        for reader in [None, Some(schema(ALL))] {
            drop(Decoder::new(schema(ALL), reader).unwrap().read::<serde_json::Value>(&bytes));
        }
    }
}

/// `cargo test --release -p tidegate-connectors --features avro --lib -- --ignored --nocapture throughput_of`
#[test]
#[ignore = "a measurement"]
fn throughput_of_avro() {
    let (schema, records) = (schema(READING), 1_000_000);
    let reading = Reading { device: "dev-00017".to_owned(), ..reading() };
    let (encoder, mut bytes) = (Encoder::new(schema).unwrap(), Vec::new());
    let report = |what: &str, began: std::time::Instant| {
        println!("{what}: {} ns", began.elapsed().as_nanos() / records);
    };
    let began = std::time::Instant::now();
    for _ in 0..records {
        bytes.clear();
        encoder.write(&reading, &mut bytes).unwrap();
    }
    report("written as Avro", began);
    for (what, reader) in [("read from Avro", None), ("read from Avro by another schema", Some(schema))] {
        let (decoder, began) = (Decoder::new(schema, reader).unwrap(), std::time::Instant::now());
        for _ in 0..records {
            assert_eq!(decoder.read::<Reading>(&bytes).unwrap().count, 7);
        }
        report(what, began);
    }
    let json = serde_json::to_vec(&reading).unwrap();
    let began = std::time::Instant::now();
    for _ in 0..records {
        assert_eq!(crate::format::json::parse::<Reading>(&json, false).unwrap().count, 7);
    }
    report("read from JSON", began);
    println!("{} bytes of Avro, {} of JSON", bytes.len(), json.len());
}
