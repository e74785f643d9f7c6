//! The threads that read and write the checkpoint store for the brain.
//!
//! What is asked for one job is carried out in order, on one of a few threads; jobs do not wait for each other more than that.
//! Copies of whole snapshots, which take long, have threads of their own.
//!
//! Not here: where the checkpoint stores of jobs are (`cluster_store.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tidegate_control::cluster::{ClusterInput, CopyAction, NotWritten, SnapshotRead, StoreAction};
use tidegate_protocol::{Epoch, Error, JobId, Manifest, Result};
use tidegate_snapshots::Snapshots;

use crate::cluster_store::ClusterStore;

/// The number of threads.
const THREADS: usize = 4;

/// The most jobs of which a thread remembers what it has written.
const JOBS_MAX: usize = 256;

/// Where the result of an action goes.
pub(crate) type Report = Arc<dyn Fn(ClusterInput) + Send + Sync>;

/// The threads.
pub(crate) struct Stores {
    store: ClusterStore,
    report: Report,
    threads: Vec<Sender<(JobId, StoreAction)>>,
}

impl Stores {
    pub(crate) fn start(store: &ClusterStore, report: Report) -> Result<Self> {
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let (actions, inbox) = channel();
            let thread = Thread { store: store.clone(), report: report.clone(), jobs: HashMap::new() };
            std::thread::Builder::new().name("store".to_owned()).spawn(move || thread.run(&inbox))?;
            threads.push(actions);
        }
        Ok(Self { store: store.clone(), report, threads })
    }

    /// Carries out an action about the checkpoint directory of a job.
    pub(crate) fn carry_out(&self, job: JobId, action: StoreAction) {
        let thread = usize::from(job.0[0]) % self.threads.len();
        // The threads live as long as this sender.
        let _ = self.threads[thread].send((job, action));
    }

    /// Copies a whole snapshot, on a thread of its own.
    pub(crate) fn copy(&self, job: JobId, action: CopyAction) {
        let (store, report, wanted) = (self.store.clone(), self.report.clone(), action.clone());
        let run = move || report(copy(&store, job, wanted));
        if let Err(error) = std::thread::Builder::new().name("copy".to_owned()).spawn(run) {
            (self.report)(not_copied(job, action, Error::from(error).context("start the thread of a copy")));
        }
    }
}

struct Thread {
    store: ClusterStore,
    report: Report,
    jobs: HashMap<JobId, Snapshots>,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<(JobId, StoreAction)>) {
        while let Ok((job, action)) = inbox.recv() {
            self.act(job, action);
        }
    }

    fn act(&mut self, job: JobId, action: StoreAction) {
        match action {
            StoreAction::ReadSnapshot { epoch } => {
                let read = self.read(job, epoch);
                (self.report)(ClusterInput::SnapshotRead { job, epoch, read });
            }
            StoreAction::WriteManifest { manifest } => {
                let (epoch, result) = (manifest.epoch, self.write(job, &manifest));
                (self.report)(ClusterInput::ManifestWritten { job, epoch, result });
            }
            StoreAction::RemoveLeftovers { attempt, last_epoch } => self.tidy(job, |snapshots| {
                snapshots.remove_manifests_after(last_epoch)?;
                snapshots.remove_leftovers_before(attempt)
            }),
            StoreAction::SetAside { epoch } => self.tidy(job, |snapshots| snapshots.set_aside(epoch)),
            StoreAction::Discard { attempt, epoch, slot } => {
                self.tidy(job, |snapshots| snapshots.discard(attempt, epoch, slot));
            }
            StoreAction::NotePublished { epoch } => {
                self.tidy(job, |snapshots| snapshots.set_published(epoch))
            }
            StoreAction::Collect { oldest } => self.tidy(job, |snapshots| snapshots.collect(oldest)),
        }
    }

    /// The snapshots of a job. A store that is away is not taken for one without snapshots.
    fn of(&mut self, job: JobId) -> Result<Snapshots> {
        if let Some(snapshots) = self.jobs.get(&job).filter(|_| self.store.is_there()) {
            return Ok(snapshots.clone());
        }
        let snapshots = Snapshots::new(self.store.of(job)?);
        if self.jobs.len() >= JOBS_MAX {
            // Most of them are over, and what is known of a job is only known to save reading it.
            self.jobs.clear();
        }
        self.jobs.insert(job, snapshots.clone());
        Ok(snapshots)
    }

    /// Does something whose failure costs space, or work at a restart, and nothing else.
    fn tidy(&mut self, job: JobId, run: impl FnOnce(&Snapshots) -> Result<()>) {
        if let Err(error) = self.of(job).and_then(|snapshots| run(&snapshots)) {
            tracing::warn!(target: "tidegate", "job {job}: the checkpoint store could not be tidied up: {error}");
        }
    }

    fn read(&mut self, job: JobId, epoch: Epoch) -> SnapshotRead {
        let read =
            self.of(job).and_then(|snapshots| Ok((snapshots.manifest(epoch)?, snapshots.published()?)));
        match read {
            Ok((Ok(manifest), published)) => SnapshotRead::Read(Arc::new(manifest), published),
            // It may have gone while it was read.
            Ok((Err(why), _)) if !self.store.is_there() => SnapshotRead::Unavailable(why),
            Ok((Err(why), _)) => SnapshotRead::Damaged(why),
            Err(error) => SnapshotRead::Unavailable(error.to_string()),
        }
    }

    fn write(&mut self, job: JobId, manifest: &Manifest) -> Result<(), NotWritten> {
        // A store that is away before anything was written has no such manifest.
        let away = |error: Error| NotWritten { reason: error.to_string(), is_certain: true };
        let snapshots = self.of(job).map_err(away)?;
        let Err(error) = snapshots.complete(manifest) else { return Ok(()) };
        // Only a snapshot that is certainly not complete may be aborted.
        let is_certain = matches!(snapshots.is_complete(manifest.epoch), Ok(false));
        Err(NotWritten { reason: error.to_string(), is_certain })
    }
}

fn not_copied(job: JobId, action: CopyAction, error: Error) -> ClusterInput {
    match action {
        CopyAction::WriteSavepoint { operation, .. } => {
            ClusterInput::SavepointWritten { job, operation, result: Err(error) }
        }
        CopyAction::Import { .. } => ClusterInput::Imported { job, result: Err(error) },
    }
}

fn copy(store: &ClusterStore, job: JobId, action: CopyAction) -> ClusterInput {
    match action {
        CopyAction::WriteSavepoint { operation, epoch, directory } => {
            let result = store.write_savepoint(job, epoch, &directory);
            ClusterInput::SavepointWritten { job, operation, result }
        }
        CopyAction::Import { from, fits } => {
            let fits = |manifest: &Manifest| fits.check(manifest);
            let import = || tidegate_snapshots::import(&store.named(&from)?, &store.of(job)?, fits);
            ClusterInput::Imported { job, result: import().map(Arc::new) }
        }
    }
}
