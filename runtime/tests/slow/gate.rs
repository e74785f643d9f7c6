//! What keeps user code waiting until the test has seen enough.

use std::sync::{Arc, Condvar, Mutex};

/// Something that waits until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_open: bool,
    /// Somebody waits, or has.
    is_reached: bool,
}

impl Gate {
    /// Waits until it is open.
    pub(crate) fn wait(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.is_reached = true;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.is_open).unwrap());
    }

    pub(crate) fn wait_at_50(&self, n: u32) {
        if n == 50 {
            self.wait();
        }
    }

    /// Waits until somebody waits.
    pub(crate) fn wait_until_reached(&self) {
        let (state, changed) = &*self.0;
        drop(changed.wait_while(state.lock().unwrap(), |state| !state.is_reached).unwrap());
    }

    pub(crate) fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().is_open = true;
        changed.notify_all();
    }
}
