//! Sources in memory: one that is filled before the run, one that a test fills while the job runs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_connector_api::{PartitionStatus, Polled, Position, Source, SourceReader};
use tidegate_protocol::{Error, Result};

/// How long a test waits for its records to be read before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An entry of a source: a record, or something that cannot be read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// A record.
    Record(T),
    /// The text of an entry that is not a record.
    Malformed(String),
}

/// A bounded source of records that are there from the beginning.
///
/// ```
/// use tidegate::OnError;
/// use tidegate::testing::{Item, VecSource, collect};
///
/// let numbers = VecSource::items(vec![vec![Item::Record(1), Item::Malformed("one".to_owned()), Item::Record(2)]]);
/// let out = collect(move |job| Ok(job.source("numbers", numbers.clone()).on_error(OnError::Skip)))?;
/// assert_eq!(out, [1, 2]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Debug)]
pub struct VecSource<T>(TestSource<T>);

impl<T> Clone for VecSource<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> VecSource<T> {
    /// One partition.
    pub fn of(records: impl IntoIterator<Item = T>) -> Self {
        Self::partitions([records])
    }

    /// Several partitions: `partition-0`, `partition-1`, and so on.
    pub fn partitions(partitions: impl IntoIterator<Item = impl IntoIterator<Item = T>>) -> Self {
        Self::items(partitions.into_iter().map(|records| records.into_iter().map(Item::Record)))
    }

    /// Several partitions with malformed entries among the records. The place of an entry in its partition, from 0, is its
    /// offset.
    pub fn items(partitions: impl IntoIterator<Item = impl IntoIterator<Item = Item<T>>>) -> Self {
        let all = partitions.into_iter().map(|items| Log::of(items.into_iter().collect(), true)).collect();
        Self(TestSource::made_of(all, true))
    }

    /// What the source reads, as a snapshot knows it; all are the same until they are told apart.
    pub fn called(self, name: &str) -> Self {
        Self(self.0.called(name))
    }
}

impl<T: Clone + Send + 'static> Source for VecSource<T> {
    type Item = T;

    fn uri(&self) -> Result<String> {
        self.0.uri()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.0.partitions()
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<T>>> {
        self.0.reader()
    }

    fn bounded(&self) -> bool {
        true
    }

    /// What it holds is all that it will ever hold.
    fn follow(&mut self) {}

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        self.0.has_more(partition, position)
    }
}

/// A source that a test fills while the job runs. Clones are the same source: give one to the job, fill the other.
///
/// A partition that has been read as far as it was filled waits for more, until it is ended. See the example of
/// [`crate::testing`].
#[derive(Debug)]
pub struct TestSource<T> {
    uri: Arc<str>,
    bounded: bool,
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    logs: Mutex<Vec<Log<T>>>,
    read: Condvar,
}

/// One partition.
#[derive(Debug)]
struct Log<T> {
    items: Vec<Item<T>>,
    ended: bool,
    /// How far the running attempt has read.
    read: usize,
}

impl<T> Log<T> {
    fn of(items: Vec<Item<T>>, ended: bool) -> Self {
        Self { items, ended, read: 0 }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Log<T>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for TestSource<T> {
    fn clone(&self) -> Self {
        Self { uri: self.uri.clone(), bounded: self.bounded, shared: self.shared.clone() }
    }
}

impl<T> TestSource<T> {
    /// A source with so many empty partitions: `partition-0`, `partition-1`, and so on. Once all are ended, so is the
    /// source.
    pub fn new(partitions: usize) -> Self {
        Self::made_of((0..partitions).map(|_| Log::of(Vec::new(), false)).collect(), true)
    }

    /// A source that is followed for ever: partitions may end and may be added, and the job runs until it is stopped.
    pub fn followed(partitions: usize) -> Self {
        Self { bounded: false, ..Self::new(partitions) }
    }

    fn made_of(logs: Vec<Log<T>>, bounded: bool) -> Self {
        let shared = Shared { logs: Mutex::new(logs), read: Condvar::new() };
        Self { uri: "memory".into(), bounded, shared: Arc::new(shared) }
    }

    /// What the source reads, as a snapshot knows it; all are the same until they are told apart.
    pub fn called(self, name: &str) -> Self {
        Self { uri: format!("memory {name}").into(), ..self }
    }

    /// Adds a record to a partition.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn push(&self, partition: usize, record: T) {
        self.extend(partition, [record]);
    }

    /// Adds records to a partition, which the job sees at once.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn extend(&self, partition: usize, records: impl IntoIterator<Item = T>) {
        let records: Vec<Item<T>> = records.into_iter().map(Item::Record).collect();
        self.shared.lock()[partition].items.extend(records);
    }

    /// Adds an entry to a partition that is not a record.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn push_malformed(&self, partition: usize, raw: &str) {
        self.shared.lock()[partition].items.push(Item::Malformed(raw.to_owned()));
    }

    /// Adds an empty partition; a running job finds it within about a second.
    pub fn add_partition(&self) {
        self.shared.lock().push(Log::of(Vec::new(), false));
    }

    /// Ends a partition: nothing will come after what it holds.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn end_partition(&self, partition: usize) {
        self.shared.lock()[partition].ended = true;
    }

    /// Ends all partitions.
    pub fn end(&self) {
        self.shared.lock().iter_mut().for_each(|log| log.ended = true);
    }

    /// Waits until the job has read all that is there. It need not have done anything with it yet.
    ///
    /// # Panics
    /// If it has not after a minute.
    pub fn wait_until_read(&self) {
        let until = Instant::now() + PATIENCE;
        let mut logs = self.shared.lock();
        while logs.iter().any(|log| log.read < log.items.len()) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the job has not read its input in a minute");
            logs = self.shared.read.wait_timeout(logs, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T: Clone + Send + 'static> Source for TestSource<T> {
    type Item = T;

    fn uri(&self) -> Result<String> {
        Ok(self.uri.to_string())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        Ok((0..self.shared.lock().len()).map(|number| format!("partition-{number}")).collect())
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<T>>> {
        Ok(Box::new(Reader { open: Vec::new(), shared: self.shared.clone() }))
    }

    fn bounded(&self) -> bool {
        self.bounded
    }

    fn follow(&mut self) {
        self.bounded = false;
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        let (number, at) = (number_of(partition)?, index(partition, position)?);
        Ok(self.shared.lock().get(number).is_some_and(|log| log.items.len() > at))
    }
}

fn number_of(name: &str) -> Result<usize> {
    let number = name.strip_prefix("partition-").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::job(format!("'{name}' is not a partition of this source")))
}

fn index(partition: &str, position: &Position) -> Result<usize> {
    let index = position.as_u64().map(|index| index as usize);
    let error = || Error::job(format!("'{partition}' cannot be read from {position}: it is not an index"));
    index.ok_or_else(error)
}

/// What one worker reads.
struct Reader<T> {
    /// The number of each open partition, and how far it was read.
    open: Vec<(usize, usize)>,
    shared: Arc<Shared<T>>,
}

impl<T: Clone> SourceReader<T> for Reader<T> {
    fn open(&mut self, name: &str, position: Option<&Position>) -> Result<()> {
        let number = number_of(name)?;
        let at = position.map_or(Ok(0), |position| index(name, position))?;
        let mut logs = self.shared.lock();
        match logs.get_mut(number) {
            Some(log) if at <= log.items.len() => log.read = at,
            Some(log) => {
                let have = log.items.len();
                return Err(Error::job(format!(
                    "'{name}' has {have} entries, and the snapshot has read {at}"
                )));
            }
            None => return Err(Error::job(format!("the partition '{name}' is gone"))),
        }
        self.open.push((number, at));
        Ok(())
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<T>, budget: usize) -> Result<PartitionStatus> {
        let (number, at) = &mut self.open[partition];
        let mut logs = self.shared.lock();
        let log = &mut logs[*number];
        let until = log.items.len().min(*at + budget);
        for (offset, item) in log.items[*at..until].iter().enumerate() {
            let offset = (*at + offset) as u64;
            match item {
                Item::Record(record) => out.record(offset, record.clone()),
                Item::Malformed(raw) => out.malformed(offset, "not a record", raw.as_bytes()),
            }
        }
        let news = until > *at;
        (*at, log.read) = (until, until);
        let status = match until < log.items.len() {
            true => PartitionStatus::More,
            false if log.ended => PartitionStatus::Ended,
            false => PartitionStatus::CaughtUp,
        };
        drop(logs);
        if news {
            self.shared.read.notify_all();
        }
        Ok(status)
    }

    fn position(&self, partition: usize) -> Position {
        self.open[partition].1.into()
    }
}
