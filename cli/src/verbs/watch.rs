//! Waiting for something on the cluster, by asking again and again.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_protocol::{ErrorKind, Result};
use tidegate_rest::jobs::JobDetails;

use crate::progress::Progress;

/// The time between two requests.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long the jobmanager may be away: it is restarted in less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the jobmanager again and again, and shows what is waited for.
pub(super) struct Watch {
    pub(super) progress: Progress,
    /// Since when the jobmanager does not answer.
    away: Option<Instant>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { progress: Progress::new(), away: None }
    }

    /// Asks until there is an answer. A jobmanager that cannot be reached for a while is waited for.
    ///
    /// # Errors
    /// If the jobmanager refuses the request, or cannot be reached for too long.
    pub(super) fn until<T>(&mut self, mut ask: impl FnMut(&mut Progress) -> Result<Option<T>>) -> Result<T> {
        loop {
            match ask(&mut self.progress) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => self.away = None,
                Err(error) if error.kind() == ErrorKind::Environment && self.is_patient() => {
                    self.progress.show("waiting for the jobmanager, which does not answer", "", "");
                }
                Err(error) => return Err(error),
            }
            thread::sleep(INTERVAL);
        }
    }

    fn is_patient(&mut self) -> bool {
        self.away.get_or_insert_with(Instant::now).elapsed() < PATIENCE
    }
}

/// Shows what a job is doing, and what it waits for.
pub(super) fn show_job(progress: &mut Progress, job: &JobDetails) {
    let summary = &job.summary;
    let mut what = format!("{} {}", summary.name, summary.state);
    if summary.attempt > 0 {
        what += &format!(", attempt {}", summary.attempt);
    }
    let mut why = job.waits_for.as_ref().map_or_else(String::new, |what| format!(": {what}"));
    // Failures of older attempts are history: the job runs again, or has run since.
    let failure = job.failure.as_ref().filter(|failure| failure.attempt == summary.attempt);
    if let Some(failure) = failure {
        why += &format!("; attempt {} has failed: {}", failure.attempt, failure.cause);
    }
    let epoch = job.checkpoints.last_epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    progress.show(&what, &why, &epoch);
}
