//! A sink that publishes the output of an epoch as a whole, after its snapshot is durable.

use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Attempt, Epoch, Result, Slot};

/// A sink that shows an epoch's output as a whole, once, after its snapshot is durable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink for records of the type `{T}`",
    label = "not a sink for `{T}`",
    note = "a sink of files says how records are written: `FileLog::sink(directory).json()`, with records that derive serde's \
            `Serialize`"
)]
pub trait TransactionalSink<T>: 'static {
    /// What the sink writes to, in a form that is the same at every start (an absolute directory, a topic's name).
    /// A job that is restarted with another one is refused.
    ///
    /// # Errors
    /// If the target cannot be named, for example because its directory cannot be made.
    fn uri(&self) -> Result<String>;

    /// Makes the writer of one worker.
    ///
    /// # Errors
    /// If the target cannot be written to.
    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>>;

    /// Makes the publisher, of which a process has one for a sink. It is called on the driver's thread, one sink after the
    /// other: until all have published, no further checkpoint begins.
    ///
    /// # Errors
    /// If the target cannot be reached.
    fn publisher(&self) -> Result<Box<dyn Publisher>>;
}

/// Who a writer writes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkPlace {
    /// The worker's slot.
    pub slot: Slot,
    /// The attempt, for the names of what is staged: what an older attempt left must not be mistaken for this one's.
    pub attempt: Attempt,
}

/// Writes one worker's records of the current epoch to where nobody sees them yet.
pub trait Writer<T> {
    /// Writes one record.
    ///
    /// # Errors
    /// If it cannot be written; the job ends before the epoch is published.
    fn write(&mut self, record: &T) -> Result<()>;

    /// Ends the epoch: what was written since the last call becomes a staged piece. Returns the rest of the work, which
    /// runs on another thread while the dataflow goes on (syncing to disk, say), or None for an empty epoch.
    ///
    /// # Errors
    /// If the epoch's output cannot be closed.
    fn stage(&mut self, epoch: Epoch) -> Result<Option<Staging>>;
}

/// What is left to do until a piece of output is durably staged.
///
/// [`Staged::file`] is what a snapshot can be checked by before it is restored. For a piece that is a file of the local file
/// system: its absolute path while it is staged, and the length and the CRC-32 (IEEE) of its content; a file that is there
/// under this path and differs makes the snapshot a damaged one. For any other target: a name that is no absolute path
/// (`s3://bucket/key`, say), which is for people, with 0 for what is not known; it is left to the publisher.
pub type Staging = Box<dyn FnOnce() -> Result<Staged> + Send>;

/// Makes staged pieces visible.
pub trait Publisher: Send {
    /// Makes one staged piece visible. Called once or more for every piece of a completed snapshot; after the first
    /// success it changes nothing.
    ///
    /// # Errors
    /// If the piece is neither staged nor visible any more, or the target cannot be reached.
    fn publish(&mut self, staged: &Staged) -> Result<()>;

    /// Called once before a job's workers start, with what the restored snapshot holds already published: takes away
    /// what older attempts staged without completing it, and what they published for epochs after `restored` (which
    /// happens only if a damaged snapshot had to be set aside for an older one). Returns what it took back of published
    /// output, for the log.
    ///
    /// # Errors
    /// If the target cannot be cleaned.
    fn recover(&mut self, restored: Option<Epoch>) -> Result<Vec<String>>;
}
