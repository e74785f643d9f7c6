//! A process's end of the link to the driver.
//!
//! The process knows what the driver has decided only by its messages ([`Instructions`]), and the threads report to the
//! driver by messages. After an abort, by the driver or by the process itself, workers and snapshot threads report only
//! that they have failed or ended: a later acknowledgement might be for a barrier that did not take place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_protocol::{Attempt, Epoch, Error, Slot};

use super::{Command, Connection, Instructions, Report, ToDriver, ToProcess};

/// The driver, as the threads of a process see it.
pub(crate) struct DriverHandle {
    attempt: Attempt,
    /// The instructions received from the driver; several only if the link treats the workers as several processes.
    instructions: Vec<Instructions>,
    aborted: AtomicBool,
    /// Messages that were not sent because the attempt was aborted.
    unsent: AtomicU64,
    /// Held while a message is sent and while the attempt is aborted, so that none is sent after that.
    connection: Mutex<Connection<ToDriver>>,
    /// Wakes the sources of the process when a new instruction has arrived.
    wake: Box<dyn Fn() + Send + Sync>,
}

/// What a process knows of the driver when an attempt starts.
pub(crate) struct Beginning {
    pub(crate) attempt: Attempt,
    pub(crate) first_epoch: Epoch,
    /// The partitions of each source, for every worker.
    pub(crate) assigned: BTreeMap<String, Vec<Vec<String>>>,
    /// The number of processes that the workers are treated as.
    pub(crate) processes: usize,
}

impl DriverHandle {
    pub(crate) fn new(
        beginning: Beginning,
        connection: Connection<ToDriver>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let Beginning { attempt, first_epoch, assigned, processes } = beginning;
        let instructions = |_| Instructions::new(attempt, first_epoch, assigned.clone());
        Self {
            attempt,
            instructions: (0..processes).map(instructions).collect(),
            aborted: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            connection: Mutex::new(connection),
            wake: Box::new(wake),
        }
    }

    /// Takes messages of the driver to one of the processes that the workers are treated as. However many arrive together,
    /// the sources are woken once.
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
            (self.wake)();
        }
    }

    /// The driver's instructions to a worker.
    #[inline]
    pub(crate) fn instructions(&self, slot: Slot) -> &Instructions {
        &self.instructions[slot.0 as usize % self.instructions.len()]
    }

    /// Reports something to the driver.
    pub(crate) fn report(&self, report: Report) {
        let connection = self.connection();
        if report.is_progress() && self.is_aborted() {
            self.unsent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        connection(ToDriver { attempt: self.attempt, report });
    }

    fn connection(&self) -> MutexGuard<'_, Connection<ToDriver>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the job with an error: nothing of the running epoch is published.
    pub(crate) fn fail(&self, error: Error) {
        self.report(Report::Failed(error));
        self.abort();
    }

    /// Makes the workers leave their loops without a barrier. From here on nothing is acknowledged any more.
    pub(crate) fn abort(&self) {
        {
            let _nobody_sends = self.connection();
            self.aborted.store(true, Ordering::Release);
        }
        (self.wake)();
    }

    /// True once workers are to leave their loops.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// The number of messages dropped so far: from the driver, repeated or of another attempt, and to it, after an abort.
    pub(crate) fn dropped(&self) -> u64 {
        self.instructions.iter().map(Instructions::dropped).sum::<u64>() + self.unsent.load(Ordering::Relaxed)
    }
}
