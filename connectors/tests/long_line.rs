//! A line of 100 MB is skipped, and the process never holds it. Alone in its binary, as it looks at the whole process.

use std::io::{Seek, SeekFrom, Write};

use serde_json::Value;
use tidegate::connector::{PartitionStatus, Polled, Source};
use tidegate_connectors::FileLog;

#[test]
fn a_line_of_100_mb_takes_memory_for_the_limit_only() {
    const LONG: u64 = 100_000_000;
    let directory = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(directory.path().join("part-0.jsonl")).unwrap();
    file.write_all(b"1\n").unwrap();
    file.seek(SeekFrom::Current(LONG as i64)).unwrap(); // a hole reads as zero bytes
    file.write_all(b"\n2\n").unwrap();

    let before = peak_bytes();
    let source = FileLog::partitions(&directory).json::<Value>();
    let mut reader = source.reader().unwrap();
    reader.open("part-0.jsonl", None).unwrap();
    let mut out = Polled::new();
    let mut polls = 0;
    while reader.poll(0, &mut out, 1_000).unwrap() != PartitionStatus::Ended {
        polls += 1;
    }
    let (records, malformed) = out.take();
    assert_eq!(records, [(0, Value::from(1)), (LONG + 3, Value::from(2))]);
    let expected = "the line has 100000000 bytes, more than max_line_bytes; the first 4096 are kept";
    assert_eq!(malformed, [(2, expected.to_owned(), vec![0; 4096])]);
    assert!(polls > 50, "no poll takes longer than reading about a megabyte: {polls}");
    let grown = peak_bytes() - before;
    // The limit of 16 MiB, twice for a moment while the buffer grows, and what the allocator keeps of smaller ones.
    assert!(grown < 48 << 20, "grown by {grown} bytes");
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
