//! How fast rows are written.

use std::time::{Duration, Instant};

/// With a rate, rows are appended and flushed this often.
pub(crate) const PACE: Duration = Duration::from_millis(20);

/// Says how many rows should have been written by now.
pub(crate) struct Pace {
    rate: Option<f64>,
    start: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<f64>) -> Pace {
        Pace { rate, start: Instant::now() }
    }

    /// With a rate, waits for the next beat. Without, a batch at a time, so that progress can be shown.
    pub(crate) fn due(&self, written: u64) -> u64 {
        let Some(rate) = self.rate else { return written + 65_536 };
        std::thread::sleep(PACE);
        rows_in(self.start.elapsed(), rate)
    }
}

/// The number of rows to be written in this time. It is counted from the start, so a delayed write is made up for by the
/// next.
pub(crate) fn rows_in(time: Duration, rate: f64) -> u64 {
    (time.as_secs_f64() * rate) as u64
}
