//! Where the partitions of topics are read from at the first start of a job.

use std::collections::BTreeMap;

use tidegate_connector_api::Position;
use tidegate_protocol::{Error, Result};

use super::consumer::Consumer;
use super::names::PartitionName;

/// Where the partitions of a topic are read from that there are when a job starts for the first time. Those that are made later
/// are read from their beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first message that is still there.
    Earliest,
    /// From what is written after the start.
    Latest,
    /// From the first message whose timestamp is this one or later, in milliseconds since the Unix epoch.
    Timestamp(i64),
    /// From where the consumer group `group.id` has committed that it has come to; where it has not, as said here.
    Committed(Reset),
    /// From these offsets, by topic and number of the partition; all others from the first message that is still there.
    Offsets(BTreeMap<(String, i32), i64>),
}

/// What to do with a partition for which a consumer group has committed no offset, as Kafka's `auto.offset.reset` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Read it from the first message that is still there.
    Earliest,
    /// Read what is written after the start.
    Latest,
    /// End the job with an error.
    None,
}

impl Start {
    /// From these offsets: of a topic, and the number of a partition. All others are read from their beginning.
    pub fn offsets(offsets: impl IntoIterator<Item = (impl Into<String>, i32, i64)>) -> Self {
        Self::Offsets(
            offsets.into_iter().map(|(topic, number, offset)| ((topic.into(), number), offset)).collect(),
        )
    }

    /// An error if an offset was given for a partition that is not there: nothing would begin there.
    pub(super) fn check(&self, partitions: &[String]) -> Result<()> {
        let Self::Offsets(offsets) = self else { return Ok(()) };
        for (topic, number) in offsets.keys() {
            let name = PartitionName { topic, number: *number }.to_string();
            if !partitions.contains(&name) {
                return Err(Error::job(format!(
                    "an offset to start at is given for partition {number} of the topic {topic}, which the source does not read or \
                     which does not exist"
                )));
            }
        }
        Ok(())
    }

    /// Where to begin in a partition; None: at its beginning.
    pub(super) fn of(&self, name: PartitionName<'_>, consumer: &Consumer) -> Result<Option<Position>> {
        let end = || -> Result<_> { Ok(Some(consumer.ends(name.topic, name.number)?.1)) };
        let offset = match self {
            Self::Earliest => None,
            Self::Latest => end()?,
            Self::Timestamp(timestamp) => Some(consumer.offset_at(name.topic, name.number, *timestamp)?),
            Self::Committed(reset) => match (consumer.committed(name)?, reset) {
                (Some(offset), _) => Some(inside(name, offset, consumer)?),
                (None, Reset::Earliest) => None,
                (None, Reset::Latest) => end()?,
                (None, Reset::None) => {
                    return Err(Error::job(format!(
                        "the consumer group {} has committed no offset of {name}: say where to read it from, by Reset::Earliest or \
                         Reset::Latest",
                        consumer.group().unwrap_or_default()
                    )));
                }
            },
            Self::Offsets(offsets) => match offsets.get(&(name.topic.to_owned(), name.number)) {
                Some(offset) => Some(inside(name, *offset, consumer)?),
                None => None,
            },
        };
        Ok(offset.map(Position::from))
    }
}

/// An offset that was given from outside; it has to be there.
fn inside(name: PartitionName<'_>, offset: i64, consumer: &Consumer) -> Result<i64> {
    let (first, end) = consumer.ends(name.topic, name.number)?;
    if (first..=end).contains(&offset) {
        return Ok(offset);
    }
    Err(Error::job(format!(
        "partition {} of the topic {} is to be read from offset {offset}, and has the offsets {first} to {end}: say another start",
        name.number, name.topic
    )))
}
