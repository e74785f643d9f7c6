//! Watches the last stable offsets of the second topic, on a thread of its own: for how long one stays behind the high watermark,
//! because a transaction is open there, readers of committed messages are blocked.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use tidegate_protocol::Result;

use super::background::{Background, Signals};
use super::topics::{Topics, cannot};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long brokers may take to answer.
const REQUEST: Duration = Duration::from_secs(2);

/// The thread that watches.
pub(super) struct StableOffsets(Background<Duration>);

/// Two clients, which see different ends: with and without what is in open transactions.
struct Watcher {
    all: BaseConsumer,
    committed: BaseConsumer,
    topic: String,
}

/// The offset at which a partition's readers were blocked last, and since when.
#[derive(Clone, Default)]
struct Blocked(Option<(i64, Instant)>);

impl Blocked {
    /// For how long it has been blocked at its present offset.
    fn look(&mut self, stable: i64, end: i64, now: Instant) -> Duration {
        match self.0 {
            _ if stable >= end => self.0 = None,
            Some((offset, since)) if offset == stable => return now - since,
            _ => self.0 = Some((stable, now)),
        }
        Duration::ZERO
    }
}

impl StableOffsets {
    /// Starts to watch.
    pub(super) fn start(topics: &Topics) -> Result<Self> {
        let topic = topics.counted.clone();
        let client = |isolation: &str| -> Result<BaseConsumer> {
            topics.config(isolation)?.create().map_err(|error| cannot("watch", &topic).caused_by(error))
        };
        let (all, committed) = (client("read_uncommitted")?, client("read_committed")?);
        let (watcher, partitions) = (Watcher { all, committed, topic }, topics.partitions);
        Background::start("stable-offsets", move |signals| watcher.watch(partitions, signals)).map(Self)
    }

    /// Ends it: the longest time for which one transaction has blocked readers.
    pub(super) fn longest(self) -> Result<Duration> {
        self.0.result()
    }
}

impl Watcher {
    fn watch(&self, partitions: usize, signals: &Signals) -> Duration {
        let (mut blocked, mut longest) = (vec![Blocked::default(); partitions], Duration::ZERO);
        while !signals.to_stop() {
            for (partition, blocked) in blocked.iter_mut().enumerate() {
                // Brokers that do not answer leave open what was known.
                let Some((stable, end)) = self.ends(partition as i32) else { continue };
                longest = longest.max(blocked.look(stable, end, Instant::now()));
            }
            thread::sleep(INTERVAL);
        }
        longest
    }

    /// In this order: what is written in between is no open transaction.
    fn ends(&self, partition: i32) -> Option<(i64, i64)> {
        let end = |client: &BaseConsumer| client.fetch_watermarks(&self.topic, partition, REQUEST).ok();
        let (_, high_watermark) = end(&self.all)?;
        let (_, last_stable) = end(&self.committed)?;
        Some((last_stable, high_watermark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_after_the_other_is_no_block() {
        let began = Instant::now();
        let mut blocked = Blocked::default();
        let mut look = |stable, end, at| blocked.look(stable, end, began + Duration::from_secs(at)).as_secs();
        assert_eq!([look(5, 5, 0), look(5, 9, 1), look(5, 12, 4)], [0, 0, 3]);
        assert_eq!([look(12, 15, 5), look(15, 18, 6), look(18, 18, 7), look(18, 20, 8)], [0; 4]);
        assert_eq!(look(18, 20, 10), 2);
    }
}
