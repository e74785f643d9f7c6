//! A thread beside the command, which is stopped and waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tidegate_protocol::{Error, Result};

/// A thread that has a result. If nobody asks for it, it is to abandon what it does, and is waited for: topics can be deleted then.
pub(super) struct Background<T> {
    name: &'static str,
    thread: Option<JoinHandle<T>>,
    signals: Arc<Signals>,
}

/// What is asked of a thread.
#[derive(Default)]
pub(super) struct Signals {
    stop: AtomicBool,
    abandon: AtomicBool,
}

impl Signals {
    /// Whether it is to come to its end.
    pub(super) fn to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether nobody wants its result.
    pub(super) fn to_abandon(&self) -> bool {
        self.abandon.load(Ordering::Relaxed)
    }
}

impl<T: Send + 'static> Background<T> {
    /// Starts it.
    pub(super) fn start(
        name: &'static str,
        run: impl FnOnce(&Signals) -> T + Send + 'static,
    ) -> Result<Self> {
        let signals = Arc::<Signals>::default();
        let of_thread = signals.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&of_thread))?;
        Ok(Self { name, thread: Some(thread), signals })
    }
}

impl<T> Background<T> {
    /// Has it come to its end.
    pub(super) fn stop(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops it: its result.
    pub(super) fn result(mut self) -> Result<T> {
        self.stop();
        let result = self.thread.take().and_then(|thread| thread.join().ok());
        result.ok_or_else(|| Error::internal(format!("the thread {} has panicked", self.name)))
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.signals.abandon.store(true, Ordering::Relaxed);
        self.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
