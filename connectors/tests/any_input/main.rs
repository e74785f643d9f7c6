//! From bytes to sink: files of any bytes go through whole jobs, and every line of them is accounted for exactly once.

#[path = "../../../runtime/tests/any_input/check.rs"]
mod check;
mod job;
mod lines;
mod oracle;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::testing::TestJob;

use job::Shape;
use lines::Line;

/// How the first run of a job ends.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// With its input.
    Nowhere,
    /// By a stop, so many milliseconds after its start.
    Stop(u64),
    /// By a crash.
    Kill(u64),
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![Just(Cut::Nowhere), (0u64..25).prop_map(Cut::Stop), (0u64..25).prop_map(Cut::Kill)]
}

/// A case: the files, what the job is like, and the parallelism of its first run and of the one after it.
#[derive(Clone, Debug)]
struct Case {
    files: Vec<(Vec<Line>, bool)>,
    shape: Shape,
    cut: Cut,
    workers: [usize; 2],
    over_the_wire: bool,
    /// Bytes for keyed state: enough, or none, so that all of it goes to the store.
    memory: usize,
}

prop_compose! {
    fn case()(
        files in prop::collection::vec((lines::lines(), any::<bool>()), 1..4),
        shape in job::shape(),
        cut in cut(),
        workers in [1usize..3, 1usize..3],
        over_the_wire: bool,
        memory in prop_oneof![Just(64 << 20), Just(0)],
    ) -> Case {
        Case { files, shape, cut, workers, over_the_wire, memory }
    }
}

#[test]
fn every_line_is_accounted_for_once() {
    check::holds("every_line_is_accounted_for_once", 48, case(), |case| {
        let place = tempfile::tempdir().unwrap();
        let files = lines::write(&place.path().join("in"), &case.files);
        run(&case, place.path());
        oracle::check(&files, &case.shape, place.path())
    });
}

fn run(case: &Case, place: &Path) {
    let (slow, shape, root) = (job::slowness(), case.shape, place.to_owned());
    let in_job = slow.clone();
    let job = TestJob::new(move |job| {
        job::build(job, &root, shape, in_job.clone());
        Ok(())
    });
    let job =
        job.interval(Duration::from_millis(4)).memory(case.memory).checkpoint_dir(place.join("checkpoints"));
    let mut job = if case.over_the_wire { job.over_the_wire() } else { job };
    if let Cut::Stop(after) | Cut::Kill(after) = case.cut {
        slow.set(true);
        job = job.parallelism(case.workers[0]);
        let running = job.start();
        std::thread::sleep(Duration::from_millis(after));
        match case.cut {
            Cut::Kill(_) => running.kill(),
            _ => drop(running.stop().expect("no input ends the job")),
        }
        slow.set(false);
    }
    let summary = job.parallelism(case.workers[1]).run().expect("no input ends the job");
    assert!(summary.finished);
}
