//! A thread beside the command, which is told to stop and waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tidegate_protocol::{Error, Result};

/// A thread that has a result. If nobody asks for it, it is told to abandon what it does, and is waited for: topics can be deleted then.
pub(super) struct Background<T> {
    name: &'static str,
    thread: Option<JoinHandle<T>>,
    told: Arc<Told>,
}

/// What a thread was told.
#[derive(Default)]
pub(super) struct Told {
    stop: AtomicBool,
    abandon: AtomicBool,
}

impl Told {
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
    pub(super) fn start(name: &'static str, run: impl FnOnce(&Told) -> T + Send + 'static) -> Result<Self> {
        let told = Arc::<Told>::default();
        let of_thread = told.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&of_thread))?;
        Ok(Self { name, thread: Some(thread), told })
    }
}

impl<T> Background<T> {
    /// Tells it to come to its end.
    pub(super) fn stop(&self) {
        self.told.stop.store(true, Ordering::Relaxed);
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
        self.told.abandon.store(true, Ordering::Relaxed);
        self.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
