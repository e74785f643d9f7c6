//! The format of a snapshot: what this build writes, and one of every version that it reads.
//!
//! If a test here fails, old snapshots may not be readable any more: raise `FORMAT_VERSION`, say what becomes of them, and
//! write new ones by `cargo test --release --workspace --locked --test engine -- --ignored write_the_golden_snapshot`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tidegate::aggregates::Count;
use tidegate::protocol::manifest::{FORMAT_VERSION, OLDEST_FORMAT_VERSION};
use tidegate::protocol::{Epoch, Manifest};
use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{BroadcastContext, BroadcastProcess, Result, Timer, Tumbling, Watermarks};

use crate::checkpoints::{copy_snapshot, manifests, read};
use crate::events::{FAR, ms};

/// Keeps something of every kind: a state, what was broadcast, timers of both times.
struct Keeper;

impl BroadcastProcess for Keeper {
    type Key = String;
    type In = i64;
    type Broadcast = i64;
    type State = Vec<i64>;
    type Shared = BTreeMap<i64, String>;
    type Out = (String, String, i64);
    type Side = ();

    fn on_broadcast(&mut self, rule: i64, shared: &mut BTreeMap<i64, String>) -> Result<()> {
        shared.insert(rule, format!("rule {rule}"));
        Ok(())
    }

    fn on_record(
        &mut self,
        n: i64,
        _: &BTreeMap<i64, String>,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        context.state.get_mut().push(n);
        context.timers.set(Timer::event(n + 1_000));
        context.timers.set(Timer::processing(FAR + n));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        shared: &BTreeMap<i64, String>,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        let kept = context.state.get().map_or(0, |numbers| numbers.iter().sum());
        let told = shared.values().cloned().collect::<Vec<_>>().join(", ");
        let key = context.key;
        context.out.emit((format!("{key} at {:?} {}", timer.domain, timer.at), told, kept));
        Ok(())
    }
}

struct Golden {
    numbers: TestSource<i64>,
    rules: TestSource<i64>,
    windows: VecSink<(String, i64, u64)>,
    kept: VecSink<(String, String, i64)>,
    job: TestJob,
}

fn golden() -> Golden {
    let (numbers, rules) = (TestSource::new(2).called("numbers"), TestSource::new(1).called("rules"));
    let (windows, kept) = (VecSink::named("windows"), VecSink::named("kept"));
    let (from, rules_from, windows_to, kept_to) =
        (numbers.clone(), rules.clone(), windows.clone(), kept.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone()).filter(|n| *n > 5).named("small");
        let numbers = numbers.event_time(|n| *n, Watermarks::monotonous()).named("time");
        let rules = job.source("rules", rules_from.clone());
        let keyed = || numbers.clone().key_by_value(|n| if n % 2 == 0 { "even" } else { "odd" }.to_owned());
        keyed().connect_broadcast(rules).process("keeper", Keeper).sink("kept", kept_to.clone());
        let counts = keyed().window(Tumbling::of(ms(10))).aggregate("counts", Count);
        counts.map(|w| (w.key, w.window.start, w.value)).sink("windows", windows_to.clone());
        Ok(())
    });
    let job = job.interval(ms(20)).named("golden").argument("limit", "5").max_parallelism(8);
    rules.extend(0, [1, 2]);
    numbers.extend(0, [3, 14, 28, 31]);
    numbers.extend(1, [25, 36]);
    Golden { numbers, rules, windows, kept, job }
}

/// Runs until all is read and part of a snapshot, and returns the newest manifest.
fn snapshot(golden: &Golden) -> (PathBuf, Manifest) {
    let running = golden.job.start();
    running.checkpoint();
    running.stop().unwrap();
    let path = manifests(golden.job.directory()).pop().expect("a manifest");
    let manifest = read(&path);
    (path, manifest)
}

/// A manifest with what differs from run to run made the same.
fn normalized(mut manifest: Manifest) -> String {
    (manifest.completed_at_ms, manifest.epoch, manifest.checkpoints) = (0, Epoch(0), 0);
    for slot in manifest.slots.values_mut() {
        slot.store.clear();
        slot.operators.values_mut().for_each(|operator| operator.staged.clear());
    }
    serde_json::to_string_pretty(&manifest).unwrap() + "\n"
}

fn stored(version: u32) -> PathBuf {
    PathBuf::from(format!("golden/snapshot-{version}"))
}

#[test]
fn a_manifest_has_the_format_of_its_version() {
    let now = normalized(snapshot(&golden()).1);
    assert_eq!(now, include_str!("golden/manifest.json"), "\n{now}");
}

#[test]
fn a_snapshot_of_every_version_is_gone_on_from() {
    (OLDEST_FORMAT_VERSION..=FORMAT_VERSION).for_each(goes_on_from);
}

fn goes_on_from(version: u32) {
    let Golden { numbers, rules, windows, kept, job } = golden();
    let copy = tempfile::tempdir().unwrap();
    copy_snapshot(manifests(&stored(version)).last().expect("a manifest"), copy.path());
    numbers.extend(0, [41]);
    numbers.end();
    rules.end();
    let summary = job.checkpoint_dir(copy.path()).parallelism(2).run().unwrap();
    assert_eq!((summary.rows_in, summary.dropped["small"], summary.restarts), (9, 1, 1));
    let window = |key: &str, start, count| (key.to_owned(), start, count);
    // The first windows were published by the run that wrote the snapshot.
    let mut rest = windows.sorted();
    rest.retain(|(_, start, _)| *start >= 30);
    assert_eq!(rest, [window("even", 30, 1), window("odd", 30, 1), window("odd", 40, 1)]);
    let timer = |key: &str, time: &str, at: i64, sum| {
        (format!("{key} at {time} {at}"), "rule 1, rule 2".to_owned(), sum)
    };
    let (even, odd) = ([14, 28, 36], [25, 31, 41]);
    let mut expected = Vec::new();
    for (key, numbers) in [("even", even), ("odd", odd)] {
        for n in numbers {
            expected.push(timer(key, "Event", n + 1_000, numbers.iter().sum()));
            expected.push(timer(key, "Processing", FAR + n, numbers.iter().sum()));
        }
    }
    expected.sort();
    assert_eq!(kept.sorted(), expected);
}

#[test]
#[ignore = "it writes what the other tests compare with"]
fn write_the_golden_snapshot() {
    let golden = golden();
    let (path, manifest) = snapshot(&golden);
    let stored = stored(FORMAT_VERSION);
    drop(fs::remove_dir_all(&stored));
    copy_snapshot(&path, &stored);
    fs::write(stored.with_file_name("manifest.json"), normalized(manifest)).unwrap();
}
