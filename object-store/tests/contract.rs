//! What every checkpoint store must do: the same cases for a directory, a bucket, and a bucket with copies on the local disk.

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_protocol::manifest::FORMAT_VERSION;
use tidegate_protocol::manifest::SlotSnapshot;
use tidegate_protocol::{Attempt, Epoch, KeyGroups, Manifest, Slot};
use tidegate_snapshots::{CheckpointStore, Snapshots, Upload, state_file_name};

use place::Place;

/// A case, and what it is called.
type Case = (&'static str, fn(&Store<'_>));

const CASES: &[Case] = &[
    ("a small object is made once", a_small_object_is_made_once),
    ("an object is replaced when asked for", an_object_is_replaced_when_asked_for),
    ("an object gets another name", an_object_gets_another_name),
    ("objects are listed by folder and prefix", objects_are_listed_by_folder_and_prefix),
    ("many objects are listed and deleted", many_objects_are_listed_and_deleted),
    ("files come back as they were put", files_come_back_as_they_were_put),
    ("what is not there is not found", what_is_not_there_is_not_found),
    ("a file that was changed is noticed", a_file_that_was_changed_is_noticed),
    ("a snapshot is completed, copied and collected", a_snapshot_is_completed_copied_and_collected),
];

/// A store that a case is run with.
struct Store<'a> {
    place: &'a Place,
    store: Arc<dyn CheckpointStore>,
    /// Where its objects are as files.
    objects: PathBuf,
    /// Another store of the same kind.
    other: Arc<dyn CheckpointStore>,
}

impl Store<'_> {
    fn file(&self, content: &[u8]) -> PathBuf {
        self.place.file(content)
    }
}

#[test]
fn every_store_keeps_the_contract() {
    for (name, case) in CASES {
        let place = Place::new();
        for (kind, store, other, objects) in place.stores() {
            eprintln!("{name}: {kind}");
            case(&Store { place: &place, store, objects, other });
        }
    }
}

fn a_small_object_is_made_once(Store { store, .. }: &Store<'_>) {
    assert_eq!((store.read("a").unwrap(), store.exists("a").unwrap()), (None, false));
    store.create("a", b"first").unwrap();
    let error = store.create("a", b"second").unwrap_err().to_string();
    assert!(error.contains("exists") && error.contains(&store.uri()), "{error}");
    assert_eq!((store.read("a").unwrap().unwrap(), store.exists("a").unwrap()), (b"first".to_vec(), true));
}

fn an_object_is_replaced_when_asked_for(Store { store, .. }: &Store<'_>) {
    store.replace("a", b"first").unwrap();
    store.replace("a", b"second").unwrap();
    assert_eq!(store.read("a").unwrap().unwrap(), b"second");
    store.note("a", b"third").unwrap();
    assert_eq!(store.read("a").unwrap().unwrap(), b"third");
}

fn an_object_gets_another_name(Store { store, .. }: &Store<'_>) {
    store.create("a", b"content").unwrap();
    store.rename("a", "b").unwrap();
    assert_eq!((store.exists("a").unwrap(), store.read("b").unwrap().unwrap()), (false, b"content".to_vec()));
    assert!(store.rename("a", "c").is_err());
}

fn objects_are_listed_by_folder_and_prefix(Store { store, place, .. }: &Store<'_>) {
    store.create("note", b"").unwrap();
    let file = place.file(b"row");
    for name in ["1-0-7-a.sst", "1-0-71-a.sst", "1-0-7-CURRENT"] {
        store.put_file(&file, &format!("files/{name}"), true).unwrap();
    }
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let files = sorted(store.list("files").unwrap());
    assert_eq!(files, ["1-0-7-CURRENT", "1-0-7-a.sst", "1-0-71-a.sst"]);
    assert_eq!(sorted(store.list_with_prefix("files", "1-0-7-").unwrap()), files[..2]);
    assert_eq!(store.list_with_prefix("files", "2-").unwrap(), [""; 0]);
    assert_eq!(store.list("staged").unwrap(), [""; 0]);
    assert_eq!(store.list_with_prefix("", "no").unwrap(), ["note"]);
}

fn many_objects_are_listed_and_deleted(Store { store, place, .. }: &Store<'_>) {
    // More than fit in one answer of S3.
    let file = place.file(b"");
    let name = |number: usize| format!("files/{number:04}");
    let uploads: Vec<Upload> =
        (0..1100).map(|number| Upload { from: file.clone(), name: name(number), immutable: true }).collect();
    store.put_files(&uploads).unwrap();
    assert_eq!(store.list("files").unwrap().len(), uploads.len());
    let names: Vec<&str> = uploads[1..].iter().map(|upload| &*upload.name).collect();
    store.delete(&names).unwrap();
    store.delete(&[]).unwrap();
    assert_eq!(store.list("files").unwrap(), ["0000"]);
}

fn files_come_back_as_they_were_put(this: &Store<'_>) {
    let Store { store, .. } = this;
    // Nothing, less than a part, and two parts and a bit.
    for (number, bytes) in [0, 5, (16 << 20) + 7].into_iter().enumerate() {
        let content: Vec<u8> = (0..bytes).map(|i: u32| (i / 251) as u8).collect();
        let name = format!("files/{number}.sst");
        store.put_file(&this.file(&content), &name, true).unwrap();
        store.sync("files").unwrap();
        let checksums = store.checksums(&[&name]).unwrap();
        assert_eq!(checksums, [Ok((content.len() as u64, crc32fast::hash(&content)))]);
        let mut read = Vec::new();
        store.open_file(&name).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content);
        for immutable in [true, false] {
            let to = this.place.path();
            store.get_file(&name, &to, immutable).unwrap();
            assert!(fs::read(&to).unwrap() == content);
        }
    }
}

fn what_is_not_there_is_not_found(this: &Store<'_>) {
    let Store { store, .. } = this;
    let why = store.checksums(&["files/none"]).unwrap().remove(0).unwrap_err();
    assert!(why.contains("files/none"), "{why}");
    assert!(store.get_file("files/none", &this.place.path(), true).is_err());
    assert!(store.open_file("files/none").is_err());
    store.delete(&["files/none"]).unwrap();
    assert!(store.put_file(&this.place.path(), "files/none", true).is_err());
}

fn a_file_that_was_changed_is_noticed(this: &Store<'_>) {
    let Store { store, objects, .. } = this;
    let file = this.file(b"row");
    store.put_file(&file, "files/a.sst", false).unwrap();
    assert_eq!(store.checksums(&["files/a.sst"]).unwrap(), [Ok((3, crc32fast::hash(b"row")))]);
    fs::write(objects.join("files/a.sst"), "rows").unwrap();
    let found = store.checksums(&["files/a.sst"]).unwrap().remove(0).unwrap();
    assert_ne!(found, (3, crc32fast::hash(b"row")));
}

fn manifest(epoch: u64, slots: BTreeMap<Slot, SlotSnapshot>) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        job: "job".to_owned(),
        attempt: Attempt(1),
        epoch: Epoch(epoch),
        finished: false,
        checkpoints: epoch,
        completed_at_ms: 0,
        parallelism: 1,
        key_groups: KeyGroups::default(),
        arguments: BTreeMap::new(),
        operators: BTreeMap::new(),
        slots,
    }
}

fn a_snapshot_is_completed_copied_and_collected(this: &Store<'_>) {
    let snapshots = Snapshots::new(this.store.clone());
    let row = this.file(b"row");
    for epoch in 1..=2 {
        let name = state_file_name(Attempt(1), Slot(0), Epoch(epoch), "1.sst");
        let file = snapshots.put_state_files(&[(row.clone(), name)]).unwrap().remove(0);
        let store = BTreeMap::from([("1.sst".to_owned(), file)]);
        let slot = SlotSnapshot { store, operators: BTreeMap::new() };
        snapshots.complete(&manifest(epoch, BTreeMap::from([(Slot(0), slot)]))).unwrap();
    }
    let other = Manifest { job: "other".to_owned(), ..manifest(2, BTreeMap::new()) };
    assert!(snapshots.complete(&other).is_err());
    assert_eq!(snapshots.find().unwrap().manifests.len(), 2);
    tidegate_snapshots::copy_snapshot(&this.store, Epoch(2), &this.other).unwrap();
    snapshots.collect(Epoch(2)).unwrap();
    assert_eq!(this.store.list("files").unwrap(), ["1-0-2-1.sst"]);
    snapshots.set_aside(Epoch(2)).unwrap();
    assert!(!snapshots.is_complete(Epoch(2)).unwrap());
    let copied = tidegate_snapshots::newest(&this.other).unwrap();
    assert_eq!(copied.epoch, Epoch(2));
    assert_eq!(Snapshots::new(this.other.clone()).published().unwrap(), Epoch(2));
}
