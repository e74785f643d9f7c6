//! Watermark alignment: a partition whose watermark is too far ahead of the others of its source is not read until they have
//! caught up. Otherwise a job that reads a backlog keeps windows and timers for all the event time between the fastest
//! partition and the slowest.
//!
//! Every worker notes the least watermark of its partitions that hold others back ([`LeastWatermarks`]); the least of all
//! workers and the greatest drift that the job allows give the limit up to which partitions are read ([`Drift`]). Which
//! partitions hold others back is up to the source: those that are known to have more to read. One that was read to its end
//! might wait for years for its next record.
//!
//! None of this changes results, so none of it is in a snapshot, and workers may know different limits. What one knows of the
//! others is never too high for long: a watermark only rises, so what was reported before is a lower bound. It falls where a
//! partition has something to read again, which is reported at once.
//!
//! Within a process the watermarks are in memory. Between processes they are messages ([`super::peers`]), and not for every
//! record: a worker reports its watermark once it has come on by a part of the drift. So the slowest partition of all is never
//! too far ahead of what its worker knows, and is always read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::peers::PeerMessage;
use super::process::SharedMemory;

/// A worker reports its least watermark once that has come on by this part of the greatest drift.
const REPORT_PARTS: i64 = 8;

/// Nothing is known of a partition's event time, or of a worker: it may be the slowest.
const UNKNOWN: i64 = i64::MIN;
/// No partition holds others back.
const NONE: i64 = i64::MAX;

/// The least watermark of a source's partitions, worker by worker, as far as a process knows them.
pub(crate) struct LeastWatermarks {
    of_workers: Vec<AtomicI64>,
    /// The number of workers of this process that read nothing, because all that they could read is too far ahead.
    waiting: AtomicUsize,
}

impl LeastWatermarks {
    fn new(workers: usize) -> Arc<Self> {
        let of_workers = (0..workers).map(|_| AtomicI64::new(UNKNOWN)).collect();
        Arc::new(Self { of_workers, waiting: AtomicUsize::new(0) })
    }

    /// Notes what a worker has reported; true if a worker of this process waits for it.
    pub(crate) fn reported(&self, worker: usize, least: i64) -> bool {
        if let Some(of_worker) = self.of_workers.get(worker) {
            of_worker.store(least, Ordering::Release);
        }
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// The least of all workers but this one.
    fn of_others(&self, worker: usize) -> i64 {
        let others = self.of_workers.iter().enumerate().filter(|(other, _)| *other != worker);
        others.map(|(_, least)| least.load(Ordering::Acquire)).min().unwrap_or(NONE)
    }
}

/// The least watermarks of all sources of a process, for the messages of other processes.
#[derive(Default)]
pub(crate) struct Drifts(Mutex<HashMap<usize, Arc<LeastWatermarks>>>);

impl Drifts {
    /// Those of the source that the operator chain `chain` reads; the same for all workers of the process.
    pub(crate) fn of(&self, chain: usize, workers: usize) -> Arc<LeastWatermarks> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(chain).or_insert_with(|| LeastWatermarks::new(workers)).clone()
    }
}

/// What a worker knows of how far it may read the partitions of a source.
pub(crate) struct Drift {
    /// The greatest drift, in milliseconds.
    max: i64,
    worker: usize,
    known: Arc<LeastWatermarks>,
    /// What this worker has reported to the others.
    reported: i64,
    /// The least watermark of all partitions that hold others back, and the watermark up to which partitions are read.
    least: i64,
    limit: i64,
    is_waiting: bool,
}

impl Drift {
    /// The view of a worker, with the greatest drift that the job allows.
    pub(crate) fn new(max: i64, worker: usize, known: Arc<LeastWatermarks>) -> Self {
        Self {
            max,
            worker,
            known,
            reported: UNKNOWN,
            least: UNKNOWN,
            limit: limit(UNKNOWN, max),
            is_waiting: false,
        }
    }

    /// True if a partition with this watermark is too far ahead to be read.
    #[inline]
    pub(crate) fn is_too_far(&self, watermark: i64) -> bool {
        watermark > self.limit
    }

    /// By how much a watermark is ahead of the slowest partition, if both are known and any partition is waited for.
    pub(crate) fn of(&self, watermark: i64) -> Option<i64> {
        let is_known = |time: i64| time != UNKNOWN && time != NONE;
        (is_known(watermark) && is_known(self.least)).then(|| watermark.saturating_sub(self.least).max(0))
    }

    /// Takes the least watermark of the worker's own partitions that hold others back, if there are any, and learns that of the
    /// others. Returns what is to be reported to the others, if anything.
    pub(crate) fn update(&mut self, own: Option<i64>) -> Option<i64> {
        let own = own.unwrap_or(NONE);
        self.least = own.min(self.known.of_others(self.worker));
        self.limit = limit(self.least, self.max);
        is_news(self.reported, own, self.max).then(|| {
            self.reported = own;
            own
        })
    }

    /// Reports to the other workers, of this process and of others.
    pub(crate) fn report(&self, least: i64, shared: &SharedMemory, chain: usize) {
        shared.note_least(&self.known, self.worker, least);
        let (chain, worker) = (chain as u32, self.worker as u32);
        shared.peers.tell_all(PeerMessage::LeastWatermark { chain, worker, least });
    }

    /// The worker reads nothing as long as it is too far ahead, or reads again.
    pub(crate) fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting != is_waiting {
            self.is_waiting = is_waiting;
            match is_waiting {
                true => self.known.waiting.fetch_add(1, Ordering::AcqRel),
                false => self.known.waiting.fetch_sub(1, Ordering::AcqRel),
            };
        }
    }
}

/// The watermark up to which partitions are read.
fn limit(least: i64, max: i64) -> i64 {
    if least == NONE { i64::MAX } else { least.saturating_add(max) }
}

/// True if the others have to know that the least watermark of a worker is now another one.
fn is_news(reported: i64, now: i64, max: i64) -> bool {
    let is_step = reported == UNKNOWN || now == NONE || now < reported;
    now != reported && (is_step || now.saturating_sub(reported) >= max / REPORT_PARTS)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A partition: how far each of its records takes event time on, how many were read, and whether it has more. One that
    /// has no more at the moment may have again.
    struct Partition {
        steps: Vec<i64>,
        read: usize,
        time: i64,
        quiet: bool,
    }

    impl Partition {
        fn has_ended(&self) -> bool {
            self.read == self.steps.len()
        }

        fn holds(&self) -> bool {
            !self.has_ended() && !self.quiet
        }

        fn read(&mut self) {
            let step = self.steps[self.read];
            self.time = if self.time == UNKNOWN { step } else { self.time + step };
            self.read += 1;
        }
    }

    fn least(partitions: &[Partition]) -> Option<i64> {
        partitions.iter().filter(|partition| partition.holds()).map(|partition| partition.time).min()
    }

    /// Workers, each a process of its own, and what they have reported and the others have not received yet.
    struct World {
        max: i64,
        workers: Vec<(Drift, Vec<Partition>)>,
        on_the_way: Vec<Vec<VecDeque<i64>>>,
    }

    impl World {
        fn new(max: i64, partitions: Vec<Vec<Vec<i64>>>) -> Self {
            let count = partitions.len();
            let worker = |(number, partitions): (usize, Vec<Vec<i64>>)| {
                let open = |steps| Partition { steps, read: 0, time: UNKNOWN, quiet: false };
                let drift = Drift::new(max, number, LeastWatermarks::new(count));
                (drift, partitions.into_iter().map(open).collect())
            };
            Self {
                max,
                workers: partitions.into_iter().enumerate().map(worker).collect(),
                on_the_way: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
            }
        }

        fn deliver(&mut self, from: usize, to: usize) {
            if let Some(least) = self.on_the_way[from][to].pop_front() {
                self.workers[to].0.known.reported(from, least);
            }
        }

        fn update(&mut self, worker: usize) {
            let (drift, partitions) = &mut self.workers[worker];
            if let Some(reported) = drift.update(least(partitions)) {
                self.on_the_way[worker].iter_mut().for_each(|to| to.push_back(reported));
            }
        }

        /// Reads a record of a partition, unless it is too far ahead; true if one was read.
        fn turn(&mut self, worker: usize, partition: usize) -> bool {
            self.update(worker);
            let all: Vec<_> = self.workers.iter().filter_map(|(_, partitions)| least(partitions)).collect();
            let on_the_way = &self.on_the_way;
            let have_all_arrived = |to: usize| on_the_way.iter().all(|from| from[to].is_empty());
            let is_current = have_all_arrived(worker);
            let (drift, partitions) = &mut self.workers[worker];
            let partition = &mut partitions[partition];
            if !partition.holds() || drift.is_too_far(partition.time) {
                return false;
            }
            let slowest = all.into_iter().min().unwrap_or(partition.time);
            if is_current && partition.time != UNKNOWN {
                let is_within = slowest != UNKNOWN && partition.time - slowest <= self.max;
                assert!(
                    is_within,
                    "a partition at {} is read, and the slowest is at {slowest}",
                    partition.time
                );
            }
            partition.read();
            self.update(worker);
            true
        }

        fn set_quiet(&mut self, worker: usize, partition: usize, quiet: bool) {
            self.workers[worker].1[partition].quiet = quiet;
            self.update(worker);
        }

        /// Once all messages have arrived there is always a partition that can be read, until all have ended.
        fn settle(&mut self) {
            let count = self.workers.len();
            let places: Vec<(usize, usize)> = (0..count)
                .flat_map(|worker| {
                    (0..self.workers[worker].1.len()).map(move |partition| (worker, partition))
                })
                .collect();
            places.iter().for_each(|&(worker, partition)| self.set_quiet(worker, partition, false));
            while self.workers.iter().any(|(_, partitions)| least(partitions).is_some()) {
                (0..count).for_each(|worker| self.update(worker));
                for from in 0..count {
                    for to in 0..count {
                        while !self.on_the_way[from][to].is_empty() {
                            self.deliver(from, to);
                        }
                    }
                }
                let read = places.iter().filter(|&&(worker, partition)| self.turn(worker, partition)).count();
                assert!(read > 0, "every partition waits for another one");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Happens {
        Turn(usize, usize),
        Deliver(usize, usize),
        Quiet(usize, usize, bool),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let places = || (0usize..4, 0usize..4);
        prop_oneof![
            4 => places().prop_map(|(worker, partition)| Happens::Turn(worker, partition)),
            3 => places().prop_map(|(from, to)| Happens::Deliver(from, to)),
            1 => (places(), any::<bool>())
                .prop_map(|((worker, partition), quiet)| Happens::Quiet(worker, partition, quiet)),
        ]
    }

    proptest! {
        #[test]
        fn no_partition_runs_away_and_there_is_always_one_to_read(
            partitions in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(0i64..50, 0..30), 0..4),
                1..4,
            ),
            max in prop_oneof![Just(0i64), 1i64..200],
            script in proptest::collection::vec(happens(), 0..400),
        ) {
            let mut world = World::new(max, partitions);
            let count = world.workers.len();
            for step in script {
                match step {
                    Happens::Turn(worker, partition) => {
                        let worker = worker % count;
                        if partition < world.workers[worker].1.len() {
                            world.turn(worker, partition);
                        }
                    }
                    Happens::Deliver(from, to) => world.deliver(from % count, to % count),
                    Happens::Quiet(worker, partition, quiet) => {
                        let worker = worker % count;
                        if partition < world.workers[worker].1.len() {
                            world.set_quiet(worker, partition, quiet);
                        }
                    }
                }
            }
            world.settle();
        }
    }

    #[test]
    fn a_worker_that_waits_is_woken_by_what_others_tell() {
        let known = LeastWatermarks::new(2);
        let mut drift = Drift::new(10, 0, known.clone());
        assert!(!known.reported(1, 5));
        drift.set_waiting(true);
        assert!(known.reported(1, 6));
        drift.set_waiting(true);
        drift.set_waiting(false);
        assert!(!known.reported(1, 7) && !known.reported(9, 7), "there is no such worker");
        assert_eq!((drift.update(Some(3)), drift.of(8)), (Some(3), Some(5)));
        assert_eq!((drift.is_too_far(13), drift.is_too_far(14)), (false, true));
    }

    #[test]
    fn others_are_told_of_every_eighth_of_the_drift_and_of_what_goes_back() {
        let known = LeastWatermarks::new(2);
        let mut drift = Drift::new(80, 0, known);
        let reported =
            [Some(0), Some(9), Some(10), Some(19), Some(4), None, None, Some(5)].map(|own| drift.update(own));
        assert_eq!(reported, [Some(0), None, Some(10), None, Some(4), Some(NONE), None, Some(5)]);
    }
}
