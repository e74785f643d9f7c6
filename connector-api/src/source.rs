//! A source: something with named partitions, each a sequence of records.

use std::collections::BTreeMap;

use tidegate_protocol::Result;

use crate::polled::Polled;

/// Where reading goes on in a partition, in the connector's own form (a byte offset, a log offset, a token).
pub type Position = serde_json::Value;

/// A source: something with named partitions, each a sequence of records.
///
/// It is the description of what is read; what reads is its [`SourceReader`], of which every worker has one. The engine asks it
/// for partitions on a thread of its own, so it is shared between threads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source",
    label = "not a source",
    note = "a source of files says what its lines are: `FileLog::partitions(directory).json::<Reading>()`, with a record that \
            derives serde's `Deserialize`"
)]
pub trait Source: Send + Sync + 'static {
    /// The type of a record.
    type Item: 'static;

    /// What the source reads, in a form that is the same at every start (an absolute directory, a topic's name).
    /// A job that is restarted with another one is refused.
    fn uri(&self) -> Result<String>;

    /// The names of the partitions there are now, in any order.
    ///
    /// Called at the start, and about once a second for a source that is not bounded, on a thread for which nothing else
    /// waits; a partition that appears later is read from its beginning.
    ///
    /// # Errors
    /// If the source is not there or cannot be read; the job ends. If such a failure may be temporary, return the last
    /// known names instead.
    fn partitions(&self) -> Result<Vec<String>>;

    /// Where to begin in a partition that there is when the job starts for the first time; None: at its beginning. Those
    /// that appear later are read from their beginning in any case.
    ///
    /// # Errors
    /// If that cannot be found out; the job ends.
    fn initial(&self, partition: &str) -> Result<Option<Position>> {
        let _ = partition;
        Ok(None)
    }

    /// Makes what others see how far the job has read by (the offsets of a consumer group); None, unless it is implemented.
    ///
    /// # Errors
    /// If that was asked for in a way that cannot be; the job ends.
    fn committer(&self) -> Result<Option<Box<dyn PositionCommitter>>> {
        Ok(None)
    }

    /// Makes the reader of one worker, which reads no partition yet.
    ///
    /// # Errors
    /// If the source cannot be reached; the job ends.
    fn reader(&self) -> Result<Box<dyn SourceReader<Self::Item>>>;

    /// True if a partition ends at its current end; false if it is followed as it grows.
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

/// A source that is chosen at run time.
impl<T: 'static> Source for Box<dyn Source<Item = T>> {
    type Item = T;

    fn uri(&self) -> Result<String> {
        (**self).uri()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        (**self).partitions()
    }

    fn initial(&self, partition: &str) -> Result<Option<Position>> {
        (**self).initial(partition)
    }

    fn committer(&self) -> Result<Option<Box<dyn PositionCommitter>>> {
        (**self).committer()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<T>>> {
        (**self).reader()
    }

    fn bounded(&self) -> bool {
        (**self).bounded()
    }

    fn follow(&mut self) {
        (**self).follow();
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        (**self).has_more(partition, position)
    }
}

/// Reports to others how far a job has read: people, and tools that watch the lag. Nothing of the job depends on it.
pub trait PositionCommitter: Send {
    /// A snapshot is complete in which partitions, by their names, were read up to these positions. Called on a thread of its own,
    /// in every process with the partitions of its workers; not for every snapshot, if it takes longer than one.
    ///
    /// # Errors
    /// If it cannot be reported; that is logged, and tried again with the next snapshot.
    fn commit(&mut self, positions: &BTreeMap<String, Position>) -> Result<()>;
}

/// Reads the partitions that were assigned to one worker. What they share (a connection, a consumer) is here.
///
/// Its partitions are numbered from 0, in the order in which they were opened.
pub trait SourceReader<T> {
    /// Opens the next partition at its beginning (`None`) or where [`SourceReader::position`] said.
    ///
    /// # Errors
    /// If the partition is gone or the position cannot be reached; the job ends.
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()>;

    /// Appends up to about `budget` records of a partition to `out`, without waiting for any.
    ///
    /// # Errors
    /// If reading fails; the job ends, and a restart reads on from the last snapshot.
    fn poll(&mut self, partition: usize, out: &mut Polled<T>, budget: usize) -> Result<PartitionStatus>;

    /// Where reading goes on after the records of a partition that were polled so far.
    fn position(&self, partition: usize) -> Position;
}

/// What a poll found out about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionStatus {
    /// There may be more at once.
    More,
    /// Nothing has arrived, and it is not known to be the end: a fetch is under way. The partition is asked again a little later.
    /// It does not become idle by this; one that was caught up before is taken for caught up until a record comes.
    Pending,
    /// Nothing has arrived, and the present end is not known, because whatever holds the partition does not answer. That time does not
    /// count: a partition that is not idle does not become idle by it, and one that is idle stays so.
    Unavailable,
    /// Read up to the current end; more may come. A partition that stays in this state becomes idle, if the job sets a time
    /// for that.
    CaughtUp,
    /// Read to the end, and nothing comes after it.
    Ended,
}
