//! Commits how far a job has read as offsets of its consumer group.

use std::collections::BTreeMap;

use tidegate_connector_api::{Position, PositionCommitter};
use tidegate_protocol::Result;

use super::consumer::Consumer;
use super::names::{PartitionName, TopicPosition};
use super::settings::Settings;

/// The offsets of the consumer group `group.id`.
pub(super) struct GroupCommitter {
    settings: Settings,
    /// Made when there is something to commit.
    consumer: Option<Consumer>,
    committed: BTreeMap<String, i64>,
}

impl GroupCommitter {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, consumer: None, committed: BTreeMap::new() }
    }
}

impl PositionCommitter for GroupCommitter {
    fn commit(&mut self, positions: &BTreeMap<String, Position>) -> Result<()> {
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
