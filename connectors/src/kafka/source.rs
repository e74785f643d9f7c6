//! Topics, as a source.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tidegate_connector_api::{Position, Source, SourceReader};
use tidegate_protocol::{Error, Result};
use tracing::warn;

use super::consumer::Consumer;
use super::format::{Bytes, Json, MessageFormat, Utf8, With};
use super::message::Message;
use super::names::PartitionName;
use super::reader::TopicReader;
use super::settings::Settings;

/// For how long the brokers may not know a topic that they knew before: one that has just started knows little.
const GONE: Duration = Duration::from_secs(15);

/// A topic whose messages have no format yet: call [`TopicSource::json`] or another one.
#[derive(Clone, Debug)]
pub struct TopicSource {
    settings: Settings,
    topic: String,
    start: Start,
    followed: bool,
}

/// Where the partitions of a topic are read from that there are when a job starts for the first time. Those that are made later
/// are read from their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the first message that is still there.
    Earliest,
    /// From what is written after the start.
    Latest,
    /// From the first message whose timestamp is this one or later, in milliseconds since the Unix epoch.
    Timestamp(i64),
}

impl TopicSource {
    pub(super) fn new(settings: Settings, topic: &str) -> Self {
        Self { settings, topic: topic.to_owned(), start: Start::Earliest, followed: false }
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

/// A topic whose messages are read in a format.
///
/// See [the outcomes](super) of everything that can be wrong with a message, a topic or the brokers.
#[derive(Clone, Debug)]
pub struct KafkaSource<F> {
    topic: TopicSource,
    format: F,
    /// What was known of the topic last.
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    consumer: Option<Consumer>,
    topic: KnownTopic,
}

#[derive(Debug, Default)]
struct KnownTopic {
    partitions: Vec<String>,
    /// Since when the brokers do not know the topic.
    gone_since: Option<Instant>,
}

impl KnownTopic {
    /// The brokers do not know the topic: an error, if that stays so.
    fn is_gone(&mut self, topic: &str) -> Result<()> {
        if self.gone_since.get_or_insert_with(Instant::now).elapsed() < GONE {
            return Ok(());
        }
        Err(Error::job(format!(
            "the topic {topic} is not there any more: it was deleted, or the job's user may not see it. Create it again and start \
             with a new checkpoint directory, or give the right back"
        )))
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.topic.fmt(f)
    }
}

impl<F: MessageFormat> KafkaSource<F> {
    fn new(topic: TopicSource, format: F) -> Self {
        Self { topic, format, known: Arc::default() }
    }

    /// Asks by the client for such questions, which is made at the first one.
    fn ask<T>(&self, question: impl FnOnce(&Consumer, &mut KnownTopic) -> Result<T>) -> Result<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { consumer, topic } = &mut *known;
        let consumer = match consumer {
            Some(consumer) => consumer,
            none => none.insert(Consumer::new(&self.topic.settings)?),
        };
        question(consumer, topic)
    }
}

impl<F: MessageFormat> Source for KafkaSource<F> {
    type Item = F::Item;

    fn uri(&self) -> Result<String> {
        self.topic.settings.check()?;
        Ok(format!("kafka:{}", self.topic.topic))
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.ask(|consumer, known| {
            let topic = &self.topic.topic;
            let count = if known.partitions.is_empty() {
                consumer.partitions_of_existing(topic)?
            } else {
                match consumer.partitions_now(topic) {
                    Ok(Some(count)) => count,
                    Ok(None) => return known.is_gone(topic).map(|()| known.partitions.clone()),
                    Err(error) => {
                        warn!(target: "kafka", "the partitions of the topic {topic} cannot be asked for: {error}");
                        return Ok(known.partitions.clone());
                    }
                }
            };
            let name = |number: usize| PartitionName { topic, number: number as i32 }.to_string();
            (known.partitions, known.gone_since) = ((0..count).map(name).collect(), None);
            Ok(known.partitions.clone())
        })
    }

    fn initial(&self, partition: &str) -> Result<Option<Position>> {
        let name = PartitionName::parse(partition)?;
        let offset = match self.topic.start {
            Start::Earliest => return Ok(None),
            Start::Latest => self.ask(|consumer, _| Ok(consumer.ends(name.topic, name.number)?.1))?,
            Start::Timestamp(timestamp) => {
                self.ask(|consumer, _| consumer.offset_at(name.topic, name.number, timestamp))?
            }
        };
        Ok(Some(offset.into()))
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<F::Item>>> {
        let consumer = Consumer::new(&self.topic.settings)?;
        Ok(Box::new(TopicReader::new(consumer, self.format.clone(), !self.topic.followed)))
    }

    fn bounded(&self) -> bool {
        !self.topic.followed
    }

    fn follow(&mut self) {
        self.topic.followed = true;
    }

    fn has_more(&self, partition: &str, position: &Position) -> Result<bool> {
        let name = PartitionName::parse(partition)?;
        let read = name.offset(position)?;
        self.ask(|consumer, _| Ok(consumer.ends(name.topic, name.number)?.1 > read))
    }
}
