//! A topic that a job writes to, as a sink.

use std::time::Duration;

use tidegate_connector_api::{
    DeadLetter, Owner, Publisher, SinkId, SinkPlace, SinkTarget, TransactionalSink, Writer,
};
use tidegate_protocol::{Epoch, Result, Slot};

use super::consumer::Consumer;
use super::delivery::DeliveryGuarantee;
use super::direct::{DirectPublisher, DirectWriter};
use super::outgoing::OutgoingMessage;
use super::publisher::TopicPublisher;
use super::record_format::{JsonValue, Keyed, RecordFormat, WrittenBy};
use super::settings::Settings;
use super::writer::TopicWriter;

/// A topic to write dead letters to, or with [`TopicSink::json`] records of any type.
#[derive(Clone, Debug)]
pub struct TopicSink {
    pub(super) settings: Settings,
    pub(super) topic: String,
    guarantee: DeliveryGuarantee,
    prefix: String,
    pub(super) marker_retention: Duration,
    pub(super) when_unknown: WhenUnknown,
}

/// What to do with output of which it cannot be known any more whether it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnknown {
    /// The job ends, and says what to look for.
    Fail,
    /// It is published; it may be there twice.
    Publish,
    /// It is skipped; it may be missing.
    Skip,
}

impl TopicSink {
    pub(super) fn new(settings: Settings, topic: &str, guarantee: DeliveryGuarantee) -> Self {
        Self {
            settings,
            topic: topic.to_owned(),
            guarantee,
            prefix: "tidegate".to_owned(),
            marker_retention: Duration::from_secs(7 * 86_400),
            when_unknown: WhenUnknown::Fail,
        }
    }

    /// What the sink guarantees; what was said of the [`Kafka`](super::Kafka) if nothing is said here. A job may go on with another one.
    #[must_use]
    pub fn delivery(mut self, guarantee: DeliveryGuarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    /// What the transactional ids begin with, for the rights of the job's user; `tidegate` if nothing is said. The whole id is
    /// `PREFIX.JOB.SINK.SLOT`, and the consumer group with the marker is called the same.
    #[must_use]
    pub fn transactional_id_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.to_owned();
        self
    }

    /// For how long the brokers keep offsets of groups, as their `offsets.retention.minutes` says; seven days if nothing is said.
    #[must_use]
    pub fn marker_retention(mut self, retention: Duration) -> Self {
        self.marker_retention = retention;
        self
    }

    /// What to do after a stop that was longer than [`TopicSink::marker_retention`], if it cannot be known whether the last output
    /// was published; [`WhenUnknown::Fail`] if nothing is said.
    #[must_use]
    pub fn when_unknown(mut self, when_unknown: WhenUnknown) -> Self {
        self.when_unknown = when_unknown;
        self
    }

    /// Writes every record as JSON, without a key.
    #[must_use]
    pub fn json(self) -> KafkaSink<JsonValue> {
        KafkaSink { topic: self, format: JsonValue }
    }

    /// Writes every record as JSON, with a key that is a part of the record.
    #[must_use]
    pub fn json_by_key<T, B, K>(self, key: K) -> KafkaSink<Keyed<K, JsonValue>>
    where
        B: AsRef<[u8]> + ?Sized,
        K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    {
        KafkaSink { topic: self, format: Keyed { key, format: JsonValue } }
    }

    /// Writes every record by a function, which fills in key, value, headers, timestamp, topic and partition.
    #[must_use]
    pub fn write_by<T, F>(self, write: F) -> KafkaSink<WrittenBy<F>>
    where
        F: Fn(&T, &mut OutgoingMessage) -> std::result::Result<(), String> + Clone + Send + Sync + 'static,
    {
        KafkaSink { topic: self, format: WrittenBy(write) }
    }

    fn uri(&self) -> Result<String> {
        self.settings.check()?;
        Ok(format!("kafka:{}", self.topic))
    }

    fn id(&self, sink: &SinkId, slot: Slot) -> String {
        format!("{}.{sink}.{slot}", self.prefix)
    }

    /// Refuses a topic that is not there. Nothing is claimed: a transactional id is, by its producer.
    fn target(&self) -> Result<Box<dyn SinkTarget>> {
        Consumer::new(&self.settings)?.partitions_of_existing(&self.topic)?;
        Ok(Box::new(Topic))
    }

    fn writer<T, F: RecordFormat<T>>(&self, mut format: F, place: &SinkPlace) -> Result<Box<dyn Writer<T>>> {
        format.open(&self.topic)?;
        let topic = self.topic.clone();
        if self.guarantee == DeliveryGuarantee::ExactlyOnce {
            return Ok(Box::new(TopicWriter::new(format, self.id(&place.sink, place.slot), topic, place)));
        }
        let must_arrive = self.guarantee == DeliveryGuarantee::AtLeastOnce;
        Ok(Box::new(DirectWriter::new(&self.settings, topic, format, must_arrive)?))
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Box<dyn Publisher> {
        let publisher = TopicPublisher::new(self.clone(), self.id(sink, slot));
        match self.guarantee {
            DeliveryGuarantee::ExactlyOnce => Box::new(publisher),
            DeliveryGuarantee::AtLeastOnce | DeliveryGuarantee::None => Box::new(DirectPublisher(publisher)),
        }
    }
}

/// A topic as the target of a run. What is staged lies in the checkpoint store, and what is published cannot be taken back: that
/// nothing has to be, the publishers see to.
struct Topic;

impl SinkTarget for Topic {
    fn recover(&mut self, _: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// A topic that records are written to in a format; exactly once, visible an epoch at a time to those who read what is committed,
/// unless another [`DeliveryGuarantee`] is asked for.
///
/// See [the outcomes](super) of everything that can happen to a record, a topic or the brokers.
#[derive(Clone, Debug)]
pub struct KafkaSink<F> {
    pub(super) topic: TopicSink,
    pub(super) format: F,
}

impl<T: 'static, F: RecordFormat<T>> TransactionalSink<T> for KafkaSink<F> {
    fn uri(&self) -> Result<String> {
        self.format.check()?;
        self.topic.uri()
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        let target = self.topic.target()?;
        // What is wrong there is found before a worker starts.
        self.format.clone().open(&self.topic.topic)?;
        Ok(target)
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<T>>> {
        self.topic.writer(self.format.clone(), &place)
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        Ok(self.topic.publisher(sink, slot))
    }
}

impl TransactionalSink<DeadLetter> for TopicSink {
    fn uri(&self) -> Result<String> {
        self.uri()
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        self.target()
    }

    fn writer(&self, place: SinkPlace) -> Result<Box<dyn Writer<DeadLetter>>> {
        self.writer(JsonValue, &place)
    }

    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>> {
        Ok(self.publisher(sink, slot))
    }
}
