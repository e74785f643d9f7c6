//! Topics, as a source.

use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use tidegate_connector_api::{Position, PositionCommitter, Source, SourceReader};
use tidegate_protocol::{Error, Result};

use super::committer::GroupCommitter;
use super::consumer::Consumer;
use super::format::{Bytes, Json, MessageFormat, Utf8, With};
use super::message::Message;
use super::names::{PartitionName, TopicPosition};
use super::reader::TopicReader;
use super::settings::Settings;
use super::start::Start;
use super::topics::{KnownTopics, Topics};

/// Topics whose messages have no format yet: call [`TopicSource::json`] or another one.
#[derive(Clone, Debug)]
pub struct TopicSource {
    settings: Settings,
    topics: Topics,
    start: Start,
    followed: bool,
}

impl TopicSource {
    pub(super) fn new(settings: Settings, topics: Topics) -> Self {
        Self { settings, topics, start: Start::Earliest, followed: false }
    }

    /// Where to begin when the job starts for the first time; [`Start::Earliest`] if nothing is said.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Whether to wait for what is written later, and for new partitions, instead of ending where the partitions end at the
    /// start, without the flag `--follow` too.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.followed = follow;
        self
    }

    /// Reads every value as the JSON of a `T`.
    #[must_use]
    pub fn json<T: DeserializeOwned + 'static>(self) -> KafkaSource<Json<T>> {
        KafkaSource::new(self, Json::new())
    }

    /// Reads every value as it is.
    #[must_use]
    pub fn bytes(self) -> KafkaSource<Bytes> {
        KafkaSource::new(self, Bytes)
    }

    /// Reads every value as text.
    #[must_use]
    pub fn utf8(self) -> KafkaSource<Utf8> {
        KafkaSource::new(self, Utf8)
    }

    /// Reads every message by a function, which has its key, headers, timestamp, partition and offset at hand. What it refuses
    /// is malformed.
    #[must_use]
    pub fn read_by<T, F>(self, read: F) -> KafkaSource<With<F>>
    where
        T: 'static,
        F: Fn(&Message<'_>) -> std::result::Result<T, String> + Clone + Send + Sync + 'static,
    {
        KafkaSource::new(self, With(read))
    }
}

/// Topics whose messages are read in a format.
///
/// See [the outcomes](super) of everything that can be wrong with a message, a topic or the brokers.
#[derive(Clone, Debug)]
pub struct KafkaSource<F> {
    topic: TopicSource,
    format: F,
    known: Arc<Mutex<Known>>,
}

/// What was known of the topics last, and the client that asks for it.
#[derive(Default)]
struct Known {
    consumer: Option<Consumer>,
    topics: KnownTopics,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.topics.fmt(f)
    }
}

impl<F: MessageFormat> KafkaSource<F> {
    pub(super) fn new(topic: TopicSource, format: F) -> Self {
        Self { topic, format, known: Arc::default() }
    }

    /// Asks by the client for such questions, which is made at the first one.
    fn ask<T>(&self, question: impl FnOnce(&Consumer, &mut KnownTopics) -> Result<T>) -> Result<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { consumer, topics } = &mut *known;
        let consumer = match consumer {
            Some(consumer) => consumer,
            none => none.insert(Consumer::new(&self.topic.settings)?),
        };
        question(consumer, topics)
    }

    fn has_group(&self) -> Result<bool> {
        Ok(self.topic.settings.value("group.id")?.is_some())
    }
}

impl<F: MessageFormat> Source for KafkaSource<F> {
    type Item = F::Item;

    fn uri(&self) -> Result<String> {
        self.topic.settings.check()?;
        self.format.check()?;
        if matches!(self.topic.start, Start::Committed(_)) && !self.has_group()? {
            return Err(Error::job(
                "a source is to start where a consumer group has come to: say which one, by the Kafka setting group.id",
            ));
        }
        self.topic.topics.uri()
    }

    fn partitions(&self) -> Result<Vec<String>> {
        let topics = &self.topic.topics;
        let partitions = self.ask(|consumer, known| known.partitions(topics, consumer))?;
        if partitions.is_empty() && self.bounded() {
            let uri = topics.uri()?;
            return Err(Error::job(format!("there is no topic that {uri} means, and so nothing to read")));
        }
        if !topics.may_go() {
            self.topic.start.check(&partitions)?;
        }
        Ok(partitions)
    }

    fn initial(&self, partition: &str) -> Result<Option<Position>> {
        let name = PartitionName::parse(partition)?;
        self.ask(|consumer, known| {
            let topics = &self.topic.topics;
            if topics.may_go() {
                // Only now: a topic that was there at the first start may be deleted at a later one.
                let all = if known.is_empty() { known.partitions(topics, consumer)? } else { known.names() };
                self.topic.start.check(&all)?;
            }
            self.topic.start.of(name, consumer)
        })
    }

    fn committer(&self) -> Result<Option<Box<dyn PositionCommitter>>> {
        let committer =
            || -> Box<dyn PositionCommitter> { Box::new(GroupCommitter::new(self.topic.settings.clone())) };
        Ok(self.has_group()?.then(committer))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<F::Item>>> {
        let TopicSource { settings, topics, followed, .. } = &self.topic;
        let consumer = Consumer::new(settings)?;
        Ok(Box::new(TopicReader::new(consumer, self.format.clone(), !followed, topics.may_go())))
    }

    fn bounded(&self) -> bool {
        !self.topic.followed
    }

    fn follow(&mut self) {
        self.topic.followed = true;
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        let name = PartitionName::parse(partition)?;
        let TopicPosition::Offset(read) = name.position(position)? else { return Ok(false) };
        let may_go = self.topic.topics.may_go();
        self.ask(|consumer, _| {
            let is_deleted = may_go && matches!(consumer.partitions_now(name.topic), Ok(None));
            Ok(!is_deleted && consumer.ends(name.topic, name.number)?.1 > read)
        })
    }
}
