//! What a connector implements: a source of partitions, a transactional sink.
//!
//! A connector never hears of workers, barriers or timely. Tidegate deals a source's partitions to the workers, polls
//! each one for small batches, and keeps the position that a partition tells at every barrier; a restart opens the
//! partition at that position again. A sink stages what it is given until a barrier, and publishes a staged piece once
//! the snapshot that holds it is durable. Both kinds of calls are made from one thread at a time.
//!
//! # Exactly once, and what a connector owes for it
//! - A partition opened at a position delivers the same records, in the same order, as it would have after that position.
//! - A staged piece survives the end of the process, and publishing it twice is the same as publishing it once.

use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Attempt, Epoch, Slot};

use tidegate_protocol::Result;

/// Where reading goes on in a partition, in the connector's own form (a byte offset, a log offset, a token).
pub type Position = serde_json::Value;

/// A source: something with named partitions, each a sequence of records.
///
/// The engine makes one instance on every worker and one that lists partitions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source",
    label = "not a source",
    note = "a source of files says what its lines are: `FileLog::partitions(directory).json::<Reading>()`, with a record that \
            derives serde's `Deserialize`"
)]
pub trait Source: 'static {
    /// The type of a record.
    type Item: 'static;

    /// What the source reads, in a form that is the same at every start (an absolute directory, a topic's name).
    /// A job that is restarted with another one is refused.
    fn uri(&self) -> Result<String>;

    /// The names of the partitions there are now, in any order.
    ///
    /// Called at the start, and about once a second for a source that is not bounded; a name that turns up later is
    /// read from its beginning.
    ///
    /// # Errors
    /// If the source is not there or cannot be read; the job ends.
    fn partitions(&self) -> Result<Vec<String>>;

    /// Opens a partition at its beginning (`None`) or where [`PartitionReader::position`] said.
    ///
    /// # Errors
    /// If the partition is gone or the position cannot be reached; the job ends.
    fn open(
        &self,
        partition: &str,
        position: Option<&Position>,
    ) -> Result<Box<dyn PartitionReader<Self::Item>>>;

    /// True if a partition ends where it ends now; false if it is followed as it grows.
    fn bounded(&self) -> bool;

    /// Called before anything else if the job was started with `--follow`: from now on the source is not bounded. One
    /// that cannot grow may stay as it is.
    fn follow(&mut self);

    /// Whether a partition now holds more than a finished run read, which ended at `position`.
    ///
    /// # Errors
    /// If the partition cannot be looked at.
    fn has_more(&self, partition: &str, position: &Position) -> Result<bool>;
}

/// One open partition.
pub trait PartitionReader<T> {
    /// Appends up to about `budget` records to `out`, without waiting for any.
    ///
    /// # Errors
    /// If reading fails; the job ends, and a restart reads on from the last snapshot.
    fn poll(&mut self, out: &mut Polled<T>, budget: usize) -> Result<PartitionStatus>;

    /// Where reading goes on after the records polled so far.
    fn position(&self) -> Position;
}

/// What a poll found out about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionStatus {
    /// There may be more at once.
    More,
    /// Read up to the end that there is now; more may come.
    CaughtUp,
    /// Read to the end, and nothing comes after it.
    Ended,
}

/// What a poll has read.
pub struct Polled<T> {
    /// The records read, with the offset of each for messages (a byte offset, a log offset).
    pub(crate) records: Vec<crate::record::Record<T>>,
    /// The records that could not be read as a `T`.
    pub(crate) malformed: Vec<Malformed>,
    bytes: usize,
}

impl<T> Default for Polled<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Polled<T> {
    pub(crate) fn with_capacity(records: usize) -> Self {
        Self { records: Vec::with_capacity(records), malformed: Vec::new(), bytes: 0 }
    }

    /// Nothing read yet; for tests of a connector.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Takes out what was read so far, for tests of a connector: records with their offsets, and malformed ones with
    /// offset, error and raw bytes.
    pub fn take(&mut self) -> (Vec<(u64, T)>, Vec<(u64, String, Vec<u8>)>) {
        self.bytes = 0;
        let records = self.records.drain(..).map(|r| (r.hash, r.value)).collect();
        let malformed = self.malformed.drain(..).map(|m| (m.offset, m.error, m.raw)).collect();
        (records, malformed)
    }

    /// Adds a record that stands at `offset` of its partition.
    #[inline]
    pub fn record(&mut self, offset: u64, value: T) {
        self.records.push(crate::record::Record { timestamp: i64::MIN, hash: offset, value });
    }

    /// Adds something that stands at `offset` and is no `T`; the job's policy for this source decides what happens.
    #[cold]
    pub fn malformed(&mut self, offset: u64, error: impl Into<String>, raw: &[u8]) {
        self.malformed.push(Malformed { offset, error: error.into(), raw: raw.to_vec() });
    }

    /// Says that what was polled took so many bytes more where it came from. It bounds what is in flight, which otherwise
    /// only the number of records does; it need not be exact.
    pub fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// The number of records and malformed records so far.
    pub fn len(&self) -> usize {
        self.records.len() + self.malformed.len()
    }

    /// True if nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that a source read and could not make a record of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) offset: u64,
    pub(crate) error: String,
    pub(crate) raw: Vec<u8>,
}

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

/// A record of a dead-letter sink: what a source or a parsing step could not read, where it stood and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// The name of the source, or of the parsing step, in the job.
    pub source: String,
    /// The partition's name. None behind an exchange or a union, where a record's place is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The offset in the partition (for a file the byte offset of the line's start); known where the partition is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong with it.
    pub error: String,
    /// The record as it was read, if it is UTF-8; behind a step `try_map`, the record as JSON. Not there if `event_time`
    /// found its time not plausible: the record has become a value of the job's by then. Partition and offset say where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The record as it was read, in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
}
