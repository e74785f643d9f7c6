//! A job whose driver and workers talk over a link that does whatever a network may do. `make test-hostile` runs all other
//! tests over it, too.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidegate::aggregates::Count;
use tidegate::testing::{TestJob, TestSource, VecSink};

use crate::checkpoints::{manifests, read};

const KEYS: u32 = 100;

/// The state files in a directory that no manifest names.
fn left_for_nothing(directory: &Path) -> Vec<String> {
    let named: BTreeSet<String> = manifests(directory)
        .iter()
        .flat_map(|manifest| read(manifest).store_files().map(|file| file.path.clone()).collect::<Vec<_>>())
        .collect();
    let there = fs::read_dir(directory.join("files")).unwrap();
    let there = there.map(|file| format!("files/{}", file.unwrap().file_name().to_string_lossy()));
    there.filter(|file| !named.contains(file)).collect()
}

#[test]
fn given_up_checkpoints_cost_no_record_and_leave_no_file() {
    let (source, out) = (TestSource::new(3), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let keyed = job.source("numbers", from.clone()).key_by_value(|n: &u32| n % KEYS);
        keyed.aggregate("count", Count).sink("out", to.clone());
        Ok(())
    });
    // Nothing is collected, so whatever no snapshot needs has been deleted because its epoch was aborted.
    let job = job.parallelism(3).retain(10_000).hostile_link(11);
    let running = job.start();
    let (mut rounds, given_up) =
        (0, || job.notes().iter().filter(|note| note.contains("was aborted")).count());
    while rounds < 5 || given_up() < 4 {
        for partition in 0..3 {
            source.extend(partition, (0..KEYS).map(|n| n + KEYS * rounds));
        }
        rounds += 1;
        running.checkpoint();
        assert!(rounds < 1_000, "no checkpoint is aborted");
    }
    running.stop().unwrap();
    assert_eq!(left_for_nothing(job.directory()), Vec::<String>::new());
    source.end();
    job.run().unwrap();
    let counts = (0..KEYS).flat_map(|key| (1..=3 * u64::from(rounds)).map(move |count| (key, count)));
    assert_eq!(out.sorted(), counts.collect::<Vec<_>>());
}
