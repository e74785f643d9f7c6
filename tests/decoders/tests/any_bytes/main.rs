//! Every decoder over its seeds and over mutations of them: no panic, what was decoded is encoded as it was, and memory is
//! taken in proportion to the bytes. The same for coverage-guided inputs: `make fuzz`.
//!
//! Seeds are in `fuzz/seeds`, a folder for every target: what the encoders write (`UPDATE_GOLDENFILES=1` writes those files
//! anew), and inputs that have found a defect.

mod counting;
mod mutation;

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use counting::Counting;
use mutation::Mutations;
use tidegate_decoders::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Mutations of each target: a few seconds for all of them.
const MUTATIONS: usize = 30_000;
/// The most bytes of memory that a decoder may take at a time, for every byte that it is given, and besides. A short JSON
/// array of numbers takes 32 bytes an element, while it grows three times that; sequences of announced length get at most
/// 1 MiB at first.
const MEMORY_PER_BYTE: usize = 256;
const MEMORY: usize = 4 << 20;

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds")).join(target.name)
}

/// The files of a target, by name.
fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder(target)).into_iter().flatten().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect()
}

/// Runs a decoder; says what is wrong, if something is.
fn run(target: &Target, bytes: &[u8]) -> Result<(), String> {
    let before = counting::begin();
    let ended = catch_unwind(|| (target.run)(bytes));
    let taken = counting::most_since(before);
    if let Err(panic) = ended {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        return Err(format!("panics: {}", text.unwrap_or_default()));
    }
    let allowed = MEMORY + MEMORY_PER_BYTE * bytes.len();
    if taken > allowed { Err(format!("takes {taken} bytes of memory, more than {allowed}")) } else { Ok(()) }
}

fn check(target: &Target, what: &str, bytes: &[u8]) {
    if let Err(wrong) = run(target, bytes) {
        let name = target.name;
        panic!(
            "the decoder '{name}' {wrong}; the input, {what}, for a file in fuzz/seeds/{name}: {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn the_seeds_are_what_the_encoders_write() {
    for target in &TARGETS {
        for (name, bytes) in (target.seeds)() {
            let path = folder(target).join(name);
            if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
                fs::create_dir_all(folder(target)).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let there = fs::read(&path).unwrap_or_default();
            assert!(
                there == bytes,
                "{} is not what is written now; UPDATE_GOLDENFILES=1 writes it anew",
                path.display()
            );
        }
    }
}

#[test]
fn seeds_are_decoded() {
    for target in &TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{} has no seeds", target.name);
        corpus.iter().for_each(|(name, bytes)| check(target, name, bytes));
    }
}

#[test]
fn mutated_seeds_are_decoded_or_refused() {
    for target in &TARGETS {
        let corpus: Vec<_> = corpus(target).into_values().collect();
        for (number, bytes) in Mutations::of(&corpus).take(MUTATIONS).enumerate() {
            check(target, &format!("mutation {number}"), &bytes);
        }
    }
}

#[test]
fn what_a_decoder_takes_is_counted() {
    let greedy =
        Target { name: "greedy", run: |_| drop(std::hint::black_box(vec![1u8; 64 << 20])), seeds: Vec::new };
    assert!(run(&greedy, b"x").unwrap_err().starts_with("takes 6"));
    let panics = Target { name: "panics", run: |_| panic!("no"), seeds: Vec::new };
    assert_eq!(run(&panics, b"x"), Err("panics: no".to_owned()));
}
