//! A source that does not come back when it is asked for its partitions.

use tidegate::Result;
use tidegate::connector::{Position, Source, SourceReader};
use tidegate::testing::{TestJob, TestSource, VecSink};

use crate::gate::Gate;

/// A source that is not listed again, while it is read, before a gate opens.
#[derive(Clone)]
struct SlowToList {
    source: TestSource<u64>,
    gate: Gate,
}

impl Source for SlowToList {
    type Item = u64;

    fn uri(&self) -> Result<String> {
        Ok("slow to list".to_owned())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        // Others ask too: the start, and the test itself, what there is still to be read.
        if std::thread::current().name() == Some("discovery") {
            self.gate.wait();
        }
        self.source.partitions()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<u64>>> {
        self.source.reader()
    }

    fn bounded(&self) -> bool {
        self.source.bounded()
    }

    fn follow(&mut self) {}

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        self.source.has_more(partition, position)
    }
}

#[test]
fn a_list_of_partitions_that_does_not_come_holds_nobody_up() {
    let slow = SlowToList { source: TestSource::followed(1), gate: Gate::default() };
    let (other, out) = (TestSource::followed(1), VecSink::new());
    let (from_slow, from_other, to) = (slow.clone(), other.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let slow = job.source("slow", from_slow.clone());
        slow.union(job.source("other", from_other.clone())).sink("out", to.clone());
        Ok(())
    });
    let running = job.start();
    slow.gate.wait_until_reached();
    // The job goes on: records of both sources are published, and new partitions of the other one are found.
    slow.source.push(0, 1);
    other.add_partition();
    other.push(1, 2);
    out.wait_for(2);
    slow.gate.open();
    running.stop().unwrap();
    assert_eq!(out.sorted(), [1, 2]);
}
