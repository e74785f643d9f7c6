//! A job that runs alone, in one process: everything a cluster would do for it, on the same rules.
//!
//! - [`plan`]: what the job wants, found out by describing it once without running it.
//! - [`driver`]: runs the control brain's actions: triggers, manifests, publishing, collecting.
//! - [`watchdog`]: notices steps that do not come back.
//! - [`mailbox`]: what reaches the driver; [`assignment`]: which worker reads which partitions.
//! - [`publishers`]: the sinks' publishers of this process.
//! - [`summary`]: the totals that a user reads.
//!
//! Not here: any rule about when an epoch starts or is complete; that is `tidegate-control`'s.

mod assignment;
pub(crate) mod driver;
mod mailbox;
pub(crate) mod plan;
pub(crate) mod publishers;
pub(crate) mod summary;
mod watchdog;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::{Attempt, Epoch, KeyGroups, Manifest};
use tidegate_snapshots::{LocalStore, Snapshots};

use crate::allocator::give_back_freed_memory;
use crate::clock::Clock;
use crate::dataflow::worker::BuildJob;
use crate::link::{Connection, Link, ToDriver};
use crate::metrics::Metrics;
use crate::panics::catch;
use crate::process::{Parts, Process, Settings};
use crate::state::working_directory::WorkingDirectory;
use crate::stream::outline::Outline;
use assignment::Assignment;
pub(crate) use mailbox::{Event, Mailbox};
use plan::Plan;
use publishers::Publishers;
use summary::Summary;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, Result};

/// How a job is run alone.
pub(crate) struct Run {
    pub(crate) job: String,
    pub(crate) checkpoint_dir: PathBuf,
    /// The number of workers; None for the number of cores, as far as there are key groups.
    pub(crate) parallelism: Option<usize>,
    pub(crate) interval: Option<Duration>,
    pub(crate) retain: usize,
    pub(crate) memory: usize,
    pub(crate) follow: bool,
    pub(crate) max_parallelism: u16,
    /// For tests; see [`Settings`].
    pub(crate) over_the_wire: bool,
    pub(crate) arguments: BTreeMap<String, Vec<String>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// How the driver and the process talk to each other.
    pub(crate) link: Arc<dyn Link>,
}

impl Run {
    /// The number of workers with so many key groups: what was asked for, or one a core and no more than can have a group.
    fn workers(&self, groups: KeyGroups) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.parallelism.unwrap_or_else(|| cores().min(groups.count.into()))
    }
}

/// Hears how a run goes on.
pub(crate) trait Watcher {
    /// How often [`Watcher::progress`] wants to be called.
    fn every(&self) -> Duration;
    /// Something that a user should know.
    fn note(&mut self, text: &str);
    /// How things stand.
    fn progress(&mut self, metrics: &Metrics, epoch: Epoch);
    /// A snapshot of this run is complete and its output published.
    fn published(&mut self, plan: &Plan, snapshot: &Manifest) {
        let _ = (plan, snapshot);
    }
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
    let store = LocalStore::open(&run.checkpoint_dir)?;
    let _lock = store.lock()?;
    point("start.locked");
    let groups = KeyGroups { count: run.max_parallelism };
    // Nobody runs while the job is described, and nobody has anything to say.
    let parts = process(run, &store, run.workers(groups), groups, Box::new(drop));
    let plan = Plan::of(&build, parts, store.root())?;
    plan.warnings.iter().for_each(|warning| watcher.note(warning));
    let snapshots = Snapshots::new(Arc::new(store.clone()));
    let found = tidegate_snapshots::choose(&snapshots)?;
    found.notes.iter().for_each(|note| watcher.note(note));
    let restored = found.manifest.map(Arc::new);
    if let Some(manifest) = &restored {
        plan.check_fits(manifest, &run.job)?;
        if run.max_parallelism != manifest.key_groups.count {
            watcher.note(&format!(
                "--max-parallelism stays {}, as it was when the job was first started",
                manifest.key_groups.count
            ));
        }
        for note in plan::changed_arguments(manifest, &run.arguments) {
            watcher.note(&note);
        }
    }
    let groups = restored.as_ref().map_or(groups, |m| m.key_groups);
    let workers = run.workers(groups);
    if workers > usize::from(groups.count) {
        let stays =
            if restored.is_some() { ", as when the job was first started; it cannot change" } else { "" };
        return Err(Error::job(format!(
            "--parallelism {workers} is invalid: it must be at most --max-parallelism, which is {}{stays}",
            groups.count
        )));
    }
    let mut publishers = Publishers::open(&plan, restored.as_deref(), snapshots.published()?, watcher)?;
    point("restore.recovered");
    if let Some(manifest) = restored.as_deref().filter(|m| m.finished) {
        watcher.note(&plan.describe_finished(manifest));
        return Ok(Summary::of(&plan, manifest, Duration::ZERO));
    }
    let attempt = Attempt(snapshots.last_attempt()?.max(found.last_attempt).0 + 1);
    snapshots.set_attempt(attempt)?;
    point("start.attempt_written");
    WorkingDirectory::within(store.root()).clean()?;
    let to_driver = run.link.to_driver(mailbox.inbox());
    let mut parts = process(run, &store, workers, groups, to_driver);
    parts.attempt = attempt;
    parts.first_epoch = found.last_epoch.next();
    parts.store_ids = plan.store_ids(restored.as_deref())?;
    parts.assigned = plan.assign(restored.as_deref(), workers)?;
    parts.processes = run.link.processes(workers);
    let assignment = Assignment::new(parts.assigned.clone());
    parts.restored = restored.clone();
    parts.outline = plan.outline.clone();
    let process = Arc::new(Process::new(parts));
    let driver = driver::Driver::new(run, &plan, process, assignment, &mut publishers, found.older, watcher);
    driver.run(build, &mailbox.receiver)
}

/// What a process needs, before anything was restored.
fn process(
    run: &Run,
    store: &LocalStore,
    workers: usize,
    groups: KeyGroups,
    driver: Connection<ToDriver>,
) -> Parts {
    Parts {
        settings: Settings {
            workers,
            key_groups: groups,
            memory: run.memory,
            follow: run.follow,
            over_the_wire: run.over_the_wire,
        },
        attempt: Attempt(1),
        first_epoch: Epoch(1),
        restored: None,
        snapshots: Snapshots::new(Arc::new(store.clone())),
        working: WorkingDirectory::within(store.root()),
        store_ids: BTreeMap::new(),
        outline: Outline::default(),
        assigned: BTreeMap::new(),
        processes: 1,
        clock: run.clock.clone(),
        metrics: run.metrics.clone(),
        driver,
    }
}
