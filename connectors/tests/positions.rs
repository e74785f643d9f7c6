//! Whatever the lines, the budgets, the growth and the restarts: what is read is what the file holds, once.

mod drain;

use std::io::Write;

use drain::{Log, naive, open, poll};
use proptest::prelude::*;
use serde_json::Value;
use tidegate::connector::{PartitionStatus, Source};
use tidegate_connectors::FileLog;

const EVERY_KIND: &[u8] =
    b"{\"a\":1}\n\n[\"\xc3\xa9\"]\r\n  \t\r\nno json\n\"\xff\"\n\r\n12345678901234567890\n{\"n\":null}\r\n\"last\"";

#[test]
fn every_boundary_and_every_budget_are_places_to_go_on_from() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("part-0.jsonl"), EVERY_KIND).unwrap();
    for bounded in [true, false] {
        let source = FileLog::partitions(&directory).follow(!bounded).max_line_bytes(19).json::<Value>();
        let expected = naive(EVERY_KIND, bounded, 19);
        assert_eq!(expected.len(), if bounded { 7 } else { 6 });
        for budget in 1..=expected.len() + 1 {
            let mut log = Log::new();
            let mut position = None;
            loop {
                let mut partition = open(&source, "part-0.jsonl", position.as_ref()).unwrap();
                let (found, status) = poll(&mut partition, budget, &mut log);
                assert!(found <= budget);
                position = Some(partition.position());
                if status != PartitionStatus::More {
                    assert_eq!(
                        status,
                        if bounded { PartitionStatus::Ended } else { PartitionStatus::CaughtUp }
                    );
                    break;
                }
            }
            assert_eq!(log, expected, "bounded {bounded}, budget {budget}");
            assert_eq!(source.has_more("part-0.jsonl", &position.unwrap()).unwrap(), !bounded);
        }
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        any::<i32>().prop_map(|n| n.to_string()),
        "[a-zé€😀]{0,20}".prop_map(|text| format!("{{\"text\":\"{text}\"}}")),
    ];
    // Long enough to cross a chunk of 256 KiB, a few times over, with characters that a cut may fall into.
    let long = (1usize..60_000, "[aé€😀]{1,3}").prop_map(|(n, text)| format!("\"{}\"", text.repeat(n)));
    prop_oneof![
        8 => json.prop_map(String::into_bytes),
        2 => "[ \t\r]{0,4}".prop_map(String::into_bytes),
        2 => "[{}a\\[\" ]{1,9}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>().prop_filter("no newline", |b| *b != b'\n'), 1..12),
        1 => long.prop_map(String::into_bytes),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let ending = prop_oneof![3 => Just(&b"\n"[..]), 1 => Just(&b"\r\n"[..])];
    (proptest::collection::vec((line(), ending), 0..40), any::<bool>()).prop_map(|(lines, newline_at_end)| {
        let last = lines.len().saturating_sub(1);
        let mut content = Vec::new();
        for (n, (line, ending)) in lines.into_iter().enumerate() {
            content.extend(line);
            if n != last || newline_at_end {
                content.extend(ending);
            }
        }
        content
    })
}

fn step() -> impl Strategy<Value = (usize, bool, usize)> {
    (prop_oneof![1usize..10, Just(10_000)], any::<bool>(), prop_oneof![0usize..40, 0usize..500_000])
}

/// A position as a snapshot may hold one that somebody has changed.
fn position() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0u64..200).prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => "[0-9]{0,3}".prop_map(Value::from),
        1 => Just(Value::Null),
        1 => proptest::collection::vec(0u64..9, 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A part of a line is never taken for a line.
    #[test]
    fn reading_goes_on_at_a_line_or_not_at_all(content in "([a-z0-9]{0,5}(\n|\r\n| )){0,12}", position in position(), bounded: bool) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("part-0.jsonl"), &content).unwrap();
        let source = FileLog::partitions(&directory).follow(!bounded).json::<Value>();
        match open(&source, "part-0.jsonl", Some(&position)) {
            Ok(mut partition) => {
                let from = position.as_u64().unwrap();
                let mut log = Log::new();
                drain::drain(&mut partition, &mut log);
                let mut expected = naive(content.as_bytes(), bounded, usize::MAX);
                prop_assert_eq!(log, expected.split_off(&from));
            }
            Err(error) => prop_assert!(error.to_string().contains(&*position.to_string()), "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_in_pieces_is_reading_at_once(
        content in content(),
        bounded: bool,
        max_line_bytes in prop_oneof![Just(10usize), Just(5_000), Just(300_000), Just(16 << 20)],
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(directory.path().join("part-x.jsonl")).unwrap();
        let mut unwritten = &content[..];
        let mut append = |bytes: usize| {
            let (now, later) = unwritten.split_at(bytes.min(unwritten.len()));
            file.write_all(now).unwrap();
            unwritten = later;
            later.is_empty()
        };
        let mut complete = bounded && append(usize::MAX);
        let source =
            FileLog::partitions(&directory).follow(!bounded).max_line_bytes(max_line_bytes).json::<Value>();
        let mut partition = open(&source, "part-x.jsonl", None).unwrap();
        let mut log = Log::new();
        let rest = (usize::MAX, false, usize::MAX);
        for (budget, reopen, growth) in steps.into_iter().chain(std::iter::repeat(rest)) {
            // A restart begins a line anew, so one that takes several polls has to get them.
            let status = loop {
                let (found, status) = poll(&mut partition, budget, &mut log);
                prop_assert!(found <= budget);
                if found > 0 || status != PartitionStatus::More {
                    break status;
                }
            };
            if status == PartitionStatus::Ended || (status == PartitionStatus::CaughtUp && complete) {
                break;
            }
            if reopen {
                partition = open(&source, "part-x.jsonl", Some(&partition.position())).unwrap();
            }
            complete = complete || append(growth.saturating_add(1));
        }
        prop_assert_eq!(log, naive(&content, bounded, max_line_bytes));
    }
}
