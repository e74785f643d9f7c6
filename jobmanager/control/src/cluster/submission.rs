//! A job until it is in the ledger: it is described by a taskmanager, and its snapshot, if it goes on from one, is copied.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_protocol::plan::PlanSettings;
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Error, JobId, KeyGroups, Manifest, Plan, Result, TaskManagerId};

use super::input::{RequestId, RunJob};
use super::record::JobSpec;
use crate::rules::{check_fits, check_fits_but_for_gone, check_parallelism, check_unfinished};

/// The most snapshots that a job keeps.
const RETAIN_MAX: u64 = 1_000_000;

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) enum Submission {
    /// The plan of an executable is wanted by a user, or for a job that is to run; the taskmanager that was asked, if one
    /// is connected.
    Describing {
        request: RequestId,
        program: Program,
        run: Option<Box<RunJob>>,
        asked: Option<TaskManagerId>,
    },
    /// The snapshot is being copied.
    Importing { request: RequestId, run: Box<RunJob>, plan: Box<Plan> },
    /// The record is proposed.
    Proposed { request: RequestId },
}

/// All submissions under way; those that are described have numbers, the others the ids of their jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct Submissions {
    pub(super) describing: BTreeMap<u64, Submission>,
    pub(super) jobs: BTreeMap<JobId, Submission>,
}

impl Submissions {
    /// A taskmanager that was asked for a plan is gone, or has forgotten that.
    pub(super) fn forget_asked(&mut self, taskmanager: &TaskManagerId) {
        for submission in self.describing.values_mut() {
            if let Submission::Describing { asked, .. } = submission {
                asked.take_if(|asked| asked == taskmanager);
            }
        }
    }

    /// A request to run a job takes the place of an earlier one that is not answered yet, which is returned.
    pub(super) fn take_over(&mut self, job: JobId, by: RequestId) -> Option<RequestId> {
        let is_ours = |submission: &&mut Submission| match submission {
            Submission::Describing { run, .. } => run.as_ref().is_some_and(|run| run.job == job),
            Submission::Importing { .. } | Submission::Proposed { .. } => false,
        };
        let submission = self.jobs.get_mut(&job).or_else(|| self.describing.values_mut().find(is_ours))?;
        let (Submission::Describing { request, .. }
        | Submission::Importing { request, .. }
        | Submission::Proposed { request }) = submission;
        Some(std::mem::replace(request, by))
    }
}

/// Which snapshots a job that is submitted can go on from.
#[derive(Clone, Debug)]
pub struct Fits {
    plan: Plan,
    parallelism: Option<u32>,
    allow_non_restored_state: bool,
}

impl Fits {
    pub(super) fn new(run: &RunJob, plan: &Plan) -> Self {
        let parallelism = asked(run, plan);
        Self { plan: plan.clone(), parallelism, allow_non_restored_state: run.allow_non_restored_state }
    }

    /// Whether it can go on from this one.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        if self.allow_non_restored_state {
            check_fits_but_for_gone(&self.plan, manifest)?;
        } else {
            check_fits(&self.plan, manifest)?;
        }
        check_unfinished(manifest)?;
        check_parallelism(self.parallelism.unwrap_or(1) as usize, manifest.key_groups, true)
    }
}

/// The job as it goes into the ledger.
pub(super) fn spec(
    run: RunJob,
    plan: Plan,
    snapshot: Option<&Arc<Manifest>>,
    slots: u32,
    now_ms: u64,
) -> Result<JobSpec> {
    let key_groups =
        snapshot.map_or(KeyGroups { count: plan.max_parallelism }, |manifest| manifest.key_groups);
    if let Some(manifest) = snapshot {
        Fits::new(&run, &plan).check(manifest)?;
    }
    let partitions = plan.widest_source().map_or(0, |(_, partitions)| partitions);
    let most = partitions.min(slots).min(u32::from(key_groups.count));
    let parallelism = asked(&run, &plan).unwrap_or(most).max(1);
    check_parallelism(parallelism as usize, key_groups, snapshot.is_some())?;
    let mut settings = run.settings;
    check_plan(&plan)?;
    settings.interval_ms = run.interval_ms.unwrap_or(plan.settings.checkpoint_interval_ms);
    settings.retain = run.retain.unwrap_or(plan.settings.retain as usize);
    Ok(JobSpec {
        name: run.name.unwrap_or_else(|| plan.job.clone()),
        program: run.program,
        key_groups,
        parallelism,
        settings,
        restored: snapshot.map(|manifest| (manifest.epoch, manifest.attempt)),
        submitted_at_ms: now_ms,
        plan,
    })
}

/// The number of workers that was asked for.
fn asked(run: &RunJob, plan: &Plan) -> Option<u32> {
    if run.settings.auto_parallelism { None } else { run.parallelism.or(plan.settings.parallelism) }
}

/// Refuses settings that no command line of a job lets through: the plan is what a program has printed, any program.
fn check_plan(plan: &Plan) -> Result<()> {
    let PlanSettings { checkpoint_interval_ms, retain, .. } = plan.settings;
    if checkpoint_interval_ms > 0 && (1..=RETAIN_MAX).contains(&retain) {
        return Ok(());
    }
    Err(Error::job(format!(
        "the plan of the job '{}' is invalid: it asks for a checkpoint every {checkpoint_interval_ms} ms, of which {retain} \
         are kept; the interval must be at least 1 ms, and from 1 to {RETAIN_MAX} can be kept",
        plan.job
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_no_command_line_gives_is_refused() {
        let plan = |checkpoint_interval_ms, retain| Plan {
            settings: PlanSettings { checkpoint_interval_ms, retain, ..PlanSettings::default() },
            ..Plan::default()
        };
        assert!(check_plan(&plan(1, 1)).is_ok() && check_plan(&plan(u64::MAX, RETAIN_MAX)).is_ok());
        for wrong in [plan(0, 3), plan(1_000, 0), plan(1_000, u64::MAX)] {
            assert!(
                check_plan(&wrong).unwrap_err().to_string().contains("the plan of the job '' is invalid")
            );
        }
    }
}
