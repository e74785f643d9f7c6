//! Who watches a run: a terminal, or a test.

use std::time::Duration;

use tidegate_protocol::{Epoch, Manifest};
use tracing::Level;

use crate::job_process::description::Description;
use crate::metrics::Metrics;

/// Receives the notes and the progress of a run.
pub(crate) trait Watcher {
    /// How often [`Watcher::progress`] wants to be called.
    fn every(&self) -> Duration;
    /// Something that a user should know, or be warned of.
    fn note(&mut self, level: Level, text: &str);
    /// The progress so far.
    fn progress(&mut self, metrics: &Metrics, epoch: Epoch);
    /// A snapshot of this run is complete and its output published.
    fn published(&mut self, job: &Description, snapshot: &Manifest) {
        let _ = (job, snapshot);
    }
}
