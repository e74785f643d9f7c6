//! A sink that publishes the output of an epoch as a whole, after its snapshot is durable.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tidegate_protocol::{Attempt, Epoch, JobId, Result, Slot};

use crate::staged::{StagedOutput, StagedWriter, Staging};

/// A sink that shows an epoch's output as a whole, once, after its snapshot is durable.
///
/// It is the description of where records go. Every worker has a [`Writer`] of it and, on a thread of its own, a
/// [`Publisher`]; the job as a whole has its [`SinkTarget`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink for records of the type `{T}`",
    label = "not a sink for `{T}`",
    note = "a sink of files says how records are written: `FileLog::sink(directory).json()`, with records that derive serde's \
            `Serialize`"
)]
pub trait TransactionalSink<T>: Send + Sync + 'static {
    /// What the sink writes to, in a form that is the same at every start (an absolute directory, a topic's name).
    /// A job that is restarted with another one is refused.
    ///
    /// # Errors
    /// If the target cannot be named, for example because its directory cannot be made.
    fn uri(&self) -> Result<String>;

    /// Opens the target for its owner, a run of the job. Called once before anything of the run is written or published;
    /// what it returns lives as long as the run.
    ///
    /// Attempts of one job on a cluster may overlap: a host that the jobmanager has lost may still run an older one, or
    /// start it late. A newer attempt takes the target over without waiting. An older one is refused from then on, also by
    /// [`SinkTarget::recover`]: it would take back what newer attempts have published.
    ///
    /// # Errors
    /// If the target cannot be reached, another job writes to it, or a newer attempt has taken it over.
    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>>;

    /// Makes the writer of one worker.
    ///
    /// # Errors
    /// If the target cannot be written to.
    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>>;

    /// Makes the publisher of one slot, on the publisher's own thread: it may take long. After a restart with fewer
    /// workers there are also publishers of slots that have no worker any more, for what these have staged.
    /// `sink` is this sink in the job that runs; output of a restored snapshot may have been staged by another job.
    ///
    /// # Errors
    /// If the target cannot be reached.
    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>>;
}

/// A sink that is chosen at run time.
impl<T: 'static> TransactionalSink<T> for Box<dyn TransactionalSink<T>> {
    fn uri(&self) -> Result<String> {
        (**self).uri()
    }

    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        (**self).target(owner)
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        (**self).writer(place)
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        (**self).publisher(sink, slot)
    }
}

/// A sink of a job: for what it has outside under a name of its own, which is the same at every start and no other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkId {
    /// The job. A job alone has an id, too, which its checkpoint directory keeps.
    pub job: JobId,
    /// What the sink is called in snapshots.
    pub uid: String,
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.uid)
    }
}

/// The run of a job that a target is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A job alone. Its checkpoint directory is locked, so no other run of it is alive.
    Alone,
    /// An attempt of a job on a cluster.
    Attempt(JobId, Attempt),
}

/// What a sink writes to, opened for a run of a job.
pub trait SinkTarget {
    /// Called once before a job's workers start, with what the restored snapshot holds already published: removes
    /// what older attempts staged without completing it, and what they published for epochs after `restored` (which
    /// happens only if a damaged snapshot had to be set aside for an older one). Returns what it took back of published
    /// output, for the log.
    ///
    /// `last` is the last epoch that the job knows of, damaged snapshots included: output of a later one is that of a run that went
    /// on from a snapshot of this job elsewhere, and is not to be taken back. None if the user has chosen the snapshot; then
    /// all that came after it is.
    ///
    /// # Errors
    /// If the target cannot be cleaned, holds output beyond `last`, or a newer attempt has taken it over.
    fn recover(&mut self, restored: Option<Epoch>, last: Option<Epoch>) -> Result<Vec<String>>;
}

/// The worker that a writer belongs to, and where the writer stages its output.
#[derive(Clone, Debug)]
pub struct SinkPlace {
    /// The sink in the job that runs.
    pub sink: SinkId,
    /// The worker's slot.
    pub slot: Slot,
    /// The attempt, for the names of what is staged: what an older attempt left must not be mistaken for this one's.
    pub attempt: Attempt,
    /// Where staged files are written that the engine stores.
    working: PathBuf,
    /// Counts the staged files of the worker, all its sinks together.
    staged_files: Rc<Cell<u64>>,
}

impl SinkPlace {
    /// Makes a place. It is called by the engine, and by tests of a connector with a directory of their own.
    pub fn new(
        sink: SinkId,
        (slot, attempt): (Slot, Attempt),
        working: &Path,
        staged_files: Rc<Cell<u64>>,
    ) -> Self {
        Self { sink, slot, attempt, working: working.to_owned(), staged_files }
    }

    /// A writer of staged files that become part of the snapshot: the engine stores them with it, and keeps them as long as it
    /// keeps the snapshot.
    pub fn staged_files(&self) -> StagedWriter {
        let prefix = format!("{}-{}", self.attempt, self.slot);
        StagedWriter::stored(self.working.clone(), prefix, self.staged_files.clone())
    }

    /// A writer of staged files in a directory of the sink's own, where the publisher finds them: for a target that is made of
    /// files, and publishes by a rename. The engine syncs and checks them, and never deletes them. `name` makes the name of
    /// the n-th file, from 0; slot and attempt must be in it.
    pub fn staged_files_in(&self, directory: &Path, name: impl Fn(u64) -> String + 'static) -> StagedWriter {
        StagedWriter::own(directory.to_owned(), name)
    }
}

/// Writes one worker's records of the current epoch to where readers do not see them yet.
pub trait Writer<T> {
    /// Writes one record, with its event time in milliseconds since the Unix epoch; None if its stream has no event time.
    ///
    /// # Errors
    /// If it cannot be written; the job ends before the epoch is published.
    fn write(&mut self, record: &T, event_time: Option<i64>) -> Result<()>;

    /// Ends the epoch: what was written since the last call becomes a piece of staged output, or None if it was nothing. What
    /// takes long (syncing to disk, an upload) is left to the returned [`Staging`].
    ///
    /// # Errors
    /// If the epoch's output cannot be closed.
    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>>;
}

/// Makes the staged output of one slot visible. It has a thread of its own: other slots and other sinks publish at the same
/// time, and the dataflow goes on.
pub trait Publisher {
    /// Called once before the first epoch of a run is published, with the epoch of the snapshot that the run has restored: for
    /// what takes long (a connection) and need not delay the first epoch. It is not called where a publisher only publishes
    /// what a restored snapshot holds.
    ///
    /// # Errors
    /// If nothing can be published here; the job ends.
    fn prepare(&mut self, restored: Option<Epoch>) -> Result<()> {
        let _ = restored;
        Ok(())
    }

    /// Makes what a completed snapshot holds of the slot visible. Usually that is one piece of output: none if the slot had
    /// no record, several if checkpoints before it were aborted. Until all publishers are done no further checkpoint begins.
    ///
    /// Called once or more for every piece; after the first success it changes nothing.
    ///
    /// # Errors
    /// If a piece is neither staged nor visible any more, or the target cannot be reached.
    fn publish(&mut self, epoch: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()>;
}
