//! Ctrl-C: the first one ends the verification and has it cleaned up, the second one ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tidegate_protocol::Result;

/// The exit code after Ctrl-C, as shells have it.
pub(super) const INTERRUPTED: u8 = 128 + SIGINT as u8;

/// Whether the user has asked for the end.
#[derive(Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on, signals are noted.
    pub(super) fn watch() -> Result<Self> {
        let requested = Arc::<AtomicBool>::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), requested.clone())?;
            flag::register(signal, requested.clone())?;
        }
        Ok(Self(requested))
    }

    pub(super) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
