//! Files that are read at different speeds of event time stay near each other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidegate::Watermarks;
use tidegate::testing::{TestJob, VecSink};
use tidegate_connectors::FileLog;

/// A file, and an event time in ms.
type Row = (usize, i64);

/// The same 200 s in both files, with a row every 10 ms and every 100 ms.
const STEPS: [i64; 2] = [10, 100];
const UNTIL: i64 = 200_000;

fn write(directory: &Path) {
    for (number, step) in STEPS.into_iter().enumerate() {
        let lines: String = (0..UNTIL / step).map(|n| format!("[{number},{}]\n", n * step)).collect();
        fs::write(directory.join(format!("part-{number}.jsonl")), lines).unwrap();
    }
}

/// By how much the second file is ahead of the first one at most, as far as that has more.
fn most_ahead(follow: bool, workers: usize, drift: Duration) -> i64 {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    let (from, out) = (directory.path().to_owned(), VecSink::<Row>::new());
    let (to, most) = (out.clone(), Arc::new(AtomicI64::new(0)));
    let read = Arc::new([0, 0].map(AtomicI64::new));
    let seen = most.clone();
    let job = TestJob::new(move |job| {
        let (seen, read) = (seen.clone(), read.clone());
        let ahead = move |(file, at): &Row| {
            read[*file].store(*at, Ordering::SeqCst);
            let [first, second] = [0, 1].map(|file: usize| read[file].load(Ordering::SeqCst));
            if first < UNTIL - STEPS[0] {
                seen.fetch_max(second - first, Ordering::SeqCst);
            }
        };
        let rows = job.source("rows", FileLog::partitions(&from).follow(follow).json::<Row>());
        let marks = Watermarks::monotonous().max_drift(drift).accept_from(0);
        rows.event_time(|row| row.1, marks).inspect(ahead).sink("out", to.clone());
        Ok(())
    });
    let running = job.parallelism(workers).start();
    let rows = out.wait_for((UNTIL / STEPS[0] + UNTIL / STEPS[1]) as usize);
    assert_eq!(rows.len(), 22_000);
    running.stop().unwrap();
    most.load(Ordering::SeqCst)
}

#[test]
fn a_file_with_few_rows_for_an_hour_does_not_run_away() {
    // A batch of 256 rows, and one that the other file has read and not passed on yet.
    let bound = 20_000 + 2 * 256 * STEPS[1];
    for follow in [false, true] {
        for workers in [1, 2] {
            let most = most_ahead(follow, workers, Duration::from_secs(20));
            assert!(most <= bound, "{most} ms ahead, with {workers} workers, followed: {follow}");
        }
        let most = most_ahead(follow, 1, Duration::MAX);
        assert!(most > 2 * bound, "without a limit it is {most} ms ahead, followed: {follow}");
    }
}
