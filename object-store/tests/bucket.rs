//! What only a bucket does: copies on the local disk, a store that is away, credentials.

mod place;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tidegate_object_store::{Copies, S3Settings, S3Uri, Stores};
use tidegate_s3_server::{BUCKET, SECRET_KEY};
use tidegate_snapshots::{CheckpointStore, LocalStore, Upload};

use place::Place;

fn uri(prefix: &str) -> S3Uri {
    format!("s3://{BUCKET}/{prefix}").parse().unwrap()
}

#[test]
fn a_file_that_is_here_is_compared_and_linked_and_not_fetched() {
    let place = Place::new();
    let copies = Copies::open(&place.path()).unwrap();
    let first = place.bucket("job").with_copies(copies.clone());
    let file = place.file(b"rows");
    first.put_file(&file, "files/1-0-1-a.sst", true).unwrap();
    // The worker is started again on the same host.
    let again = place.bucket("job").with_copies(copies.clone());
    place.server.take_requests();
    let rows = (4, crc32fast::hash(b"rows"));
    assert_eq!(again.checksums(&["files/1-0-1-a.sst"]).unwrap(), [Ok(rows)]);
    let to = place.path();
    again.get_file("files/1-0-1-a.sst", &to, true).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().ino(), fs::metadata(&file).unwrap().ino());
    let requests = place.server.take_requests();
    assert!(requests.len() == 1 && requests[0].starts_with("HEAD "), "{requests:?}");
    // A copy that is not needed is deleted, and fetched again when it is.
    again.keep_copies(&|name| name != "files/1-0-1-a.sst");
    assert_eq!(again.checksums(&["files/1-0-1-a.sst"]).unwrap(), [Ok(rows)]);
    assert!(place.server.take_requests().iter().any(|request| request.starts_with("GET ")));
}

#[test]
fn a_damaged_copy_is_fetched_again_and_a_missing_object_is_not_replaced_by_a_copy() {
    let place = Place::new();
    let directory = place.path();
    let store = place.bucket("job").with_copies(Copies::open(&directory).unwrap());
    store.put_file(&place.file(b"rows"), "files/a.sst", false).unwrap();
    fs::write(directory.join("files/a.sst"), "damaged").unwrap();
    assert_eq!(store.checksums(&["files/a.sst"]).unwrap(), [Ok((4, crc32fast::hash(b"rows")))]);
    let to = place.path();
    store.get_file("files/a.sst", &to, false).unwrap();
    assert_eq!(fs::read(to).unwrap(), b"rows");
    store.delete(&["files/a.sst"]).unwrap();
    let why = store.checksums(&["files/a.sst"]).unwrap().remove(0).unwrap_err();
    assert_eq!(why, format!("s3://{BUCKET}/job/files/a.sst is not there"));
}

#[test]
fn files_go_from_a_directory_to_a_bucket_and_back() {
    let place = Place::new();
    let (local, bucket) = (LocalStore::open(&place.path()).unwrap(), place.bucket("job"));
    local.put_file(&place.file(b"rows"), "files/a.sst", true).unwrap();
    bucket.copy_file(&local, "files/a.sst", true).unwrap();
    let back = LocalStore::open(&place.path()).unwrap();
    back.copy_file(&bucket, "files/a.sst", true).unwrap();
    assert_eq!(back.checksums(&["files/a.sst"]).unwrap(), [Ok((4, crc32fast::hash(b"rows")))]);
}

#[test]
fn a_store_that_is_away_is_waited_for_and_then_reported_by_name() {
    let mut place = Place::new();
    let stores = Stores::new(place.settings(Duration::from_millis(500)));
    let store = stores.bucket(&uri("job")).unwrap();
    store.create("a", b"content").unwrap();
    place.server.go_away();
    let began = Instant::now();
    let errors = [
        store.read("a").map(drop),
        store.exists("a").map(drop),
        store.list("files").map(drop),
        store.create("b", b""),
        store.checksums(&["files/a.sst"]).map(drop),
        store.delete(&["a"]),
        store.put_files(&[Upload { from: place.file(b""), name: "files/a.sst".into(), immutable: true }]),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("s3://{BUCKET}/")), "{error}");
        assert!(!error.contains(SECRET_KEY) && error.len() < 600, "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // It comes back while a request waits.
    let patient = Arc::new(place.bucket("job"));
    let waiting = patient.clone();
    let thread = std::thread::spawn(move || waiting.read("a"));
    std::thread::sleep(Duration::from_millis(300));
    place.server.come_back();
    assert_eq!(thread.join().unwrap().unwrap().unwrap(), b"content");
}

/// A directory has one writer at a time; a bucket may have several.
#[test]
fn of_several_who_make_an_object_one_succeeds() {
    let place = Place::new();
    let store = place.bucket("job");
    let contents: Vec<String> = (0..4).map(|number| number.to_string()).collect();
    let barrier = Barrier::new(contents.len());
    let made: Vec<bool> = std::thread::scope(|scope| {
        let make = |content| {
            barrier.wait();
            store.create("manifest", content).is_ok()
        };
        let threads: Vec<_> =
            contents.iter().map(|content| scope.spawn(move || make(content.as_bytes()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let makers: Vec<usize> = (0..made.len()).filter(|number| made[*number]).collect();
    assert_eq!(makers.len(), 1, "{made:?}");
    assert_eq!(store.read("manifest").unwrap().unwrap(), contents[makers[0]].as_bytes());
}

#[test]
fn a_bucket_that_is_not_there_is_not_taken_for_an_empty_one() {
    let place = Place::new();
    let stores = Stores::new(place.settings(Duration::from_millis(500)));
    let store = stores.bucket(&"s3://another-bucket/job".parse().unwrap()).unwrap();
    // The server of the test takes a missing bucket for a missing object when an object is read, unlike AWS.
    let error = store.list("files").unwrap_err().to_string();
    assert!(error.contains("s3://another-bucket/") && error.contains("NoSuchBucket"), "{error}");
}

#[test]
fn wrong_credentials_are_named_and_not_shown() {
    let place = Place::new();
    let right = place.settings(Duration::from_millis(500));
    let path = right.credentials_file.clone().unwrap();
    let text = fs::read_to_string(&path).unwrap().replace(SECRET_KEY, "a-wrong-key");
    fs::write(&path, text).unwrap();
    let stores = Stores::new(S3Settings { credentials_file: Some(path), ..right });
    let error = stores.bucket(&uri("job")).unwrap().read("a").unwrap_err().to_string();
    assert!(error.contains(&format!("cannot read s3://{BUCKET}/job/a")), "{error}");
    assert!(error.contains("the credentials of this process"), "{error}");
    assert!(!error.contains("a-wrong-key") && !error.contains(SECRET_KEY), "{error}");
    assert!(!format!("{stores:?}").contains("a-wrong-key"));
}

#[test]
fn a_password_in_the_url_of_the_store_is_refused_and_not_shown() {
    let endpoint = Some("http://user:a-password@127.0.0.1:9000".to_owned());
    let error = Stores::new(S3Settings { endpoint, ..S3Settings::default() }).bucket(&uri("job")).err();
    let error = error.unwrap().to_string();
    assert!(
        error.contains(&format!("cannot use the bucket {BUCKET}: the URL of the object store (s3.endpoint")),
        "{error}"
    );
    assert!(error.contains("must not have credentials in it") && !error.contains("a-password"), "{error}");
}
