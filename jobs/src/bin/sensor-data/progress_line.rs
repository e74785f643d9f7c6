//! A progress line on the terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// A line that is written over, on a terminal only.
pub(crate) struct ProgressLine {
    rows: u64,
    on: bool,
    start: Instant,
    shown: Instant,
}

impl ProgressLine {
    pub(crate) fn new(rows: u64, quiet: bool) -> ProgressLine {
        let now = Instant::now();
        ProgressLine { rows, on: !quiet && io::stderr().is_terminal(), start: now, shown: now }
    }

    pub(crate) fn show(&mut self, written: u64) {
        if !self.on || self.shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.shown = Instant::now();
        let percent = 100 * written / self.rows;
        let rate = written as f64 / self.start.elapsed().as_secs_f64();
        eprint!("\r\x1b[K{percent:3} %  {written} of {} rows  {rate:.0} rows/s", self.rows);
    }

    pub(crate) fn clear(&self) {
        if self.on {
            eprint!("\r\x1b[K");
        }
    }
}
