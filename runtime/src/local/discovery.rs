//! Asks followed sources for new partitions. Every source has a thread of its own: it may take long to answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tidegate_protocol::Result;

use super::description::partitions;
use super::mailbox::Event;
use crate::api::job::Listed;
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
        events: &Sender<Event>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self> {
        let mut this = Self::default();
        for (uid, source) in sources.iter().filter(|(_, source)| !source.bounded()).cloned() {
            let (stop, stopped) = channel();
            let (events, metrics) = (events.clone(), metrics.clone());
            let run = move || {
                discover(&uid, &*source, &events, &stopped);
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

fn discover(uid: &str, source: &dyn Listed, events: &Sender<Event>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let event = match partitions(uid, source) {
            Ok(names) => Event::Partitions { source: uid.to_owned(), names },
            Err(error) => Event::Failed(error),
        };
        let has_failed = matches!(event, Event::Failed(_));
        if events.send(event).is_err() || has_failed {
            return;
        }
    }
}
