//! A checkpoint directory with any damage: the job goes on from an older snapshot, or it says what is wrong and does
//! nothing. It never panics, and what it puts out is never wrong.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use tidegate::aggregates::Count;
use tidegate::protocol::Manifest;
use tidegate::testing::{TestJob, TestSource, VecSink};

use crate::check;

/// What happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// These bytes stand in place of as many others.
    Overwritten(Index, Vec<u8>),
    Inserted(Index, Vec<u8>),
    CutTo(Index),
    /// Its content is that of another file.
    Replaced(Index),
    /// There is another like it, by this name, beside the manifests.
    CopiedTo(String),
    Removed,
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    let number = prop_oneof![
        any::<u64>().prop_map(|n| format!("{n:011}")),
        Just(u64::MAX.to_string()),
        "[+-]?[0-9]{0,25}"
    ];
    let name =
        ("(manifest-|damaged-|)", number, "(\\.json|)").prop_map(|(kind, n, end)| format!("{kind}{n}{end}"));
    prop_oneof![
        (any::<Index>(), bytes()).prop_map(|(at, bytes)| Damage::Overwritten(at, bytes)),
        (any::<Index>(), bytes()).prop_map(|(at, bytes)| Damage::Inserted(at, bytes)),
        any::<Index>().prop_map(Damage::CutTo),
        any::<Index>().prop_map(Damage::Replaced),
        name.prop_map(Damage::CopiedTo),
        Just(Damage::Removed),
    ]
}

/// The manifests and notes of a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The files of the state in the newest snapshot that can be read; most others are not looked at by anybody any more.
fn state_files(root: &Path) -> Vec<PathBuf> {
    let manifests =
        files(root).into_iter().filter_map(|path| Manifest::from_bytes(&fs::read(path).unwrap()).ok());
    let newest = manifests.max_by_key(|manifest| manifest.epoch);
    let paths = newest.iter().flat_map(Manifest::store_files).map(|file| root.join(&file.path));
    paths.filter(|path| path.exists()).collect()
}

fn inflict(root: &Path, is_state: bool, file: &Index, damage: &Damage) {
    let files = if is_state { state_files(root) } else { files(root) };
    if files.is_empty() {
        return;
    }
    let path = &files[file.index(files.len())];
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::Overwritten(at, with) => {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + with.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        Damage::Inserted(at, with) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, with.iter().copied());
        }
        Damage::CutTo(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Damage::Replaced(by) => bytes = fs::read(&files[by.index(files.len())]).unwrap(),
        Damage::CopiedTo(name) if name.is_empty() => {}
        Damage::CopiedTo(name) => return fs::write(root.join(name), bytes).unwrap(),
        Damage::Removed => return fs::remove_file(path).unwrap(),
    }
    // It may be linked to another place, which is left alone.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_directory_is_survived_or_refused() {
    let cases = (prop::collection::vec((any::<bool>(), any::<Index>(), damage()), 1..4), 1usize..3);
    check::holds("a_damaged_directory_is_survived_or_refused", 60, cases, |(damages, workers)| {
        let (source, out) = (TestSource::new(1), VecSink::new());
        let (from, to) = (source.clone(), out.clone());
        let job = TestJob::new(move |job| {
            let keyed = job.source("numbers", from.clone()).key_by_value(|n: &u64| n % 50);
            keyed.aggregate("count", Count).sink("out", to.clone());
            Ok(())
        });
        let job = job.interval(std::time::Duration::from_millis(5)).retain(4);
        let running = job.start();
        for part in 0..3u64 {
            source.extend(0, part * 200..(part + 1) * 200);
            running.checkpoint();
        }
        running.kill();
        for (is_state, file, damage) in &damages {
            inflict(job.directory(), *is_state, file, damage);
        }
        source.extend(0, 600..800u64);
        source.end();
        let mut expected: Vec<(u64, u64)> = (0..800).map(|n| (n % 50, n / 50 + 1)).collect();
        expected.sort_unstable();
        match job.parallelism(workers).run() {
            Ok(_) => prop_assert_eq!(out.sorted(), expected),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!text.contains("panicked") && !text.contains("defect of Tidegate"), "{}", text);
                // What was there before may have been taken back; nothing is there twice, or wrong.
                let out = out.sorted();
                prop_assert!(out.windows(2).all(|pair| pair[0] != pair[1]), "twice, after: {}", text);
                prop_assert!(out.iter().all(|count| expected.contains(count)), "wrong, after: {}", text);
            }
        }
        Ok(())
    });
}
