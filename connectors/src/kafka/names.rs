//! What a partition is called: the topic and the number, `sensor-data-0`.

use std::fmt;

use tidegate_connector_api::Position;
use tidegate_protocol::{Error, Result};

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionName<'a> {
    pub(super) topic: &'a str,
    pub(super) number: i32,
}

impl<'a> PartitionName<'a> {
    pub(super) fn parse(name: &'a str) -> Result<Self> {
        let parsed = name.rsplit_once('-').and_then(|(topic, number)| {
            let number = number.parse().ok().filter(|number| *number >= 0)?;
            (!topic.is_empty()).then_some(Self { topic, number })
        });
        parsed.ok_or_else(|| {
            Error::job(format!("{name:?} is not a partition of a topic, which is called TOPIC-NUMBER"))
        })
    }

    /// A position in the partition, as snapshots have it.
    pub(super) fn position(&self, position: &Position) -> Result<TopicPosition> {
        if position == DELETED {
            return Ok(TopicPosition::Deleted);
        }
        let offset = position.as_i64().filter(|offset| *offset >= 0).map(TopicPosition::Offset);
        offset.ok_or_else(|| {
            Error::job(format!("the position {position} of partition {self} is not an offset"))
        })
    }
}

/// The position in a partition whose topic was deleted.
const DELETED: &str = "deleted";

/// How far a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicPosition {
    /// The offset of the next message.
    Offset(i64),
    /// The topic was deleted; if there is one of that name again, it is another one.
    Deleted,
}

impl From<TopicPosition> for Position {
    fn from(position: TopicPosition) -> Self {
        match position {
            TopicPosition::Offset(offset) => offset.into(),
            TopicPosition::Deleted => DELETED.into(),
        }
    }
}

impl fmt::Display for PartitionName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_have_hyphens_and_digits() {
        let name = PartitionName::parse("sensor-data-2-11").unwrap();
        assert_eq!(name, PartitionName { topic: "sensor-data-2", number: 11 });
        assert_eq!(name.to_string(), "sensor-data-2-11");
        for text in ["", "a", "a-", "-3", "a-x", "a--1"] {
            assert!(PartitionName::parse(text).is_err() || text == "a--1", "{text}");
        }
        for position in [TopicPosition::Offset(3), TopicPosition::Deleted] {
            assert_eq!(name.position(&position.into()).unwrap(), position);
        }
        assert!(name.position(&(-3).into()).is_err() && name.position(&"3".into()).is_err());
    }
}
