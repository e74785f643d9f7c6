//! What all threads of a job process share: the settings, the restored snapshot, the process's end of the link to the
//! driver.
//!
//! What the driver wants is known by its messages alone ([`Instructions`]), and what the threads have to say goes out as messages.
//! After an abort, be it the driver's or the process's own, no worker and no snapshot thread says anything more than that
//! it has failed and that it is done: an acknowledgement that comes later might be one of a barrier that was none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_protocol::{Attempt, Epoch, KeyGroups, Manifest, Slot};
use tidegate_snapshots::Snapshots;

use crate::clock::Clock;
use crate::dataflow::batch::BufferReturns;
use crate::dataflow::worker::Wakers;
use crate::link::{Command, Connection, Instructions, Report, ToDriver, ToProcess};
use crate::metrics::Metrics;
use crate::state::budget::Shares;
use crate::state::working_directory::WorkingDirectory;
use crate::stream::outline::Outline;
use crate::watch::Watch;
use tidegate_protocol::{Error, Result};

/// The numbers that a run is started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) key_groups: KeyGroups,
    /// Memory for keyed state of all workers, in bytes.
    pub(crate) memory: usize,
    /// Whether sources are read on as they grow, all of them.
    pub(crate) follow: bool,
    /// Whether batches between workers travel as bytes, as between processes, where memory would do.
    pub(crate) over_the_wire: bool,
}

impl Settings {
    /// What the memory for state is divided into.
    pub(crate) fn shares(&self) -> Shares {
        Shares::of(self.memory, self.workers)
    }
}

/// The parts of a job process that its threads share.
pub(crate) struct Process {
    pub(crate) settings: Settings,
    pub(crate) attempt: Attempt,
    /// The first epoch of this attempt; timestamps count from it.
    pub(crate) first_epoch: Epoch,
    pub(crate) restored: Option<Arc<Manifest>>,
    pub(crate) snapshots: Snapshots,
    /// Where running state stores are.
    pub(crate) working: WorkingDirectory,
    /// The prefix of each operator's keys in the state store.
    pub(crate) store_ids: BTreeMap<String, u16>,
    /// The dataflow that was checked before the start.
    pub(crate) outline: Outline,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) buffer_returns: Arc<BufferReturns>,
    pub(crate) wakers: Wakers,
    pub(crate) watch: Watch,
    /// What the driver has said; several only if the link takes the workers for several processes.
    instructions: Vec<Instructions>,
    /// The highest timestamp that any source of the process has come to; see [`crate::dataflow::source`].
    pub(crate) highest_tick: AtomicU64,
    aborted: AtomicBool,
    /// Messages that were not sent because the attempt was aborted.
    unsent: AtomicU64,
    /// Held while a message is sent and while the attempt is aborted, so that none is sent after that.
    driver: Mutex<Connection<ToDriver>>,
}

/// What a process is made of; see [`Process`] for the fields.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) attempt: Attempt,
    pub(crate) first_epoch: Epoch,
    pub(crate) restored: Option<Arc<Manifest>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) working: WorkingDirectory,
    pub(crate) store_ids: BTreeMap<String, u16>,
    pub(crate) outline: Outline,
    /// The partitions of each source, for every worker.
    pub(crate) assigned: BTreeMap<String, Vec<Vec<String>>>,
    /// For how many processes the workers are taken.
    pub(crate) processes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) driver: Connection<ToDriver>,
}

impl Process {
    pub(crate) fn new(parts: Parts) -> Self {
        let instructions = || Instructions::new(parts.attempt, parts.first_epoch, parts.assigned.clone());
        Self {
            instructions: (0..parts.processes).map(|_| instructions()).collect(),
            settings: parts.settings,
            attempt: parts.attempt,
            first_epoch: parts.first_epoch,
            restored: parts.restored,
            snapshots: parts.snapshots,
            working: parts.working,
            store_ids: parts.store_ids,
            outline: parts.outline,
            clock: parts.clock,
            metrics: parts.metrics,
            buffer_returns: Arc::default(),
            wakers: Wakers::default(),
            watch: Watch::default(),
            highest_tick: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            driver: Mutex::new(parts.driver),
        }
    }

    /// Takes messages of the driver to one of the processes for which the workers are taken. However many arrive
    /// together, the sources are woken once.
    pub(crate) fn receive(&self, process: usize, messages: Vec<ToProcess>) {
        let mut wake = false;
        for message in messages {
            match self.instructions[process].take(message) {
                Some(Command::Trigger { .. } | Command::Assigned { .. }) => wake = true,
                Some(Command::Abort) => self.abort(),
                Some(Command::StopReading | Command::Completed(_)) | None => {}
            }
        }
        if wake {
            self.wakers.wake();
        }
    }

    /// What the driver has told a worker.
    #[inline]
    pub(crate) fn instructions(&self, slot: Slot) -> &Instructions {
        &self.instructions[slot.0 as usize % self.instructions.len()]
    }

    /// Tells the driver something.
    pub(crate) fn report(&self, report: Report) {
        let driver = self.driver();
        if report.is_progress() && self.is_aborted() {
            self.unsent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        driver(ToDriver { attempt: self.attempt, report });
    }

    fn driver(&self) -> MutexGuard<'_, Connection<ToDriver>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the job with an error: nothing of the running epoch is published.
    pub(crate) fn fail(&self, error: Error) {
        self.report(Report::Failed(error));
        self.abort();
    }

    /// Makes the workers leave their loops without a barrier. From here on nothing is acknowledged any more.
    pub(crate) fn abort(&self) {
        {
            let _nobody_sends = self.driver();
            self.aborted.store(true, Ordering::Release);
        }
        self.wakers.wake();
    }

    /// True once workers are to leave their loops.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// The prefix of an operator's keys in the store.
    pub(crate) fn store_id(&self, uid: &str) -> Result<u16> {
        self.store_ids.get(uid).copied().ok_or_else(|| {
            Error::internal(format!("operator '{uid}' was not there when the job was checked"))
        })
    }
}

impl Process {
    /// The partitions of a source that were assigned to a worker, from the `seen`-th on.
    pub(crate) fn assigned(&self, source: &str, worker: usize, seen: usize) -> Vec<String> {
        self.instructions(Slot(worker as u32)).assigned(source, worker, seen)
    }

    /// The number of messages dropped so far: from the driver, repeated or of another attempt, and to it, after an abort.
    pub(crate) fn dropped(&self) -> u64 {
        self.instructions.iter().map(Instructions::dropped).sum::<u64>() + self.unsent.load(Ordering::Relaxed)
    }
}
