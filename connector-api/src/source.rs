//! A source: something with named partitions, each a sequence of records.

use tidegate_protocol::Result;

use crate::polled::Polled;

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
