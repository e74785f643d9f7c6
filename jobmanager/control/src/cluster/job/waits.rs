//! What a job is doing and what it waits for, in words.

use tidegate_protocol::JobState;

use super::{Job, Phase};
use crate::cluster::attempt::AttemptRun;
use crate::cluster::ledger::JobFacts;
use crate::cluster::record::Ending;
use crate::time::Time;

impl Job {
    /// What it waits for, as a sentence.
    pub(in crate::cluster) fn waits_for(
        &self,
        cx_now: Time,
        facts: &JobFacts,
        free: impl FnOnce() -> u32,
    ) -> Option<String> {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Adopting { .. } if self.store_is_away.is_some() => {
                let why = self.store_is_away.as_ref();
                why.map(|(why, _)| format!("the checkpoint store does not answer: {why}"))
            }
            Phase::Waiting { due } if *due > cx_now => {
                Some(format!("the next attempt starts in {:.1} s", due.since_ms(cx_now) as f64 / 1_000.0))
            }
            Phase::Waiting { .. } if self.damaged.is_some() && self.damaged == facts.newest() => {
                Some("the damaged snapshot is being set aside".to_owned())
            }
            Phase::Waiting { .. } if self.reading => {
                Some("the manifest of the last snapshot is being read".to_owned())
            }
            Phase::Waiting { .. } => {
                let (needed, free) = (facts.parallelism, free());
                Some(format!(
                    "slots: {needed} needed, {free} free; start another taskmanager, or rescale the job"
                ))
            }
            Phase::Adopting { .. } => {
                Some("its taskmanagers are to connect to the jobmanager again".to_owned())
            }
            Phase::Proposed(_) => Some("the start of the attempt is being recorded".to_owned()),
            Phase::Active(run) if run.is_running() => {
                run.setback().map(|why| format!("a checkpoint that is complete; {why}"))
            }
            Phase::Active(run) => run.waits_for(),
            Phase::Saving { .. } => Some("the savepoint is being made".to_owned()),
            Phase::Ending => Some("the end of the job is being recorded".to_owned()),
            Phase::Over => None,
        }
    }

    /// What an operation waits for beside what it is about, as the rest of a sentence: how far the job is on its way to a
    /// checkpoint, and why none has been completed so far.
    pub(in crate::cluster) fn hindrances(
        &self,
        cx_now: Time,
        facts: &JobFacts,
        free: impl FnOnce() -> u32,
    ) -> String {
        let run = self.active();
        let waits = || self.waits_for(cx_now, facts, free).map(|what| format!("the job waits: {what}"));
        let state = match run.filter(|run| run.is_running()) {
            Some(run) => run.long_checkpoint(cx_now),
            None => waits(),
        };
        let failed = || self.history.first().filter(|_| self.failures.is_any());
        let setback = run
            .and_then(AttemptRun::setback)
            .or_else(|| failed().map(|(attempt, cause, _)| format!("attempt {attempt} has failed: {cause}")));
        state.into_iter().chain(setback).map(|what| format!("; {what}")).collect()
    }

    /// What it is doing, in one word.
    pub(in crate::cluster) fn state(&self, facts: &JobFacts) -> JobState {
        match (&facts.ended, &self.phase) {
            (Some((Ending::Finished { .. }, _)), _) => JobState::Finished,
            (Some((Ending::Canceled, _)), _) => JobState::Canceled,
            (Some((Ending::Failed { .. }, _)), _) => JobState::Failed,
            (None, Phase::Saving { .. } | Phase::Ending) => JobState::Stopping,
            (None, _) if facts.stop.is_some() => JobState::Stopping,
            (None, Phase::Active(run)) if run.is_running() && !self.rescaling => JobState::Running,
            // It runs on while the jobmanager finds its processes again.
            (None, _) if !self.has_run => JobState::Created,
            (None, _) => JobState::Restarting,
        }
    }
}
