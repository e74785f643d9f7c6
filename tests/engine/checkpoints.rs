//! The checkpoint directory: its lock, its damage, its format, and what a finished job says.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::aggregates::Count;
use tidegate::protocol::{Epoch, Manifest};
use tidegate::testing::{TestJob, TestSource, VecSink};

struct Counting {
    source: TestSource<u32>,
    out: VecSink<(u32, u64)>,
    job: TestJob,
}

fn counting() -> Counting {
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let keyed = job.source("numbers", from.clone()).key_by_value(|n| n % 100);
        keyed.aggregate("count", Count).sink("out", to.clone());
        Ok(())
    });
    Counting { source, out, job }
}

/// The counts of `numbers`, as they come.
fn counts(numbers: u32) -> Vec<(u32, u64)> {
    let mut all: Vec<_> = (0..numbers).map(|n| (n % 100, u64::from(n / 100) + 1)).collect();
    all.sort_unstable();
    all
}

/// The manifests of a directory, the oldest first.
pub(crate) fn manifests(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_manifest = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("manifest-");
    let mut files: Vec<PathBuf> = files.filter(is_manifest).collect();
    files.sort();
    files
}

pub(crate) fn read(manifest: &Path) -> Manifest {
    Manifest::from_bytes(&fs::read(manifest).unwrap()).unwrap()
}

/// The state files that a manifest names.
fn files(manifest: &Path) -> Vec<String> {
    read(manifest).store_files().map(|f| f.path.clone()).collect()
}

/// Copies a manifest and the state files that it names to another directory.
pub(crate) fn copy_snapshot(manifest: &Path, to: &Path) {
    fs::create_dir_all(to.join("files")).unwrap();
    fs::copy(manifest, to.join(manifest.file_name().unwrap())).unwrap();
    for file in files(manifest) {
        fs::copy(manifest.with_file_name(&file), to.join(&file)).unwrap();
    }
}

/// Flips one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    // The file may be linked to another place: replace it, and leave that one alone.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs until snapshots with different contents are there, damages some of the newest, and runs to the end. `damage` gets
/// the manifests, the oldest first, and tells how many it has made useless.
fn after_damage(damage: impl FnOnce(&[PathBuf], &Path) -> usize) {
    let Counting { source, out, job } = counting();
    // Enough that the first is there still: snapshots of an idle moment share all their files.
    let job = job.retain(1_000);
    let running = job.start();
    source.extend(0, 0..1_000);
    running.checkpoint();
    source.extend(0, 1_000..2_000);
    running.checkpoint();
    running.kill();
    let all = manifests(job.directory());
    let epochs: Vec<Epoch> = all.iter().map(|manifest| read(manifest).epoch).collect();
    let damaged = damage(&all, job.directory());
    let (whole, damaged) = epochs.split_at(epochs.len() - damaged);
    source.extend(0, 2_000..3_000);
    source.end();
    let summary = job.run().unwrap();
    let said = job.notes().join("\n");
    for epoch in damaged {
        assert!(said.contains(&format!("the snapshot of epoch {epoch} is not used")), "{said}");
    }
    let (before, newest) = (whole[whole.len() - 1], damaged[damaged.len() - 1]);
    assert!(said.contains(&format!("falling back to the snapshot of epoch {before}")), "{said}");
    assert_eq!(summary.rows_in, 3_000);
    assert_eq!(out.sorted(), counts(3_000));
    assert!(out.epochs().keys().all(|epoch| *epoch <= before || *epoch > newest));
}

#[test]
fn a_flipped_bit_in_the_newest_manifest_falls_back() {
    after_damage(|manifests, _| {
        flip(&manifests[manifests.len() - 1]);
        1
    });
}

#[test]
fn a_torn_newest_manifest_falls_back() {
    after_damage(|manifests, _| {
        let newest = &manifests[manifests.len() - 1];
        let bytes = fs::read(newest).unwrap();
        fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
        1
    });
}

/// A file of the newest snapshot that the oldest does not need, and the number of snapshots that need it.
fn newer_file(manifests: &[PathBuf]) -> (String, usize) {
    let old = files(&manifests[0]);
    let newest = read(&manifests[manifests.len() - 1]);
    let own = newest.store_files().find(|f| f.bytes > 0 && !old.contains(&f.path));
    let file = own.expect("a file of its own").path.clone();
    let needing = manifests.iter().filter(|manifest| files(manifest).contains(&file)).count();
    (file, needing)
}

#[test]
fn a_flipped_bit_in_the_newest_state_falls_back() {
    after_damage(|manifests, dir| {
        let (file, needing) = newer_file(manifests);
        flip(&dir.join(file));
        needing
    });
}

#[test]
fn a_missing_state_file_falls_back() {
    after_damage(|manifests, dir| {
        let (file, needing) = newer_file(manifests);
        fs::remove_file(dir.join(file)).unwrap();
        needing
    });
}

#[test]
fn if_all_snapshots_are_damaged_the_job_does_not_start_anew_by_itself() {
    let Counting { source, out, job } = counting();
    let running = job.start();
    source.extend(0, 0..1_000);
    running.checkpoint();
    running.kill();
    let published = out.records().len();
    manifests(job.directory()).iter().for_each(|manifest| flip(manifest));
    source.end();
    let refused = job.run().unwrap_err().to_string();
    assert!(refused.contains("snapshots in") && refused.contains("are damaged"), "{refused}");
    assert_eq!(out.records().len(), published);
}

#[test]
fn a_manifest_of_another_version_is_refused_by_name() {
    let Counting { source, job, .. } = counting();
    source.extend(0, 0..10);
    source.end();
    job.run().unwrap();
    let path = manifests(job.directory()).pop().unwrap();
    let mut manifest = read(&path);
    manifest.format_version = 77;
    fs::write(&path, manifest.to_bytes()).unwrap();
    let refused = job.run().unwrap_err().to_string();
    assert!(refused.contains("format version 77") && refused.contains("reads versions 1 to 3"), "{refused}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let Counting { source, job, .. } = counting();
    let running = job.start();
    source.push(0, 1);
    running.checkpoint();
    let other = counting().job.checkpoint_dir(job.directory());
    let refused = other.run().unwrap_err().to_string();
    assert!(refused.contains("is in use by process") && refused.contains("--checkpoint-dir"), "{refused}");
    running.checkpoint();
    running.stop().unwrap();
}

#[test]
fn a_finished_job_says_so_and_whether_its_input_has_grown() {
    let Counting { source, out, job } = counting();
    source.extend(0, 0..500);
    source.end();
    let first = job.run().unwrap();
    let again = job.run().unwrap();
    assert!(again.finished && again.checkpoints > 0);
    assert_eq!(tidegate::Summary { seconds: 0.0, ..again }, tidegate::Summary { seconds: 0.0, ..first });
    let said = job.notes().join("\n");
    assert!(said.contains("has finished already") && !said.contains("grown"), "{said}");
    source.push(0, 7);
    source.add_partition();
    job.run().unwrap();
    let said = job.notes().join("\n");
    assert!(said.contains("partition-0 (longer), partition-1 (new)"), "{said}");
    assert_eq!(out.sorted(), counts(500));
}

#[test]
fn only_so_many_snapshots_are_kept_and_only_their_files() {
    let Counting { source, job, .. } = counting();
    let job = job.retain(2);
    let running = job.start();
    for round in 0..5 {
        source.extend(0, round * 100..(round + 1) * 100);
        running.checkpoint();
    }
    running.kill();
    let kept = manifests(job.directory());
    assert_eq!(kept.len(), 2);
    source.end();
    job.run().unwrap();
    let needed: Vec<PathBuf> = manifests(job.directory())
        .iter()
        .flat_map(|manifest| files(manifest))
        .map(|file| job.directory().join(file))
        .collect();
    let there = fs::read_dir(job.directory().join("files")).unwrap();
    there.for_each(|file| assert!(needed.contains(&file.unwrap().path())));
}

/// The state files of the newest snapshot.
fn newest_files(dir: &Path) -> Vec<String> {
    files(manifests(dir).last().unwrap())
}

#[test]
fn a_snapshot_without_changes_has_the_files_of_the_one_before() {
    let Counting { source, out, job } = counting();
    let running = job.start();
    source.extend(0, 0..1_000);
    running.checkpoint();
    // What is known of one epoch's completion is known at the next barrier.
    running.checkpoint();
    let first = newest_files(job.directory());
    assert!(!first.is_empty());
    for _ in 0..5 {
        running.checkpoint();
    }
    assert_eq!(newest_files(job.directory()), first);
    source.extend(0, 1_000..2_000);
    running.checkpoint();
    let second = newest_files(job.directory());
    assert_ne!(second, first);
    running.kill();
    let running = job.start();
    for _ in 0..5 {
        running.checkpoint();
    }
    assert_eq!(newest_files(job.directory()), second);
    running.kill();
    source.extend(0, 2_000..3_000);
    source.end();
    job.parallelism(2).run().unwrap();
    assert_eq!(out.sorted(), counts(3_000));
}

#[test]
fn a_snapshot_shares_the_files_of_what_has_not_changed() {
    use std::os::unix::fs::MetadataExt;
    let Counting { source, job, .. } = counting();
    let running = job.start();
    source.extend(0, 0..1_000);
    running.checkpoint();
    // Its completion is known to the next one but one.
    running.checkpoint();
    let first = newest_files(job.directory());
    source.push(0, 7);
    running.checkpoint();
    let second = newest_files(job.directory());
    assert_ne!(first, second);
    let shared: Vec<_> = first.iter().filter(|f| f.ends_with(".sst") && second.contains(f)).collect();
    assert!(!shared.is_empty(), "{first:?}, {second:?}");
    for file in shared {
        let links = fs::metadata(job.directory().join(file)).unwrap().nlink();
        assert!(links > 1, "{file} is a copy of the running store's file");
    }
    running.kill();
}

#[test]
fn a_copy_of_one_snapshot_is_enough_to_go_on() {
    let Counting { source, out, job } = counting();
    let running = job.start();
    source.extend(0, 0..1_000);
    running.checkpoint();
    source.extend(0, 1_000..2_000);
    running.checkpoint();
    running.stop().unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_snapshot(manifests(job.directory()).last().unwrap(), copy.path());
    source.extend(0, 2_000..3_000);
    source.end();
    let summary = job.checkpoint_dir(copy.path()).parallelism(2).run().unwrap();
    assert_eq!(summary.rows_in, 3_000);
    assert_eq!(out.sorted(), counts(3_000));
}

#[test]
fn a_stop_publishes_all_that_was_read_and_keeps_where_it_was() {
    let (source, out, sums) = (TestSource::new(1), VecSink::new(), VecSink::named("sums"));
    let (from, to, sums_to) = (source.clone(), out.clone(), sums.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone());
        numbers.clone().sink("out", to.clone());
        let timed = numbers.event_time(|n: &i64| *n, tidegate::Watermarks::monotonous());
        let windows = timed.key_by_value(|_| 0).window(tidegate::Tumbling::of(crate::events::ms(1_000)));
        windows.aggregate("counts", Count).map(|w| (w.window.start, w.value)).sink("sums", sums_to.clone());
        Ok(())
    });
    let job = job.no_interval();
    let running = job.start();
    source.extend(0, 0..1_500);
    source.wait_until_read();
    running.stop().unwrap();
    assert_eq!(out.sorted(), (0..1_500).collect::<Vec<_>>());
    assert_eq!(sums.sorted(), [(0, 1_000)], "the second window stays open");
    source.extend(0, 1_500..1_600);
    source.end();
    job.parallelism(2).run().unwrap();
    assert_eq!(out.sorted(), (0..1_600).collect::<Vec<_>>());
    assert_eq!(sums.sorted(), [(0, 1_000), (1_000, 600)]);
}

#[test]
fn epochs_and_attempts_only_grow_and_every_epoch_publishes_once() {
    let Counting { source, out, job } = counting();
    for attempt in 1..=4u32 {
        let running = job.start();
        source.extend(0, (attempt - 1) * 1_000..attempt * 1_000);
        let epoch = running.checkpoint();
        running.kill();
        let newest = read(manifests(job.directory()).last().unwrap());
        assert_eq!(newest.attempt.0, attempt);
        assert!(newest.epoch >= epoch);
    }
    source.end();
    assert_eq!(job.run().unwrap().restarts, 4);
    assert_eq!(out.sorted(), counts(4_000));
}
