//! How the progress of a run is shown: a progress line on a terminal, lines of the log elsewhere. Everything goes to
//! standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tidegate_protocol::Epoch;

use crate::local::Watcher;
use crate::metrics::Metrics;
use crate::metrics::descriptors;
use crate::shell::logging::ENGINE;
use crate::step::StepKind;
use tracing::Level;

/// Writes a line to standard error. The write may fail, because the reader is gone (`2>&1 | head`); that does not end the
/// job, as it would with `eprintln!`.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Standard error of the process.
pub(crate) struct Terminal {
    metrics: Arc<Metrics>,
    bar: Option<ProgressBar>,
    /// When rows were counted last, and how many had been read and written.
    last: (Instant, [u64; 2]),
    shown: bool,
}

impl Terminal {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { metrics, bar, last: (Instant::now(), [0; 2]), shown: false }
    }

    /// The line that is redrawn, if standard error is a terminal.
    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        self.bar.clone()
    }

    /// Leaves the terminal as it was.
    pub(crate) fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The rows that were read; and how many a second were read and written since they were counted last.
    fn count(&mut self, metrics: &Metrics) -> (u64, [f64; 2]) {
        let rows = [
            metrics.total(StepKind::Source, descriptors::RECORDS_IN),
            metrics.total(StepKind::Sink, descriptors::RECORDS_OUT),
        ];
        let now = Instant::now();
        let (at, before) = std::mem::replace(&mut self.last, (now, rows));
        let seconds = (now - at).as_secs_f64().max(1e-3);
        let rate = |i: usize| rows[i].saturating_sub(before[i]) as f64 / seconds;
        (rows[0], [rate(0), rate(1)])
    }

    fn line(&mut self, metrics: &Metrics, epoch: Epoch) -> String {
        self.shown = true;
        let (rows, [read, written]) = self.count(metrics);
        let watermark = metrics.least(descriptors::WATERMARK_MS).map_or("-".to_owned(), utc);
        // The size in bytes of what is in memory is not known before it is written.
        let state =
            metrics.whole(descriptors::CHECKPOINT_BYTES).map_or("-".to_owned(), |bytes| human(bytes) + "B");
        format!(
            "{} rows  {} rows/s  out {}/s  watermark {watermark}  epoch {epoch}  state {state}",
            human(rows as f64),
            human(read),
            human(written)
        )
    }
}

impl Watcher for Terminal {
    fn every(&self) -> Duration {
        Duration::from_millis(if self.bar.is_some() { 200 } else { 10_000 })
    }

    fn note(&mut self, level: Level, text: &str) {
        // A macro takes its level as a constant.
        match level {
            Level::WARN => tracing::warn!(target: ENGINE, "{text}"),
            _ => tracing::info!(target: ENGINE, "{text}"),
        }
        // The rate of the first line is measured from the last note before it, that of the start: rows of earlier runs are
        // counted by then.
        if !self.shown {
            self.count(&self.metrics.clone());
        }
    }

    fn progress(&mut self, metrics: &Metrics, epoch: Epoch) {
        let line = self.line(metrics, epoch);
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => tracing::info!(target: ENGINE, "{line}"),
        }
    }
}

/// A number as people read it: 1.25 M.
fn human(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// Milliseconds since the Unix epoch as a date and time of day; the number itself if it is beyond the calendar.
fn utc(ms: i64) -> String {
    let timestamp = Timestamp::from_millisecond(ms);
    timestamp.map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Step, StepKind};
    use tidegate_protocol::Slot;

    #[test]
    fn the_line_tells_rows_and_their_rate_watermark_epoch_and_state() {
        let metrics = Arc::new(Metrics::default());
        let rows =
            metrics.counter(&Step::new(StepKind::Source, "readings"), descriptors::RECORDS_IN, Slot(0));
        rows.add(1_250_000);
        let mut terminal = Terminal::new(metrics.clone());
        terminal.bar = None;
        terminal.note(Level::INFO, "attempt 2 goes on from epoch 7, with 1 worker");
        assert_eq!(
            terminal.line(&metrics, Epoch(0)),
            "1.25 M rows  0 rows/s  out 0/s  watermark -  epoch 0  state -"
        );
        metrics
            .gauge(&Step::new(StepKind::Window, "features"), descriptors::WATERMARK_MS, Slot(0))
            .set(1_700_000_000_000);
        metrics.set(descriptors::CHECKPOINT_BYTES, Some(Slot(0)), 2_000_000.0);
        metrics.set(descriptors::CHECKPOINT_BYTES, Some(Slot(1)), 1_500_000.0);
        terminal.last.0 -= Duration::from_secs(1);
        rows.add(500_000);
        metrics
            .counter(&Step::new(StepKind::Sink, "alerts"), descriptors::RECORDS_OUT, Slot(0))
            .add(20_000_000);
        let line = terminal.line(&metrics, Epoch(7));
        let written = line.split("  ").nth(2).and_then(|out| out.strip_prefix("out ")?.strip_suffix(" M/s"));
        assert!(written.and_then(|n| n.parse().ok()).is_some_and(|n| (10.0..=20.0).contains(&n)), "{line}");
        let rate = line.split("  ").nth(1).and_then(|rate| rate.strip_suffix(" k rows/s")).expect("a rate");
        assert!(rate.parse::<f64>().is_ok_and(|rate| (250.0..=500.0).contains(&rate)), "{line}");
        assert!(line.starts_with("1.75 M rows  "), "{line}");
        assert!(line.ends_with("  watermark 2023-11-14 22:13:20  epoch 7  state 3.50 MB"), "{line}");
    }

    #[test]
    fn the_rate_of_the_first_line_is_that_since_the_start_without_the_rows_of_earlier_runs() {
        let metrics = Arc::new(Metrics::default());
        let rows =
            metrics.counter(&Step::new(StepKind::Source, "readings"), descriptors::RECORDS_IN, Slot(0));
        let mut terminal = Terminal::new(metrics.clone());
        terminal.bar = None;
        rows.add(7_000_000);
        terminal.note(Level::INFO, "attempt 2 goes on from epoch 7, with 1 worker");
        rows.add(500_000);
        terminal.last.0 -= Duration::from_secs(1);
        let line = terminal.line(&metrics, Epoch(7));
        let rate = line.split("  ").nth(1).and_then(|rate| rate.strip_suffix(" k rows/s")).expect("a rate");
        assert!(rate.parse::<f64>().is_ok_and(|rate| (250.0..=500.0).contains(&rate)), "{line}");
        terminal.note(Level::INFO, "a note that is not the first");
        assert_eq!(terminal.last.1, [7_500_000, 0]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(-1000), "1969-12-31 23:59:59");
        assert_eq!(utc(i64::MAX), i64::MAX.to_string());
    }
}
