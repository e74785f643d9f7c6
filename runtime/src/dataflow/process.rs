//! What the threads of a job process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::batch::BufferReturns;
use super::drift::{Drifts, LeastWatermarks};
use super::flow::Flows;
use super::peers::{PeerMessage, Peers};
use super::timestamp::Timestamp;
use super::wakers::Wakers;
use crate::activity::ActivityRegistry;
use crate::attempt::{AttemptSetup, ProcessWorkers};
use crate::checkpoint::committers::ReadPositions;
use crate::checkpoint::readiness::Readiness;
use crate::checkpoint::staged_outputs::StagedOutputs;
use crate::clock::Clock;
use crate::link::{Beginning, Connection, DriverHandle, ToDriver};
use crate::metrics::Metrics;

/// A process of a job: some of its workers, their end of the link to the driver, and what they share in memory.
pub(crate) struct Process {
    pub(crate) setup: AttemptSetup,
    pub(crate) workers: ProcessWorkers,
    pub(crate) driver: Arc<DriverHandle>,
    /// What its workers have staged, for its publishers.
    pub(crate) outputs: Arc<StagedOutputs>,
    /// How far they have read, for those who commit that somewhere.
    pub(crate) read: Arc<ReadPositions>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) shared: SharedMemory,
    pub(crate) activities: ActivityRegistry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the workers of one process exchange through memory, and what they know of those of other processes.
#[derive(Default)]
pub(crate) struct SharedMemory {
    pub(crate) buffer_returns: Arc<BufferReturns>,
    pub(crate) wakers: Arc<Wakers>,
    /// The highest timestamp that any source is known to have reached; see [`super::pacing`].
    highest_tick: AtomicU64,
    pub(crate) flows: Flows,
    /// How far the partitions of every source are.
    pub(crate) drifts: Drifts,
    /// The other processes of the attempt.
    pub(crate) peers: Peers,
}

impl SharedMemory {
    /// The highest timestamp that any source is known to have reached.
    pub(crate) fn highest_tick(&self) -> Timestamp {
        self.highest_tick.load(Ordering::Acquire)
    }

    /// A source of this process has reached a timestamp.
    pub(crate) fn reached(&self, tick: Timestamp) {
        self.highest_tick.fetch_max(tick, Ordering::AcqRel);
    }

    /// A source cannot go on: one that waits for input may be the one that holds back the frontier, here or in another
    /// process.
    pub(crate) fn is_held_up(&self) {
        self.wakers.wake_others();
        self.peers.tell_all(PeerMessage::Tick(self.highest_tick()));
    }

    /// A source of another process has reached a timestamp and cannot go on.
    pub(crate) fn follow(&self, tick: Timestamp) {
        self.reached(tick);
        self.wakers.wake();
    }

    /// A worker, of this process or another one, has told how far its partitions of a source are.
    pub(crate) fn note_least(&self, known: &LeastWatermarks, worker: usize, least: i64) {
        if known.reported(worker, least) {
            self.wakers.wake();
        }
    }
}

impl Process {
    pub(crate) fn new(
        setup: AttemptSetup,
        workers: ProcessWorkers,
        beginning: Beginning,
        connection: Connection<ToDriver>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = SharedMemory::default();
        let wakers = shared.wakers.clone();
        let driver = Arc::new(DriverHandle::new(beginning, connection, move || wakers.wake()));
        let (outputs, activities) = (Arc::default(), ActivityRegistry::default());
        let (read, readiness) = (Arc::default(), Arc::default());
        Self { setup, workers, driver, outputs, read, readiness, shared, activities, clock, metrics }
    }
}
