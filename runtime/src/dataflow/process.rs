//! What the threads of a job process share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::batch::BufferReturns;
use super::wakers::Wakers;
use crate::activity::ActivityRegistry;
use crate::attempt::{AttemptSetup, ProcessWorkers};
use crate::clock::Clock;
use crate::link::{Beginning, Connection, DriverHandle, ToDriver};
use crate::metrics::Metrics;

/// A process of a job: some of its workers, their end of the link to the driver, and what they share in memory.
pub(crate) struct Process {
    pub(crate) setup: AttemptSetup,
    pub(crate) workers: ProcessWorkers,
    pub(crate) driver: Arc<DriverHandle>,
    pub(crate) shared: SharedMemory,
    pub(crate) activities: ActivityRegistry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What the workers of one process exchange through memory.
#[derive(Default)]
pub(crate) struct SharedMemory {
    pub(crate) buffer_returns: Arc<BufferReturns>,
    pub(crate) wakers: Arc<Wakers>,
    /// The highest timestamp that any source of the process has reached; see [`super::source`].
    pub(crate) highest_tick: AtomicU64,
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
        Self { setup, workers, driver, shared, activities: ActivityRegistry::default(), clock, metrics }
    }
}
