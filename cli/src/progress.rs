//! What a command waits for, on standard error: a line that is redrawn on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::say;

/// How often the sign that something goes on moves.
const TICK: Duration = Duration::from_millis(100);

/// Shows what a command waits for.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// What was said last, where standard error is not a terminal: what goes on, and why, without its numbers.
    said: (String, String),
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, said: Default::default() }
    }

    /// Shows what goes on, and why. The details change often: only a terminal shows them. Elsewhere a line is said again if
    /// something else goes on, or for another reason. A reason of which only numbers are new is not another one: it would
    /// be said every second while checkpoint after checkpoint is aborted.
    pub(crate) fn show(&mut self, what: &str, why: &str, details: &str) {
        if let Some(bar) = &self.bar {
            return bar.set_message(format!("{what}{why}{details}"));
        }
        let said = (what.to_owned(), why.replace(|c: char| c.is_ascii_digit() || " ,".contains(c), ""));
        if self.said != said {
            say(format_args!("{what}{why}"));
            self.said = said;
        }
    }

    /// The same, but only on a terminal.
    pub(crate) fn hint(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// The line that is redrawn, for another thread.
    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        self.bar.clone()
    }
}

/// Leaves the terminal as it was.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
