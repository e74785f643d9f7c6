//! Follows the second topic as a reader of committed messages, on a thread of its own: how many rows are visible, and for how long no
//! new one was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use tidegate_protocol::Result;

use super::background::{Background, Signals};
use super::topics::Topics;

/// The thread that reads.
pub(super) struct Reader {
    thread: Background<()>,
    seen: Arc<Mutex<Seen>>,
}

/// What a reader has seen.
#[derive(Default)]
struct Seen {
    rows: u64,
    first: Option<Instant>,
    /// When the last row of each partition came.
    last: Vec<Option<Instant>>,
    /// When no more rows were written.
    written: Option<Instant>,
    longest: Block,
}

/// For how long a partition had no new row, and since when.
#[derive(Clone, Copy, Default)]
pub(super) struct Block {
    pub(super) duration: Duration,
    pub(super) since: Option<Instant>,
}

impl Block {
    fn longer(self, since: Instant, until: Instant) -> Self {
        let duration = until - since;
        if duration > self.duration { Self { duration, since: Some(since) } } else { self }
    }
}

impl Seen {
    fn row(&mut self, partition: usize, now: Instant) {
        self.rows += 1;
        self.first.get_or_insert(now);
        if let Some(last) = self.last.get_mut(partition) {
            let before = last.replace(now);
            // After the last row was written, partitions are quiet because there is nothing to read.
            if let Some(before) = before.filter(|before| self.written.is_none_or(|written| *before < written))
            {
                self.longest = self.longest.longer(before, now);
            }
        }
    }

    /// The same for partitions in which rows are missing: they are blocked up to now.
    fn end(&mut self, is_complete: bool, now: Instant) {
        let open = self.last.iter().flatten().filter(|_| !is_complete);
        self.longest = open.fold(self.longest, |longest, last| longest.longer(*last, now));
    }
}

impl Reader {
    /// Starts to read.
    pub(super) fn start(topics: &Topics) -> Result<Self> {
        let consumer = topics.consumer(&topics.counted)?;
        let seen = Arc::new(Mutex::new(Seen { last: vec![None; topics.partitions], ..Seen::default() }));
        let of_thread = seen.clone();
        let thread = Background::start("reader", move |signals| follow(&consumer, &of_thread, signals))?;
        Ok(Self { thread, seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// How many rows are visible.
    pub(super) fn rows(&self) -> u64 {
        self.seen().rows
    }

    /// When the first row came.
    pub(super) fn first(&self) -> Option<Instant> {
        self.seen().first
    }

    /// No more rows are written from now on.
    pub(super) fn all_written(&self) {
        self.seen().written.get_or_insert_with(Instant::now);
    }

    /// Ends it: the longest time for which a partition had no new row, while rows were written or missing.
    pub(super) fn longest_block(self, is_complete: bool) -> Result<Block> {
        self.thread.result()?;
        let mut seen = lock(&self.seen);
        seen.end(is_complete, Instant::now());
        Ok(seen.longest)
    }
}

/// Errors are those of brokers that are away: a fault, or what ends the waiting for rows.
fn follow(consumer: &BaseConsumer, seen: &Mutex<Seen>, signals: &Signals) {
    while !signals.to_stop() {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            lock(seen).row(message.partition() as usize, Instant::now());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_that_of_one_partition_and_begins_while_rows_are_written() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut seen = Seen { last: vec![None; 3], ..Seen::default() };
        seen.row(0, at(10));
        seen.row(1, at(10));
        seen.row(1, at(12));
        seen.row(0, at(14));
        assert_eq!((seen.longest.duration, seen.longest.since), (Duration::from_secs(4), Some(at(10))));
        seen.written = Some(at(15));
        seen.row(1, at(18));
        assert_eq!(seen.longest.duration, Duration::from_secs(6), "it began before the end");
        seen.row(1, at(30));
        seen.end(true, at(40));
        assert_eq!(seen.longest.duration, Duration::from_secs(6), "there was nothing to read");
        seen.end(false, at(40));
        assert_eq!(seen.longest.duration, Duration::from_secs(26), "partition 0 is blocked still");
    }
}
