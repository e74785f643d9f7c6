//! Asks followed sources for new partitions. Every source has a thread of its own: it may take long to answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tidegate_protocol::Result;

use super::description::partitions;
use crate::api::job::Listed;
use crate::link::{DriverHandle, Report};
use crate::metrics::Metrics;
use crate::thread_group::ThreadGroup;

/// How often a source is asked.
const EVERY: Duration = Duration::from_secs(1);

/// The threads, as long as the attempt goes on.
#[derive(Default)]
pub(super) struct Discovery {
    /// Dropped when the threads are to end.
    stop: Vec<Sender<()>>,
    threads: ThreadGroup,
}

impl Discovery {
    /// Starts the threads of those sources that are followed. Threads of a run hold its metrics.
    pub(super) fn start(
        sources: &[(String, Arc<dyn Listed>)],
        driver: &Arc<DriverHandle>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self> {
        let mut this = Self::default();
        for (uid, source) in sources.iter().filter(|(_, source)| !source.bounded()).cloned() {
            let (stop, stopped) = channel();
            let (driver, metrics) = (driver.clone(), metrics.clone());
            let run = move || {
                discover(&uid, &*source, &driver, &stopped);
                drop(metrics);
            };
            this.threads.spawn("discovery".to_owned(), run)?;
            this.stop.push(stop);
        }
        Ok(this)
    }

    /// Ends the threads, and waits for them as long as this.
    pub(super) fn close(self, until: Instant) {
        drop(self.stop);
        self.threads.wait(until);
    }
}

fn discover(uid: &str, source: &dyn Listed, driver: &DriverHandle, stopped: &Receiver<()>) {
    while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        match partitions(uid, source) {
            Ok(names) => driver.report(Report::Partitions { source: uid.to_owned(), names }),
            Err(error) => return driver.fail(error),
        }
    }
}
