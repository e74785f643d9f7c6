//! A process's end of the link to the driver.
//!
//! The process knows what the driver has decided only by its messages ([`Instructions`]), and the threads report to the
//! driver by messages. After an abort, by the driver or by the process itself, workers and snapshot threads report only
//! that they have failed or ended: a later acknowledgement might be for a barrier that did not take place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tidegate_protocol::{Attempt, Epoch, Error, Result};

use super::{Command, Connection, Instructions, Report, ToDriver, ToProcess};

/// The driver, as the threads of a process see it.
pub(crate) struct DriverHandle {
    attempt: Attempt,
    instructions: Instructions,
    aborted: AtomicBool,
    /// Messages that were not sent because the attempt was aborted.
    unsent: AtomicU64,
    /// Held while a message is sent and while the attempt is aborted, so that none is sent after that.
    connection: Mutex<Connection<ToDriver>>,
    /// Wakes the sources of the process when a new instruction has arrived.
    wake: Box<dyn Fn() + Send + Sync>,
    /// Publishes what the workers staged for an epoch; set once the process has publishers.
    publish: OnceLock<Box<dyn Fn(Epoch) + Send + Sync>>,
}

/// What a process knows of the driver when an attempt starts.
pub(crate) struct Beginning {
    pub(crate) attempt: Attempt,
    pub(crate) first_epoch: Epoch,
    /// The partitions of each source, for every worker.
    pub(crate) assigned: BTreeMap<String, Vec<Vec<String>>>,
    /// Whether the job is draining: sources read to the present end of their input.
    pub(crate) drains: bool,
}

impl DriverHandle {
    pub(crate) fn new(
        beginning: Beginning,
        connection: Connection<ToDriver>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let attempt = beginning.attempt;
        Self {
            attempt,
            instructions: Instructions::new(beginning),
            aborted: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            connection: Mutex::new(connection),
            wake: Box::new(wake),
            publish: OnceLock::new(),
        }
    }

    /// Sets what publishes the output of the workers. It reports every worker that is done by [`Report::Published`].
    ///
    /// # Errors
    /// If it is set already.
    pub(crate) fn set_publish(&self, publish: impl Fn(Epoch) + Send + Sync + 'static) -> Result<()> {
        let twice = |_| Error::internal("a process has its publishers twice");
        self.publish.set(Box::new(publish)).map_err(twice)
    }

    /// Takes messages of the driver. However many arrive together, the sources are woken once.
    pub(crate) fn receive(&self, messages: Vec<ToProcess>) {
        let mut wake = false;
        for message in messages {
            match self.instructions.take(message) {
                Some(Command::Trigger { .. } | Command::Assigned { .. }) => wake = true,
                Some(Command::Publish(epoch)) => {
                    self.publish.get().into_iter().for_each(|publish| publish(epoch))
                }
                Some(Command::Abort) => self.abort(),
                Some(Command::StopReading | Command::Completed(_)) | None => {}
            }
        }
        if wake {
            (self.wake)();
        }
    }

    /// The driver's instructions to the workers.
    #[inline]
    pub(crate) fn instructions(&self) -> &Instructions {
        &self.instructions
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
        self.instructions.dropped() + self.unsent.load(Ordering::Relaxed)
    }
}
