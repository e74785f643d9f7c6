//! What an attempt waits for, in words.

use std::collections::BTreeSet;

use tidegate_protocol::Slot;

use super::{AttemptRun, Process};
use crate::checkpoint::CheckpointPhase;
use crate::cluster::view::CheckpointView;
use crate::time::Time;

/// A checkpoint in flight that takes longer is named to whoever waits for it.
const LONG_MS: u64 = 1_000;

impl AttemptRun {
    /// What it waits for until it runs, as a sentence.
    pub(in crate::cluster) fn waits_for(&self) -> Option<String> {
        if self.is_running() {
            return None;
        }
        let names = |processes: Vec<&Process>| {
            let names: BTreeSet<String> = processes.iter().map(|p| p.taskmanager.to_string()).collect();
            names.into_iter().collect::<Vec<_>>().join(", ")
        };
        let silent: Vec<&Process> = self.processes.values().filter(|p| p.address.is_none()).collect();
        if !self.begun && !silent.is_empty() {
            return Some(format!("processes are being started on {}", names(silent)));
        }
        if !self.begun {
            return Some(
                "the output of the last snapshot is being published, and the sources list their partitions"
                    .into(),
            );
        }
        let is_ready = |slot: u32| self.ready.contains(&Slot(slot));
        let busy = |(first, p): &(&Slot, &Process)| !(first.0..first.0 + p.workers).all(is_ready);
        let busy = self.processes.iter().filter(busy).map(|(_, process)| process).collect();
        Some(format!("workers restore their state on {}", names(busy)))
    }

    /// Why its newest checkpoint was aborted, if it was.
    pub(in crate::cluster) fn setback(&self) -> Option<String> {
        let CheckpointView { epoch, failure, .. } = self.checkpoints.first()?;
        let reason = failure.as_ref()?;
        Some(format!("the checkpoint of epoch {epoch} was aborted: {reason}"))
    }

    /// The checkpoint in flight, if it takes long, and what it waits for.
    pub(in crate::cluster) fn long_checkpoint(&self, now: Time) -> Option<String> {
        let (epoch, triggered_at, missing) = self.control.in_flight_since()?;
        let ms = Some(now.since_ms(triggered_at)).filter(|ms| *ms >= LONG_MS)?;
        let phase = self.control.phase()?;
        let text = format!("the checkpoint of epoch {epoch} has been {phase} for {} s", ms / 1_000);
        if phase != CheckpointPhase::Pending {
            return Some(text);
        }
        let missing: Vec<String> = missing.iter().map(Slot::to_string).collect();
        Some(format!("{text}, without an answer of worker {}", missing.join(", ")))
    }
}
