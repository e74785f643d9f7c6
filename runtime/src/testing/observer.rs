//! What a test learns of a job under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_protocol::Epoch;

use crate::alone::Watcher;
use crate::metrics::Metrics;

/// How often a test learns what was published.
const LOOK: Duration = Duration::from_millis(2);

/// The last published epoch and the end of a run, and what was said in all of them.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    published: Epoch,
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
        self.change(|state| (state.published, state.ended) = (Epoch(0), None));
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

    /// Waits until an epoch was published; the reason if it was not.
    pub(crate) fn wait_for(&self, epoch: Epoch, limit: Duration) -> Result<(), String> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.published < epoch {
            if let Some(how) = &state.ended {
                return Err(format!("the job is over: {how}"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("it took more than {} s", limit.as_secs()));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// The watcher that fills it in.
pub(crate) struct Observer(pub(crate) Arc<Observed>);

impl Watcher for Observer {
    fn every(&self) -> Duration {
        LOOK
    }

    fn note(&mut self, text: &str) {
        self.0.change(|state| state.notes.push(text.to_owned()));
    }

    fn progress(&mut self, _: &Metrics, epoch: Epoch) {
        if self.0.published() != epoch {
            self.0.change(|state| state.published = epoch);
        }
    }
}
