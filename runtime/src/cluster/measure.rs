//! The metrics of a worker's part of a snapshot: its size, and the time from the trigger until it was written.
//!
//! A job that runs alone has them from its driver; on a cluster the driver is on another host, and every process measures
//! its own workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidegate_protocol::Epoch;

use crate::link::{Command, Report};
use crate::metrics::{Metrics, descriptors};

/// Follows what the process is told and reports.
#[derive(Clone)]
pub(super) struct Measure {
    metrics: Arc<Metrics>,
    triggered: Arc<Mutex<Option<(Epoch, Instant)>>>,
}

impl Measure {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), triggered: Arc::default() }
    }

    /// A command has come.
    pub(super) fn told(&self, command: &Command) {
        let mut triggered = self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Command::Trigger { epoch, .. } = command
            && triggered.is_none_or(|(before, _)| before < *epoch)
        {
            *triggered = Some((*epoch, Instant::now()));
        }
    }

    /// A report is about to be sent.
    pub(super) fn reports(&self, report: &Report) {
        let Report::Acked { slot, epoch, part } = report else { return };
        let bytes: u64 = part.store.values().map(|file| file.bytes).sum();
        self.metrics.set(descriptors::CHECKPOINT_BYTES, Some(*slot), bytes as f64);
        let triggered = *self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = triggered.filter(|(triggered, _)| triggered == epoch) {
            let seconds = at.elapsed().as_secs_f64();
            self.metrics.set(descriptors::CHECKPOINT_WORKER_SECONDS, Some(*slot), seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::Slot;

    use super::*;

    #[test]
    fn the_time_is_that_since_the_first_trigger_of_the_epoch() {
        let metrics = Arc::new(Metrics::default());
        let measure = Measure::new(&metrics);
        let acked = |epoch| Report::Acked { slot: Slot(3), epoch: Epoch(epoch), part: Box::default() };
        measure.reports(&acked(1));
        assert_eq!(metrics.whole(descriptors::CHECKPOINT_WORKER_SECONDS), None, "the trigger is not known");
        measure.told(&Command::Trigger { epoch: Epoch(2), last: false });
        measure.reports(&acked(2));
        assert!(metrics.whole(descriptors::CHECKPOINT_WORKER_SECONDS).is_some_and(|seconds| seconds < 10.0));
        assert!(metrics.render("j").contains("checkpoint_bytes{job=\"j\",worker=\"3\"} 0\n"));
    }
}
