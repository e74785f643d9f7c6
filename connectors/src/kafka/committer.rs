//! Commits how far a job has read as offsets of its consumer group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_connector_api::{Position, PositionCommitter};
use tidegate_protocol::Result;

use super::consumer::Consumer;
use super::names::{PartitionName, TopicPosition};
use super::settings::Settings;

/// How often offsets are committed that have not changed: brokers forget those of a quiet partition after a week
/// (`offsets.retention.minutes`), and an older attempt may have written its own.
const AGAIN: Duration = Duration::from_secs(3_600);

/// The offsets of the consumer group `group.id`.
pub(super) struct GroupCommitter {
    settings: Settings,
    /// Made when there is something to commit.
    consumer: Option<Consumer>,
    committed: BTreeMap<String, i64>,
    /// When all of them are committed again.
    again: Instant,
}

impl GroupCommitter {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, consumer: None, committed: BTreeMap::new(), again: Instant::now() + AGAIN }
    }

    /// Forgets from time to time what was committed, so that it is committed again.
    fn forget(&mut self, now: Instant) {
        if now >= self.again {
            self.again = now + AGAIN;
            self.committed.clear();
        }
    }
}

impl PositionCommitter for GroupCommitter {
    fn commit(&mut self, positions: &BTreeMap<String, Position>) -> Result<()> {
        self.forget(Instant::now());
        let mut offsets = BTreeMap::new();
        for (partition, position) in positions {
            let reached = PartitionName::parse(partition)?.position(position)?;
            if let TopicPosition::Offset(offset) = reached
                && self.committed.get(partition) != Some(&offset)
            {
                offsets.insert(partition.clone(), offset);
            }
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            none => none.insert(Consumer::new(&self.settings)?),
        };
        consumer.commit(&offsets)?;
        self.committed.extend(offsets);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_do_not_change_are_committed_every_hour() {
        let mut committer = GroupCommitter::new(Settings::default());
        committer.committed.insert("t-0".to_owned(), 5);
        let now = Instant::now();
        committer.forget(now + Duration::from_secs(3_000));
        assert_eq!(committer.committed.len(), 1);
        committer.forget(now + Duration::from_secs(3_700));
        assert!(committer.committed.is_empty());
        committer.committed.insert("t-0".to_owned(), 5);
        committer.forget(now + Duration::from_secs(3_800));
        assert_eq!(committer.committed.len(), 1);
    }
}
