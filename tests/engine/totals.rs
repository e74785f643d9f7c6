//! The totals that a user reads are exact, however often the job was killed.

use tidegate::testing::{TestJob, TestSource, VecSink};
use tidegate::{OnError, Tumbling, Watermarks};

use crate::events::{Event, Sums, fired, ms};

/// In blocks of ten: a malformed entry, a number that is filtered out, a late record, and seven that count.
fn block(source: &TestSource<Event>, block: i64) {
    let (partition, at) = (block as usize % 2, 1_000 + block * 10);
    source.push_malformed(partition, "?");
    source.push(partition, (1, at, -1));
    source.push(partition, (2, at - 900, 1));
    source.extend(partition, (3..10).map(|key| (key, at, 1)));
}

#[test]
fn totals_are_exact_across_crashes_and_rescaling() {
    let (source, out) = (TestSource::new(2), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let mut job = TestJob::new(move |job| {
        job.source("events", from.clone())
            .on_error(OnError::Skip)
            .filter(|e: &Event| e.2 >= 0)
            .named("negative")
            .event_time(|e| e.1, Watermarks::bounded(ms(100)))
            .key_by(|e| &e.0)
            .window(Tumbling::of(ms(10)))
            .aggregate("sums", Sums)
            .map(fired)
            .sink("out", to.clone());
        Ok(())
    });
    let mut next = 0;
    // Far enough for the late records to be late from here on.
    let far = 50;
    for workers in [1, 2, 3, 1, 2] {
        job = job.parallelism(workers);
        let running = job.start();
        (next..next + far).for_each(|n| block(&source, n));
        running.checkpoint();
        (next + far..next + 2 * far).for_each(|n| block(&source, n));
        source.wait_until_read();
        running.kill();
        next += 2 * far;
    }
    source.end();
    let summary = job.run().unwrap();
    let blocks = next as u64;
    assert_eq!((summary.rows_in, summary.malformed), (10 * blocks, blocks));
    assert_eq!(summary.dropped["negative"], blocks);
    assert_eq!(summary.late + out.records().iter().filter(|f| f.1 == 2).map(|f| f.2).sum::<u64>(), blocks);
    assert!(summary.late > blocks / 2, "only {} of {blocks} were late", summary.late);
    let counted: u64 = out.records().iter().filter(|f| f.1 != 2).map(|f| f.2).sum();
    assert_eq!((counted, summary.rows_out), (7 * blocks, out.records().len() as u64));
    assert_eq!((summary.restarts, summary.finished), (5, true));
}
