//! Asks followed sources for partitions that have turned up, on a thread of its own: a source may take long to answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tidegate_protocol::Result;

use super::description::partitions;
use super::mailbox::Event;
use crate::api::job::Listed;
use crate::thread_group::ThreadGroup;

/// How often sources are asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long the thread may take to come to its end.
const LEAVE: Duration = Duration::from_secs(5);

/// The thread, as long as the attempt goes on.
pub(super) struct Discovery {
    stop: Option<Sender<()>>,
    threads: Option<ThreadGroup>,
}

impl Discovery {
    /// Starts the thread, if any of the sources is followed.
    pub(super) fn start(sources: &[(String, Arc<dyn Listed>)], events: Sender<Event>) -> Result<Self> {
        let followed: Vec<_> = sources.iter().filter(|(_, source)| !source.bounded()).cloned().collect();
        let (threads, (stop, stopped)) = (ThreadGroup::default(), channel());
        if !followed.is_empty() {
            threads.spawn("discovery".to_owned(), move || discover(&followed, &events, &stopped))?;
        }
        Ok(Self { stop: Some(stop), threads: Some(threads) })
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(threads) = self.threads.take() {
            threads.wait(LEAVE);
        }
    }
}

fn discover(sources: &[(String, Arc<dyn Listed>)], events: &Sender<Event>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        for (uid, source) in sources {
            let event = match partitions(uid, &**source) {
                Ok(names) => Event::Partitions { source: uid.clone(), names },
                Err(error) => Event::Failed(error),
            };
            let has_failed = matches!(event, Event::Failed(_));
            if events.send(event).is_err() || has_failed {
                return;
            }
        }
    }
}
