//! A job in one process: everything that a cluster would do for it, by the same rules.
//!
//! - [`driver`]: runs the control brain's actions: triggers, manifests, publishing, collecting.
//! - [`mailbox`]: what reaches the driver.
//! - [`summary`]: the totals that a user reads.
//! - [`run`](mod@run): how a job is run; [`watcher`]: who watches the run.
//!
//! Not here: any rule about when an epoch starts or is complete; that is `tidegate-control`'s. What runs in a process of a
//! job, alone or not, is [`crate::job_process`].

pub(crate) mod driver;
mod mailbox;
mod run;
pub(crate) mod summary;
mod watcher;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_connector_api::Owner;
use tidegate_control::rules::{Assignment, changes, check_fits, check_parallelism, store_ids};
use tidegate_object_store::S3Uri;
use tidegate_protocol::{Attempt, Epoch, JobId, KeyGroups, Manifest, Plan, PlanSettings, Slot};
use tidegate_snapshots::{LocalStore, Snapshots};
use tracing::Level;

use crate::allocator::give_back_freed_memory;
use crate::api::job::{BuildJob, graph_builder};
use crate::attempt::{AttemptSetup, JobSettings, ProcessWorkers};
use crate::checkpoint::recovery::Targets;
use crate::checkpoint::staged_files::StagedFiles;
use crate::dataflow::process::Process;
use crate::job_process::description::Description;
use crate::panics::catch;
use crate::working_directory::WorkingDirectory;
use driver::Driver;
pub(crate) use mailbox::{Event, Mailbox};
pub(crate) use run::Run;
use summary::Summary;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, Result};
pub(crate) use watcher::Watcher;

/// The plan of a job, with the partitions that its sources have now. The checkpoint directory is not looked at.
pub(crate) fn plan(run: &Run, build: &BuildJob) -> Result<Plan> {
    let store = LocalStore::unopened(&run.checkpoint_dir);
    let groups = KeyGroups { count: run.max_parallelism };
    let mut job = catch(|| describe(run, build, &store, groups))?;
    job.list_partitions()?;
    let interval = run.interval.and_then(|interval| u64::try_from(interval.as_millis()).ok());
    let settings = PlanSettings {
        parallelism: run.parallelism.and_then(|workers| u32::try_from(workers).ok()),
        checkpoint_interval_ms: interval.unwrap_or(u64::MAX),
        retain: run.retain as u64,
        warnings: Vec::new(),
    };
    Ok(Plan { settings, ..job.plan })
}

/// Runs a job from its newest snapshot to its end, or until it is asked to stop.
pub(crate) fn run(
    run: &Run,
    build: BuildJob,
    mailbox: Mailbox,
    watcher: &mut dyn Watcher,
) -> Result<Summary> {
    give_back_freed_memory();
    catch(|| go_on(run, build, mailbox, watcher))
}

fn go_on(run: &Run, build: BuildJob, mailbox: Mailbox, watcher: &mut dyn Watcher) -> Result<Summary> {
    if run.parallelism == Some(0) {
        return Err(Error::job("--parallelism 0 is invalid: it must be at least 1"));
    }
    check_is_directory(&run.checkpoint_dir)?;
    let store = LocalStore::open(&run.checkpoint_dir)?;
    let _lock = store.lock()?;
    point("start.locked");
    let groups = KeyGroups { count: run.max_parallelism };
    let mut job = describe(run, &build, &store, groups)?;
    job.check_is_apart_from(store.root())?;
    job.warnings.iter().for_each(|warning| watcher.note(Level::WARN, warning));
    let snapshots = Snapshots::new(Arc::new(store.clone()));
    let found = tidegate_snapshots::choose(&snapshots)?;
    found.notes.iter().for_each(|note| watcher.note(Level::WARN, note));
    let restored = found.manifest.map(Arc::new);
    if let Some(manifest) = &restored {
        check_restored(&job.plan, manifest, watcher)?;
    }
    let groups = restored.as_ref().map_or(groups, |m| m.key_groups);
    let parallelism = run.workers(groups);
    check_parallelism(parallelism, groups, restored.is_some())?;
    let published = snapshots.published()?;
    let id = snapshots.job_id()?;
    // A copy of a savepoint in which no job has run was chosen by the user.
    let last = (snapshots.last_attempt()? > Attempt(0)).then_some(found.last_epoch);
    let staged_files = StagedFiles::new(&snapshots);
    let mut note = |note: &str| watcher.note(Level::WARN, note);
    // They hold their locks until the attempt is over.
    let _targets = Targets::recover(
        (id, Owner::Alone),
        &job.sinks,
        restored.as_ref(),
        (published, last),
        &staged_files,
        &mut note,
    )?;
    if let Some(manifest) = restored.as_ref().filter(|m| m.epoch > published) {
        snapshots.set_published(manifest.epoch)?;
    }
    snapshots.remove_leftovers()?;
    point("restore.recovered");
    if let Some(manifest) = restored.as_deref().filter(|m| m.finished) {
        watcher.note(Level::INFO, &job.describe_finished(manifest));
        return Ok(Summary::of(&job, manifest, Duration::ZERO));
    }
    let attempt = Attempt(snapshots.last_attempt()?.max(found.last_attempt).0 + 1);
    snapshots.set_attempt(attempt)?;
    point("start.attempt_written");
    let mut setup = setup(run, &store, parallelism, groups);
    setup.working.clean()?;
    (setup.job, setup.attempt) = (id, attempt);
    setup.first_epoch = found.last_epoch.next();
    setup.store_ids = store_ids(&job.plan, restored.as_deref());
    setup.restored = restored.clone();
    job.list_partitions()?;
    let assignment = Assignment::new(&job.plan, restored.as_deref(), parallelism);
    let assigned = assignment.by_worker().clone();
    let build = graph_builder(build, job.outline.clone());
    let processes = processes(run, &setup, &assigned, &mailbox);
    let driver = Driver::new(run, &job, processes, assignment, found.older, watcher);
    driver.run(build, &mailbox.receiver)
}

/// Refuses a bucket: nothing in it keeps a second process of the job away.
fn check_is_directory(checkpoint_dir: &Path) -> Result<()> {
    let name = checkpoint_dir.to_string_lossy();
    if !S3Uri::is_meant_by(&name) {
        return Ok(());
    }
    Err(Error::job(format!(
        "--checkpoint-dir {name} is not a directory: a job alone locks its checkpoint directory, and a bucket has no lock; run \
         the job on a cluster whose checkpoint store is in the bucket, or name a directory"
    )))
}

/// Refuses a snapshot that does not fit the job, and says what has changed since it was taken.
fn check_restored(plan: &Plan, manifest: &Manifest, watcher: &mut dyn Watcher) -> Result<()> {
    check_fits(plan, manifest)?;
    // If the job has finished, nothing is going to run, so changes have no effect.
    if !manifest.finished {
        changes(plan, manifest).iter().for_each(|note| watcher.note(Level::INFO, note));
    }
    Ok(())
}

/// What an attempt starts with if nothing is restored.
fn setup(run: &Run, store: &LocalStore, parallelism: usize, key_groups: KeyGroups) -> AttemptSetup {
    AttemptSetup {
        // A job is also described where it will not run; the checkpoint directory is read later.
        job: JobId([0; 16]),
        attempt: Attempt(1),
        settings: JobSettings {
            parallelism,
            key_groups,
            memory: run.memory,
            follow: run.follow,
            over_the_wire: run.over_the_wire,
        },
        first_epoch: Epoch(1),
        restored: None,
        snapshots: Snapshots::new(Arc::new(store.clone())),
        working: WorkingDirectory::within(store.root()),
        store_ids: BTreeMap::new(),
    }
}

/// The processes of an attempt, in their order. It is one, which has all workers, unless the link divides them.
fn processes(
    run: &Run,
    setup: &AttemptSetup,
    assigned: &BTreeMap<String, Vec<Vec<String>>>,
    mailbox: &Mailbox,
) -> Vec<Arc<Process>> {
    let parallelism = setup.settings.parallelism;
    let count = parallelism / run.link.processes(parallelism).max(1);
    let process = |first: usize| {
        let workers = ProcessWorkers { first: Slot(first as u32), count };
        let to_driver = run.link.to_driver(mailbox.inbox());
        Arc::new(run.process(setup.clone(), workers, (assigned.clone(), false), to_driver))
    };
    (0..parallelism).step_by(count).map(process).collect()
}

/// Describes the job before it is known what it goes on from.
fn describe(run: &Run, build: &BuildJob, store: &LocalStore, groups: KeyGroups) -> Result<Description> {
    let setup = setup(run, store, run.workers(groups), groups);
    let workers = ProcessWorkers { first: Slot(0), count: setup.settings.parallelism };
    run.describe(build, setup, workers)
}
