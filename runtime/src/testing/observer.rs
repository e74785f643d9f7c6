//! What a test observes of a running job.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::{Epoch, Manifest};

use crate::job_process::description::Description;
use crate::local::Watcher;
use crate::metrics::Metrics;
use crate::shell::logging::prefix;
use tidegate_connector_api::Position;
use tracing::Level;

/// A test does not use the periodic progress.
const NEVER: Duration = Duration::from_secs(3600);

/// Partitions, and the position of an epoch in each.
pub(crate) type Unread = Vec<(String, Option<Position>)>;

/// The last published epoch and the end of a run, and the notes of all runs.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    state: Mutex<State>,
    changed: Condvar,
    /// How many want to know what the sources hold.
    asking: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    published: Epoch,
    /// What the sources hold beyond the published epoch, if anybody asks for that.
    unread: Unread,
    /// How the run has ended, if it has.
    ended: Option<String>,
    notes: Vec<String>,
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// A run begins.
    pub(crate) fn begin(&self) {
        self.change(|state| *state = State { notes: std::mem::take(&mut state.notes), ..State::default() });
    }

    /// The run is over.
    pub(crate) fn end(&self, how: String) {
        self.change(|state| state.ended = Some(how));
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.lock().notes.clone()
    }

    pub(crate) fn published(&self) -> Epoch {
        self.lock().published
    }

    /// Has the sources asked what they hold whenever an epoch is published, until what is returned is dropped.
    pub(crate) fn ask_for_unread(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::Relaxed);
        Asking(self)
    }

    /// Waits until this epoch or a later one is published. Returns that epoch and what is left to read, or why there is
    /// none.
    pub(crate) fn wait_for(&self, epoch: Epoch, until: Instant) -> Result<(Epoch, Unread), String> {
        let mut state = self.lock();
        while state.published < epoch {
            if let Some(how) = &state.ended {
                return Err(format!("the job is over: {how}"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("it took more than a minute".into());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok((state.published, state.unread.clone()))
    }
}

/// See [`Observed::ask_for_unread`].
pub(crate) struct Asking<'a>(&'a Observed);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The watcher that fills it in.
pub(crate) struct Observer(pub(crate) Arc<Observed>);

impl Watcher for Observer {
    fn every(&self) -> Duration {
        NEVER
    }

    fn note(&mut self, level: Level, text: &str) {
        self.0.change(|state| state.notes.push(format!("{}{text}", prefix(level))));
    }

    fn progress(&mut self, _: &Metrics, _: Epoch) {}

    fn published(&mut self, job: &Description, snapshot: &Manifest) {
        // The driver waits for the answer, so a source whose brokers are away would hold the job up.
        let is_asked = self.0.asking.load(Ordering::Relaxed) > 0;
        // A source that cannot say now what it holds is not waited for.
        let unread = if is_asked { job.unread(snapshot).unwrap_or_default() } else { Unread::new() };
        self.0.change(|state| (state.published, state.unread) = (snapshot.epoch, unread));
    }
}
