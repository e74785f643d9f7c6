//! The table "what happens when" of the module's documentation, for what is read: a test a row.

mod drain;

use std::fs;
use std::path::Path;

use drain::{Found, Log, Partition, Why, drain, naive, open};
use serde_json::Value;
use tidegate::connector::{PartitionStatus, Source};
use tidegate_connectors::FileLog;
use tidegate_connectors::file_log::JsonLines;

fn source(directory: impl AsRef<Path>, bounded: bool) -> JsonLines<Value> {
    FileLog::partitions(directory).follow(!bounded).json()
}

fn directory_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn read(content: &[u8], bounded: bool) -> (Log, PartitionStatus) {
    let directory = directory_of(&[("part-0.jsonl", content)]);
    let mut log = Log::new();
    let mut partition = open(&source(&directory, bounded), "part-0.jsonl", None).unwrap();
    let status = drain(&mut partition, &mut log);
    (log, status)
}

/// The first error of polling, which a follower meets a moment after its cause.
fn error(partition: &mut Partition<Value>) -> String {
    for _ in 0..100 {
        match partition.poll(&mut tidegate::connector::Polled::new(), 1_000) {
            Ok(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(error) => return error.to_string(),
        }
    }
    panic!("no error within two seconds");
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn the_end_of_a_file() {
    assert_eq!(read(b"1\n", true), (naive(b"1\n", true, 99), PartitionStatus::Ended));
    assert_eq!(read(b"1\n", false), (naive(b"1\n", false, 99), PartitionStatus::CaughtUp));
    assert_eq!(read(b"", true), (Log::new(), PartitionStatus::Ended));
    assert_eq!(read(b"", false), (Log::new(), PartitionStatus::CaughtUp));
}

#[test]
fn a_last_line_without_its_newline() {
    let last = |value: i32| [(0, Found::Record(1.into())), (2, Found::Record(value.into()))].into();
    assert_eq!(read(b"1\n23", true).0, last(23));
    assert_eq!(read(b"1\n23\r", true).0, last(23));
    assert_eq!(read(b"1\n23", false).0, [(0, Found::Record(1.into()))].into());
    assert_eq!(read(b"1\n \t", true).0.len(), 1);
}

#[test]
fn an_ended_partition_stays_ended() {
    let directory = directory_of(&[("part-0.jsonl", b"1\n2")]);
    let mut partition = open(&source(&directory, true), "part-0.jsonl", None).unwrap();
    let mut log = Log::new();
    assert_eq!(drain(&mut partition, &mut log), PartitionStatus::Ended);
    fs::write(directory.path().join("part-0.jsonl"), "1\n2\n3\n").unwrap();
    assert_eq!(drain(&mut partition, &mut log), PartitionStatus::Ended);
    assert_eq!((log.len(), partition.position()), (2, 3.into()));
}

#[test]
fn lines_that_are_no_record() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Reading {
        device: String,
    }
    let directory =
        directory_of(&[("part-0.jsonl", b"{\"device\":\"a\"}\n{\"device\":7}\r\n{\"device\":\n\xf0\x28\n")]);
    let mut partition =
        open(&FileLog::partitions(&directory).json::<Reading>(), "part-0.jsonl", None).unwrap();
    let mut out = tidegate::connector::Polled::new();
    partition.poll(&mut out, 100).unwrap();
    let (records, malformed) = out.take();
    assert_eq!(records.len(), 1);
    let expected: [(u64, &str, &[u8]); 3] = [
        (15, "invalid type: integer `7`, expected a string at column 11", b"{\"device\":7}"),
        (29, "EOF while parsing a value at column 10", b"{\"device\":"),
        (40, "not UTF-8 from byte 0 on", b"\xf0\x28"),
    ];
    assert_eq!(malformed, expected.map(|(offset, error, raw)| (offset, error.to_owned(), raw.to_vec())));
}

#[test]
fn invalid_utf8_spoils_only_its_own_line() {
    let content = "\"é\"\n".repeat(1_000) + "X" + &"\"ü\"\n".repeat(1_000);
    let content = content.into_bytes().iter().map(|b| if *b == b'X' { 0xff } else { *b }).collect::<Vec<_>>();
    for bounded in [true, false] {
        let (log, _) = read(&content, bounded);
        assert_eq!(log, naive(&content, bounded, 99));
        let bad: Vec<_> = log.values().filter(|found| matches!(found, Found::Malformed { .. })).collect();
        assert_eq!(bad, [&Found::Malformed { why: Why::NoUtf8, raw: b"\xff\"\xc3\xbc\"".to_vec() }]);
    }
}

#[test]
fn blank_lines_and_crlf() {
    let (log, _) = read(b"\n\r\n1\r\n\n \t\n2\n\n", true);
    assert_eq!(log, [(3, Found::Record(1.into())), (10, Found::Record(2.into()))].into());
}

#[test]
fn a_byte_order_mark_in_front_of_the_first_line() {
    for bounded in [true, false] {
        let (log, _) = read(b"\xef\xbb\xbf1\n2\n", bounded);
        assert_eq!(log, [(0, Found::Record(1.into())), (5, Found::Record(2.into()))].into());
        let (log, _) = read(b"\xef\xbb\xbf \r\n2\n", bounded);
        assert_eq!(log, [(6, Found::Record(2.into()))].into());
        let (log, _) = read(b"1\n\xef\xbb\xbf2\n", bounded);
        assert!(matches!(log[&2], Found::Malformed { .. }), "only in front of the first line: {log:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_listed() {
    let directory = directory_of(&[("file", b"")]);
    for bounded in [true, false] {
        let missing = source(directory.path().join("missing"), bounded);
        let error = missing.partitions().unwrap_err().to_string();
        assert_says(
            &error,
            &["cannot list the partitions in", "missing", "must be a directory", "No such file"],
        );
        assert_says(
            &missing.uri().unwrap_err().to_string(),
            &["cannot list the partitions in", "missing", "must be a directory"],
        );

        let error = source(directory.path().join("file"), bounded).partitions().unwrap_err().to_string();
        assert_says(&error, &["must be a directory", "Not a directory"]);
    }
}

#[test]
fn without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory_of(&[("part-0.jsonl", b"1\n")]);
    let source = source(&directory, true);
    let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let file = directory.path().join("part-0.jsonl");
    permit(&file, 0);
    if fs::read(&file).is_ok() {
        return; // root may read everything
    }
    assert_says(
        &open(&source, "part-0.jsonl", None).err().unwrap().to_string(),
        &["part-0.jsonl", "ermission denied"],
    );
    permit(directory.path(), 0);
    let error = source.partitions().unwrap_err().to_string();
    permit(directory.path(), 0o700);
    assert_says(&error, &["cannot list the partitions in", "ermission denied"]);
}

#[test]
fn a_directory_without_partitions() {
    let directory =
        directory_of(&[("readings.jsonl", b"1\n"), (".part-0.jsonl", b"1\n"), ("part-0.jsonl.gz", b"")]);
    let error = source(&directory, true).partitions().unwrap_err().to_string();
    assert_says(&error, &["no partition in", "part-*.jsonl"]);

    let followed = source(&directory, false);
    assert_eq!(followed.partitions().unwrap(), [""; 0]);
    fs::write(directory.path().join("part-b.jsonl"), "").unwrap();
    fs::write(directory.path().join("part-a.jsonl"), "").unwrap();
    assert_eq!(followed.partitions().unwrap(), ["part-a.jsonl", "part-b.jsonl"]);
}

#[test]
fn what_is_called_like_a_partition_and_is_none() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for bounded in [true, false] {
        let directory = directory_of(&[("part-0.jsonl", b"1\n")]);
        fs::create_dir(directory.path().join("part-d.jsonl")).unwrap();
        let error = source(&directory, bounded).partitions().unwrap_err().to_string();
        assert_says(&error, &["part-d.jsonl", "is not a file"]);
        assert_says(
            &open(&source(&directory, bounded), "part-d.jsonl", None).err().unwrap().to_string(),
            &["not a file"],
        );

        let directory = directory_of(&[]);
        fs::write(directory.path().join(OsStr::from_bytes(b"part-\xff.jsonl")), "").unwrap();
        assert_says(
            &source(&directory, bounded).partitions().unwrap_err().to_string(),
            &["not UTF-8", "part-\\xFF"],
        );
    }
}

#[test]
fn a_link_to_a_file_is_a_partition() {
    let elsewhere = directory_of(&[("data", b"1\n")]);
    let directory = directory_of(&[]);
    std::os::unix::fs::symlink(elsewhere.path().join("data"), directory.path().join("part-0.jsonl")).unwrap();
    assert_eq!(source(&directory, true).partitions().unwrap(), ["part-0.jsonl"]);
}

#[test]
fn a_file_that_is_gone_when_it_is_opened() {
    let directory = directory_of(&[]);
    for bounded in [true, false] {
        let source = source(&directory, bounded);
        let error = open(&source, "part-0.jsonl", None).err().unwrap().to_string();
        assert_says(&error, &["cannot open", "part-0.jsonl", "No such file"]);
        let error = open(&source, "part-0.jsonl", Some(&17.into())).err().unwrap().to_string();
        assert_says(&error, &["cannot go on at offset 17", "put the file back", "part-0.jsonl"]);
    }
}

#[test]
fn a_bounded_file_that_is_removed_is_read_to_its_end() {
    let directory = directory_of(&[("part-0.jsonl", b"1\n2\n3\n")]);
    let mut partition = open(&source(&directory, true), "part-0.jsonl", None).unwrap();
    let mut log = Log::new();
    drain::poll(&mut partition, 1, &mut log);
    fs::remove_file(directory.path().join("part-0.jsonl")).unwrap();
    assert_eq!(drain(&mut partition, &mut log), PartitionStatus::Ended);
    assert_eq!(log.len(), 3);
}

#[test]
fn a_followed_file_that_is_removed_renamed_or_replaced() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 3] = [
        (|file| fs::remove_file(file).unwrap(), "removed or renamed"),
        (|file| fs::rename(file, file.with_extension("old")).unwrap(), "removed or renamed"),
        (
            |file| {
                fs::write(file.with_extension("new"), "1\n2\n3\n4\n").unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            },
            "replaced by another file",
        ),
    ];
    for (change, what) in changes {
        let directory = directory_of(&[("part-0.jsonl", b"1\n2\n")]);
        let mut partition = open(&source(&directory, false), "part-0.jsonl", None).unwrap();
        assert_eq!(drain(&mut partition, &mut Log::new()), PartitionStatus::CaughtUp);
        change(&directory.path().join("part-0.jsonl"));
        assert_says(&error(&mut partition), &["part-0.jsonl", what, "offset 4", "rotate a partition by"]);
    }
}

#[test]
fn a_file_that_is_cut() {
    for bounded in [true, false] {
        let directory = directory_of(&[("part-0.jsonl", b"1\n22\n")]);
        let path = directory.path().join("part-0.jsonl");
        let mut partition = open(&source(&directory, bounded), "part-0.jsonl", None).unwrap();
        drain::poll(&mut partition, 2, &mut Log::new());
        fs::File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_says(&error(&mut partition), &["part-0.jsonl", "cut to 2 bytes", "offset 5", "may be lost"]);

        let reopened = open(&source(&directory, bounded), "part-0.jsonl", Some(&partition.position()));
        assert_says(
            &reopened.err().unwrap().to_string(),
            &["has 2 bytes", "offset 5", "put the old file back"],
        );
    }
}

#[test]
fn a_position_that_is_none() {
    let directory = directory_of(&[("part-0.jsonl", b"1\n22\n")]);
    let source = source(&directory, true);
    let refused =
        |partition, position: Value| open(&source, partition, Some(&position)).err().unwrap().to_string();
    assert_says(&refused("part-0.jsonl", 3.into()), &["offset 3 of", "not the start of a line"]);
    assert_says(
        &refused("part-0.jsonl", "x".into()),
        &["position \"x\"", "part-0.jsonl", "not a byte offset"],
    );
    assert_says(&refused("part-0.jsonl", (-1).into()), &["not a byte offset"]);
    assert_says(&refused("part-/../../x.jsonl", 0.into()), &["cannot be a partition"]);
}

#[test]
fn going_on_behind_a_last_line_that_had_no_newline() {
    let directory = directory_of(&[("part-0.jsonl", b"1\n22")]);
    let path = directory.path().join("part-0.jsonl");
    let mut partition = open(&source(&directory, true), "part-0.jsonl", None).unwrap();
    drain(&mut partition, &mut Log::new());
    let end = partition.position();
    let resume = |bounded| -> Result<Log, String> {
        let mut log = Log::new();
        let mut partition =
            open(&source(&directory, bounded), "part-0.jsonl", Some(&end)).map_err(|e| e.to_string())?;
        drain(&mut partition, &mut log);
        Ok(log)
    };
    assert_eq!(resume(true), Ok(Log::new()));
    assert_says(&resume(false).unwrap_err(), &["ends at offset 4 without a newline"]);
    for (content, offset) in [("1\n22\n3\n", 5), ("1\n22\r\n3\n", 6)] {
        fs::write(&path, content).unwrap();
        for bounded in [true, false] {
            assert_eq!(resume(bounded), Ok([(offset, Found::Record(3.into()))].into()));
        }
    }
    fs::write(&path, "1\n2233\n").unwrap();
    for bounded in [true, false] {
        assert_says(&resume(bounded).unwrap_err(), &["offset 4 of", "has grown after it was read"]);
    }
}

#[test]
fn a_finished_run_asks_whether_there_is_more() {
    let directory = directory_of(&[("part-0.jsonl", b"1\n22\n")]);
    let source = source(&directory, true);
    assert!(source.bounded());
    assert!(!source.has_more("part-0.jsonl", &5.into()).unwrap());
    assert!(source.has_more("part-0.jsonl", &2.into()).unwrap());
    assert!(!source.has_more("part-removed.jsonl", &2.into()).unwrap());
}

#[test]
fn the_same_directory_has_one_name() {
    let directory = directory_of(&[]);
    fs::create_dir(directory.path().join("in")).unwrap();
    let detour = source(directory.path().join("in/../in/."), true).uri().unwrap();
    assert_eq!(detour, fs::canonicalize(directory.path().join("in")).unwrap().to_str().unwrap());
}
