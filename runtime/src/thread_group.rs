//! A group of threads that are waited for together, with a timeout.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use tidegate_protocol::{Error, Result};

/// Threads that run until what they wait for is closed.
pub(crate) struct ThreadGroup {
    /// Every thread holds a clone, and nothing is sent: when all clones are dropped, all threads have ended.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl Default for ThreadGroup {
    fn default() -> Self {
        let (alive, ended) = channel();
        Self { alive, ended }
    }
}

impl ThreadGroup {
    /// Starts a thread of the group.
    pub(crate) fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let alive = self.alive.clone();
        let run = move || {
            run();
            drop(alive);
        };
        let failed = |e| Error::environment(format!("cannot start the thread {name}")).caused_by(e);
        std::thread::Builder::new().name(name.clone()).spawn(run).map(drop).map_err(failed)
    }

    /// Waits until all threads have ended; false if some have not ended at the time `until`. Those are left running.
    pub(crate) fn wait(self, until: Instant) -> bool {
        drop(self.alive);
        let left = until.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_group_is_waited_for_until_its_last_thread_has_ended() {
        let (group, (end, until)) = (ThreadGroup::default(), channel::<()>());
        group.spawn("short".to_owned(), || {}).unwrap();
        group.spawn("long".to_owned(), move || assert!(until.recv().is_err())).unwrap();
        assert!(!group.wait(Instant::now()));
        let (group, (end_other, until)) = (ThreadGroup::default(), channel::<()>());
        group.spawn("long".to_owned(), move || assert!(until.recv().is_err())).unwrap();
        drop(end_other);
        assert!(group.wait(seconds(60)));
        drop(end);
    }

    #[test]
    fn a_thread_that_panics_has_ended() {
        let group = ThreadGroup::default();
        group.spawn("panics".to_owned(), || panic!("on purpose")).unwrap();
        assert!(group.wait(seconds(60)));
    }
}
