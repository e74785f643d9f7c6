//! A followed partition gives a line once it is whole, however it was written.

mod drain;

use std::fs::File;
use std::io::Write;

use drain::{Found, Log, drain, naive, open, poll};
use serde_json::Value;
use tidegate::connector::{PartitionStatus, Source};
use tidegate_connectors::FileLog;

const CONTENT: &[u8] = "{\"a\":\"é€😀\"}\r\n\n[1,2]\nno json\n\"last\"\n".as_bytes();

#[test]
fn a_line_may_be_split_at_every_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("part-0.jsonl");
    let source = FileLog::partitions(&directory).follow(true).json::<Value>();
    for split in 0..=CONTENT.len() {
        let mut file = File::create(&path).unwrap();
        let mut partition = open(&source, "part-0.jsonl", None).unwrap();
        let mut log = Log::new();
        for written in [&CONTENT[..split], &CONTENT[split..]] {
            file.write_all(written).unwrap();
            assert_eq!(drain(&mut partition, &mut log), PartitionStatus::CaughtUp);
            if written.len() == split {
                assert_eq!(log, naive(&CONTENT[..split], false, 99), "split at {split}");
            }
        }
        assert_eq!(log, naive(CONTENT, false, 99), "split at {split}");
    }
}

#[test]
fn a_file_may_grow_byte_by_byte() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("part-0.jsonl")).unwrap();
    let source = FileLog::partitions(&directory).follow(true).json::<Value>();
    let mut partition = open(&source, "part-0.jsonl", None).unwrap();
    let mut log = Log::new();
    for (n, byte) in CONTENT.iter().enumerate() {
        file.write_all(&[*byte]).unwrap();
        assert_eq!(drain(&mut partition, &mut log), PartitionStatus::CaughtUp);
        assert_eq!(log, naive(&CONTENT[..=n], false, 99));
        let position = partition.position().as_u64().unwrap();
        assert!(position == 0 || CONTENT[position as usize - 1] == b'\n');
    }
}

#[test]
fn a_line_that_is_too_long_waits_for_its_newline_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("part-0.jsonl")).unwrap();
    let source = FileLog::partitions(&directory).follow(true).max_line_bytes(100_000).json::<Value>();
    let mut partition = open(&source, "part-0.jsonl", None).unwrap();
    let mut log = Log::new();
    for piece in [&b"1\n"[..], &vec![b'x'; 150_000], &vec![b'y'; 150_000], b"\r"] {
        file.write_all(piece).unwrap();
        assert_eq!(drain(&mut partition, &mut log), PartitionStatus::CaughtUp);
        assert_eq!((log.len(), partition.position()), (1, 2.into()), "a restart begins with the line");
    }
    file.write_all(b"\n2\n").unwrap();
    drain(&mut partition, &mut log);
    assert_eq!(log.keys().copied().collect::<Vec<_>>(), [0, 2, 300_004]);
    assert_eq!(partition.position(), 300_006);
    assert_eq!(log[&300_004], Found::Record(2.into()));
}

#[test]
fn a_new_partition_is_listed_and_read_from_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let source = FileLog::partitions(&directory).follow(true).json::<Value>();
    assert!(!source.bounded());
    assert!(source.partitions().unwrap().is_empty());
    for n in 0..3 {
        std::fs::write(directory.path().join(format!("part-{n}.jsonl")), format!("{n}\n")).unwrap();
        let partitions = source.partitions().unwrap();
        assert_eq!(partitions.len(), n + 1);
        let mut log = Log::new();
        poll(&mut open(&source, &partitions[n], None).unwrap(), 10, &mut log);
        assert_eq!(log, [(0, Found::Record(n.into()))].into());
    }
}
