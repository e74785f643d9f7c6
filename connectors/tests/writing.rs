//! Output is seen as a whole, once, and never without its snapshot: the documentation's table for what is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};
use tidegate::connector::{
    DeadLetter, Owner, SinkId, SinkPlace, SinkTarget, StagedOutput, Staging, TransactionalSink, Writer,
};
use tidegate::protocol::manifest::{FileRef, Staged};
use tidegate::protocol::{Attempt, Epoch, JobId, Slot};
use tidegate_connectors::FileLog;

/// The place of a worker. The sink has a directory of its own, and does not ask for another one.
fn place(slot: u32, attempt: u32) -> SinkPlace {
    SinkPlace::new(sink_id(), (Slot(slot), Attempt(attempt)), Path::new("/nonexistent"), Rc::default())
}

fn sink_id() -> SinkId {
    SinkId { job: JobId([1; 16]), uid: "out".into() }
}

fn writer(directory: impl AsRef<Path>, slot: u32, attempt: u32) -> Writing {
    let writer = FileLog::sink(directory).json().writer(place(slot, attempt)).unwrap();
    Writing { slot: Slot(slot), writer }
}

struct Writing {
    slot: Slot,
    writer: Box<dyn Writer<Value>>,
}

impl Writing {
    fn write(&mut self, value: &Value) {
        self.writer.write(value, None).unwrap();
    }

    fn stage(&mut self, epoch: u64) -> tidegate::Result<Option<Staged>> {
        let staging = self.writer.stage(Epoch(epoch))?;
        Ok(staging.map(|staging| finish(staging, self.slot, epoch)))
    }
}

fn finish(staging: Staging, slot: Slot, epoch: u64) -> Staged {
    staging.finish(slot, Epoch(epoch), &PathBuf::new()).unwrap()
}

/// A run's hold on a directory, and what publishes there.
struct Publishing {
    target: Box<dyn SinkTarget>,
    directory: PathBuf,
    /// Nothing of an earlier attempt is left to be published.
    is_recovered: bool,
}

fn publisher(directory: impl AsRef<Path>) -> Publishing {
    let directory = directory.as_ref().to_owned();
    let target = TransactionalSink::<Value>::target(&FileLog::sink(&directory).json(), Owner::Alone).unwrap();
    Publishing { target, directory, is_recovered: false }
}

impl Publishing {
    fn publish(&mut self, staged: &Staged) -> tidegate::Result<()> {
        let sink = FileLog::sink(&self.directory).json();
        let output = StagedOutput::new(staged, !self.is_recovered, &self.directory);
        TransactionalSink::<Value>::publisher(&sink, &sink_id(), staged.slot)?
            .publish(staged.epoch, &[output])
    }

    fn recover(&mut self, restored: Option<Epoch>) -> tidegate::Result<Vec<String>> {
        let taken_back = self.target.recover(restored, None)?;
        self.is_recovered = true;
        Ok(taken_back)
    }
}

fn file(staged: &Staged) -> &FileRef {
    staged.file.as_ref().unwrap()
}

fn stage(writer: &mut Writing, epoch: u64, values: &[i32]) -> Staged {
    for value in values {
        writer.write(&json!(value));
    }
    writer.stage(epoch).unwrap().unwrap()
}

/// Every file in the directory with its content, but for the lock of the publisher.
fn files(directory: impl AsRef<Path>) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name() != ".lock")
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

fn files_are(directory: impl AsRef<Path>, expected: &[(&str, &str)]) {
    let expected =
        expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
    assert_eq!(files(directory), expected);
}

fn assert_says(error: &tidegate::Error, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn output_is_hidden_until_it_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(&directory, 3, 2);
    let mut publisher = publisher(&directory);
    publisher.recover(None).unwrap();

    let first = stage(&mut writer, 7, &[1, 2]);
    writer.write(&json!({"a": [1, "é"]}));
    files_are(&directory, &[(".part-3-a2-0.staged", "1\n2\n")]);
    let second = stage(&mut writer, 8, &[]);
    files_are(
        &directory,
        &[(".part-3-a2-0.staged", "1\n2\n"), (".part-3-a2-1.staged", "{\"a\":[1,\"é\"]}\n")],
    );

    publisher.publish(&second).unwrap();
    publisher.publish(&first).unwrap();
    files_are(&directory, &[("part-3-7.jsonl", "1\n2\n"), ("part-3-8.jsonl", "{\"a\":[1,\"é\"]}\n")]);
}

#[test]
fn a_staged_piece_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 0, 1), 5, &[10, 20]);
    let path = fs::canonicalize(directory.path()).unwrap().join(".part-0-a1-0.staged");
    assert_eq!((staged.slot, staged.epoch, staged.records), (Slot(0), Epoch(5), 2));
    assert_eq!(staged.place, json!({"staged": ".part-0-a1-0.staged", "published": "part-0-5.jsonl"}));
    assert_eq!(file(&staged).path, path.to_str().unwrap());
    assert_eq!((file(&staged).bytes, file(&staged).crc32), (6, crc32fast::hash(b"10\n20\n")));
}

#[test]
fn an_epoch_without_records_makes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(&directory, 0, 1);
    assert!(writer.stage(1).unwrap().is_none());
    let staged = stage(&mut writer, 2, &[1]);
    assert!(writer.stage(3).unwrap().is_none());
    assert_eq!(staged.epoch, Epoch(2));
    assert_eq!(files(&directory).len(), 1);
}

#[test]
fn much_output_passes_through_the_buffer_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(&directory, 0, 1);
    let values: Vec<i32> = (0..200_000).collect();
    let expected: String = values.iter().map(|n| format!("{n}\n")).collect();
    for value in &values[..150_000] {
        writer.write(&json!(value));
    }
    assert!(files(&directory)[".part-0-a1-0.staged"].len() > 500_000, "the buffer is not the whole epoch");
    let staged = stage(&mut writer, 1, &values[150_000..]);
    assert_eq!(staged.records, 200_000);
    assert_eq!(file(&staged).crc32, crc32fast::hash(expected.as_bytes()));
    publisher(&directory).publish(&staged).unwrap();
    files_are(&directory, &[("part-0-1.jsonl", &expected)]);
}

#[test]
fn the_directory_is_made_and_named() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("a/b/../c");
    let sink = FileLog::sink(&directory);
    let json = sink.clone().json();
    let uri = TransactionalSink::<Value>::uri(&json).unwrap();
    assert!(!above.path().join("a").exists(), "a job may be described where it does not run");
    drop(publisher(&directory));
    assert_eq!(uri, fs::canonicalize(above.path().join("a/c")).unwrap().to_str().unwrap());
    assert_eq!(TransactionalSink::<DeadLetter>::uri(&sink).unwrap(), uri);

    fs::write(above.path().join("file"), "").unwrap();
    let sink = FileLog::sink(above.path().join("file"));
    assert_says(
        &TransactionalSink::<DeadLetter>::uri(&sink).unwrap_err(),
        &["is a file, and a directory is needed"],
    );
    let sink = FileLog::sink(above.path().join("file/x"));
    assert_says(
        &TransactionalSink::<DeadLetter>::uri(&sink).unwrap_err(),
        &["file is a file, and a directory is needed"],
    );
}

#[test]
fn dead_letters_have_the_documented_form() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileLog::sink(&directory);
    let mut writer: Box<dyn Writer<DeadLetter>> = sink.writer(place(0, 1)).unwrap();
    let letter = DeadLetter {
        source: "readings".to_owned(),
        partition: Some("part-0.jsonl".to_owned()),
        offset: Some(1234),
        error: "why".to_owned(),
        raw: Some("{\"".to_owned()),
        raw_base64: None,
    };
    writer.write(&letter, None).unwrap();
    writer.write(&DeadLetter { raw: None, raw_base64: Some("/w==".to_owned()), ..letter }, None).unwrap();
    let staged = finish(writer.stage(Epoch(1)).unwrap().unwrap(), Slot(0), 1);
    publisher(&directory).publish(&staged).unwrap();
    let start = r#"{"source":"readings","partition":"part-0.jsonl","offset":1234,"error":"why","#;
    let expected = format!("{start}\"raw\":\"{{\\\"\"}}\n{start}\"raw_base64\":\"/w==\"}}\n");
    files_are(&directory, &[("part-0-1.jsonl", &expected)]);
}

/// The types of a job's builder methods: both forms must be inferred as they stand.
#[test]
fn a_job_names_no_type() {
    #[derive(serde::Serialize)]
    struct Alert;
    fn dead_letters(_: impl TransactionalSink<DeadLetter>) {}
    fn sink<T>(_: &[T], _name: &str, _: impl TransactionalSink<T>) {}
    dead_letters(FileLog::sink("x"));
    dead_letters(FileLog::sink("x").json());
    sink(&[Alert], "alerts", FileLog::sink(String::from("x")).json());
}

#[test]
fn publishing_twice_is_publishing_once() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 0, 1), 1, &[1]);
    for _process in 0..2 {
        let mut publisher = publisher(&directory);
        publisher.publish(&staged).unwrap();
        publisher.publish(&staged).unwrap();
        assert_eq!(publisher.recover(Some(Epoch(1))).unwrap(), [""; 0]);
        publisher.publish(&staged).unwrap();
        files_are(&directory, &[("part-0-1.jsonl", "1\n")]);
    }
}

#[test]
fn a_visible_file_with_another_content_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 0, 1), 1, &[1]);
    let path = directory.path().join("part-0-1.jsonl");
    for (other, how) in [("22\n", "it has 3 bytes and should have 2"), ("2\n", "its CRC-32 is not")] {
        fs::write(&path, other).unwrap();
        let error = publisher(&directory).publish(&staged).unwrap_err();
        assert_says(
            &error,
            &["part-0-1.jsonl is not the output of epoch 1 (1 records)", how, "Nothing was published"],
        );
        files_are(&directory, &[(".part-0-a1-0.staged", "1\n"), ("part-0-1.jsonl", other)]);
    }
    fs::write(&path, "1\n").unwrap();
    publisher(&directory).publish(&staged).unwrap();
    files_are(&directory, &[("part-0-1.jsonl", "1\n")]);
}

#[test]
fn a_staged_file_that_was_changed_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 0, 1), 1, &[1]);
    for (torn, how) in [("1", "it has 1 bytes and should have 2"), ("3\n", "its CRC-32 is not")] {
        fs::write(&file(&staged).path, torn).unwrap();
        let error = publisher(&directory).publish(&staged).unwrap_err();
        assert_says(&error, &[".part-0-a1-0.staged is not the output of epoch 1", how]);
        files_are(&directory, &[(".part-0-a1-0.staged", torn)]);
    }
}

#[test]
fn a_piece_that_is_nowhere_is_a_loss_with_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 2, 1), 9, &[1, 2, 3]);
    fs::remove_file(&file(&staged).path).unwrap();
    let error = publisher(&directory).publish(&staged).unwrap_err();
    assert_says(&error, &["3 records of epoch 9 are lost", "part-2-9.jsonl", ".part-2-a1-0.staged"]);
}

#[test]
fn names_from_a_snapshot_do_not_lead_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let staged = stage(&mut writer(&directory, 0, 1), 1, &[1]);
    for (key, name) in
        [("staged", "../x"), ("staged", ".part-1-a1-0.staged"), ("published", "part-0-2.jsonl")]
    {
        let mut other = staged.clone();
        other.place[key] = name.into();
        assert_says(&publisher(&directory).publish(&other).unwrap_err(), &[name, "defect of Tidegate"]);
    }
    let other = Staged { place: Value::Null, ..staged };
    publisher(&directory).publish(&other).unwrap_err();
}

#[test]
fn a_start_takes_away_what_was_not_completed() {
    let directory = tempfile::tempdir().unwrap();
    let mut old = writer(&directory, 0, 1);
    let kept = stage(&mut old, 1, &[1]);
    let given_up = stage(&mut old, 2, &[2]);
    let _unfinished = stage(&mut old, 3, &[3]);
    fs::write(directory.path().join("part-0.jsonl"), "not ours\n").unwrap();
    fs::write(directory.path().join(".hidden"), "not ours\n").unwrap();
    let mut first = publisher(&directory);
    first.publish(&kept).unwrap();
    first.publish(&given_up).unwrap();

    drop(first);
    let mut second = publisher(&directory);
    second.publish(&kept).unwrap();
    assert_eq!(second.recover(Some(Epoch(1))).unwrap(), ["part-0-2.jsonl"]);
    let ours_and_others =
        [(".hidden", "not ours\n"), ("part-0-1.jsonl", "1\n"), ("part-0.jsonl", "not ours\n")];
    files_are(&directory, &ours_and_others);
    assert_eq!(second.recover(Some(Epoch(1))).unwrap(), [""; 0]);

    let again = stage(&mut writer(&directory, 0, 2), 2, &[22]);
    second.publish(&again).unwrap();
    assert_eq!(files(&directory)["part-0-2.jsonl"], "22\n");
}

#[test]
fn a_start_without_a_snapshot_removes_no_output() {
    let directory = tempfile::tempdir().unwrap();
    let mut old = writer(&directory, 0, 1);
    let published = stage(&mut old, 12, &[1]);
    publisher(&directory).publish(&published).unwrap();
    let _staged = stage(&mut old, 13, &[2]);
    let before = files(&directory);
    let error = publisher(&directory).recover(None).unwrap_err();
    assert_says(&error, &["already holds output (part-0-12.jsonl) of another run", "empty directory"]);
    assert_eq!(files(&directory), before);

    fs::remove_file(directory.path().join("part-0-12.jsonl")).unwrap();
    assert_eq!(publisher(&directory).recover(None).unwrap(), [""; 0]);
    files_are(&directory, &[]);
}

#[test]
fn a_staged_file_of_another_writer_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    stage(&mut writer(&directory, 0, 1), 1, &[1]);
    let mut same_place = writer(&directory, 0, 1);
    same_place.write(&json!(2));
    let error = same_place.stage(1).err().unwrap();
    assert_says(&error, &["cannot make the staged file", ".part-0-a1-0.staged", "File exists"]);
    let after = same_place.stage(2).err().unwrap();
    assert_says(&after, &["used after it failed"]);
    files_are(&directory, &[(".part-0-a1-0.staged", "1\n")]);
}

#[test]
fn a_number_that_json_does_not_have_is_null() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer: Box<dyn Writer<[f64; 4]>> = FileLog::sink(&directory).json().writer(place(0, 1)).unwrap();
    writer.write(&[0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY], None).unwrap();
    let staged = finish(writer.stage(Epoch(1)).unwrap().unwrap(), Slot(0), 1);
    assert_eq!(fs::read_to_string(&file(&staged).path).unwrap(), "[0.5,null,null,null]\n");
}

#[test]
fn a_record_that_is_no_json_leaves_no_trace() {
    struct Unserializable(bool);
    impl serde::Serialize for Unserializable {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{Error, SerializeSeq};
            let mut sequence = serializer.serialize_seq(None)?;
            sequence.serialize_element(&1)?;
            if self.0 { sequence.end() } else { Err(S::Error::custom("no")) }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut writer: Box<dyn Writer<Unserializable>> =
        FileLog::sink(&directory).json().writer(place(0, 1)).unwrap();
    writer.write(&Unserializable(true), None).unwrap();
    assert_says(
        &writer.write(&Unserializable(false), None).unwrap_err(),
        &["of the type", "Unserializable", "cannot be written as JSON", ": no. ", "try_map"],
    );
    writer.write(&Unserializable(true), None).unwrap();
    let staged = finish(writer.stage(Epoch(1)).unwrap().unwrap(), Slot(0), 1);
    assert_eq!(
        (staged.records, fs::read_to_string(&file(&staged).path).unwrap()),
        (2, "[1]\n[1]\n".to_owned())
    );
}

#[test]
fn a_directory_has_one_run_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = publisher(&directory);
    let second = TransactionalSink::<Value>::target(&FileLog::sink(&directory).json(), Owner::Alone);
    assert_says(&second.err().unwrap(), &["is being written by another run"]);
    drop(first);
    drop(publisher(&directory));
}
