//! The threads that read and write the checkpoint store for the brain.
//!
//! What is asked for one job is carried out in order, on one of a few threads; jobs do not wait for each other more than that.
//! Copies of whole snapshots, which take long, have threads of their own.
//!
//! ```text
//! executables/<sha256>   what jobs are started from
//! jobs/<job>/            the checkpoint directory of a job; its layout is that of `tidegate-snapshots`
//! savepoints/            savepoints for which no directory was named
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tidegate_control::cluster::{ClusterInput, CopyAction, NotWritten, SnapshotRead, StoreAction};
use tidegate_protocol::{Epoch, Error, ErrorContext, JobId, Manifest, Result};
use tidegate_snapshots::{LocalStore, Snapshots};

/// The number of threads.
const THREADS: usize = 4;

/// The file that says that a directory is a checkpoint store: without it, a file system may not be mounted.
const MARKER: &str = "tidegate-store";

/// Makes the directories of a checkpoint store; returns its absolute path. A store that jobs have is not made anew.
pub(crate) fn prepare(root: &Path, has_jobs: bool) -> Result<PathBuf> {
    if has_jobs && !is_there(root) {
        return Err(Error::environment(format!(
            "the checkpoint store {} is not there, and the ledger has jobs whose snapshots are in it; is its file system mounted?",
            root.display()
        )));
    }
    for folder in ["executables", "jobs", "savepoints"] {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).context(|| format!("make the checkpoint store {}", path.display()))?;
    }
    let marker = root.join(MARKER);
    std::fs::write(&marker, "1\n").context(|| format!("write {}", marker.display()))?;
    root.canonicalize().context(|| format!("the checkpoint store {}", root.display()))
}

/// True if the checkpoint store can be reached.
fn is_there(root: &Path) -> bool {
    root.join(MARKER).is_file()
}

/// Makes the checkpoint directory of a new job.
pub(crate) fn create(root: &Path, job: JobId) -> Result<()> {
    if !is_there(root) {
        return Err(away(root));
    }
    LocalStore::open(&directory(root, job)).map(drop)
}

fn away(root: &Path) -> Error {
    Error::environment(format!(
        "the checkpoint store {} is not there; is its file system mounted?",
        root.display()
    ))
}

/// Where the result of an action goes.
pub(crate) type Report = Arc<dyn Fn(ClusterInput) + Send + Sync>;

/// The threads.
pub(crate) struct Stores {
    root: PathBuf,
    report: Report,
    threads: Vec<Sender<(JobId, StoreAction)>>,
}

impl Stores {
    pub(crate) fn start(root: &Path, report: Report) -> Result<Self> {
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let (actions, inbox) = channel();
            let thread = Thread { root: root.to_owned(), report: report.clone(), jobs: HashMap::new() };
            std::thread::Builder::new().name("store".to_owned()).spawn(move || thread.run(&inbox))?;
            threads.push(actions);
        }
        Ok(Self { root: root.to_owned(), report, threads })
    }

    /// Carries out an action about the checkpoint directory of a job.
    pub(crate) fn carry_out(&self, job: JobId, action: StoreAction) {
        let thread = usize::from(job.0[0]) % self.threads.len();
        // The threads live as long as this sender.
        let _ = self.threads[thread].send((job, action));
    }

    /// Copies a whole snapshot, on a thread of its own.
    pub(crate) fn copy(&self, job: JobId, action: CopyAction) {
        let (root, report) = (self.root.clone(), self.report.clone());
        let run = move || report(copy(&root, job, action));
        if let Err(error) = std::thread::Builder::new().name("copy".to_owned()).spawn(run) {
            tracing::warn!(target: "tidegate", "cannot start the thread of a copy: {error}");
        }
    }
}

/// The checkpoint directory of a job.
pub(crate) fn directory(root: &Path, job: JobId) -> PathBuf {
    root.join("jobs").join(job.to_string())
}

struct Thread {
    root: PathBuf,
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
        if !is_there(&self.root) {
            return Err(away(&self.root));
        }
        if let Some(snapshots) = self.jobs.get(&job) {
            return Ok(snapshots.clone());
        }
        let snapshots = Snapshots::new(Arc::new(LocalStore::existing(&directory(&self.root, job))?));
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
            Ok((Err(why), _)) if !is_there(&self.root) => SnapshotRead::Unavailable(why),
            Ok((Err(why), _)) => SnapshotRead::Damaged(why),
            Err(error) => SnapshotRead::Unavailable(error.to_string()),
        }
    }

    fn write(&mut self, job: JobId, manifest: &Manifest) -> Result<(), NotWritten> {
        let unsure = |error: Error| NotWritten { reason: error.to_string(), is_certain: false };
        let snapshots = self.of(job).map_err(unsure)?;
        let Err(error) = snapshots.complete(manifest) else { return Ok(()) };
        // Only a snapshot that is certainly not complete may be aborted.
        let is_certain = matches!(snapshots.is_complete(manifest.epoch), Ok(false));
        Err(NotWritten { reason: error.to_string(), is_certain })
    }
}

fn copy(root: &Path, job: JobId, action: CopyAction) -> ClusterInput {
    match action {
        CopyAction::WriteSavepoint { operation, epoch, directory } => {
            let result = savepoint(root, job, epoch, &directory);
            ClusterInput::SavepointWritten { job, operation, result }
        }
        CopyAction::Import { from } => {
            let to = LocalStore::existing(&directory(root, job));
            let result = to.and_then(|to| tidegate_snapshots::import(Path::new(&from), &to));
            ClusterInput::Imported { job, result: result.map(Arc::new) }
        }
    }
}

fn savepoint(root: &Path, job: JobId, epoch: Epoch, target: &str) -> Result<String> {
    let target = if target.is_empty() { root.join("savepoints") } else { PathBuf::from(target) };
    std::fs::create_dir_all(&target).context(|| format!("make {}", target.display()))?;
    let short = &job.to_string()[..8];
    let names = (1..).map(|n| match n {
        1 => format!("savepoint-{short}-{epoch}"),
        n => format!("savepoint-{short}-{epoch}-{n}"),
    });
    let free = names.map(|name| target.join(name)).find(|path| !path.exists());
    let path = free.ok_or_else(|| Error::internal("no name is left for a savepoint"))?;
    let from = LocalStore::unopened(&directory(root, job));
    tidegate_snapshots::write_savepoint(&from, epoch, &path)?;
    Ok(path.display().to_string())
}
