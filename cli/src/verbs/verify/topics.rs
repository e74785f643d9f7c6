//! The two topics of a verification.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidegate_connectors::Kafka;
use tidegate_protocol::{Error, Result};

use crate::output::say;

/// How long a read waits for brokers that do not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two topics that belong to this verification, on brokers of the user.
pub(super) struct Topics {
    pub(super) kafka: Kafka,
    pub(super) partitions: usize,
    pub(super) rows: String,
    pub(super) counted: String,
}

impl Topics {
    /// Makes them, under names that nobody else has.
    pub(super) fn create(kafka: Kafka, partitions: usize, replicas: Option<u32>) -> Result<Self> {
        let id = tidegate_access::new_nonce();
        let name = |end: &str| format!("tidegate-verify-{}-{end}", id.get(..8).unwrap_or(&id));
        let topics = Self { kafka, partitions, rows: name("in"), counted: name("out") };
        topics.kafka.create_topic(&topics.rows, partitions, replicas, &[])?;
        topics
            .kafka
            .create_topic(&topics.counted, partitions, replicas, &[])
            .inspect_err(|_| topics.delete())?;
        Ok(topics)
    }

    /// Deletes them. If they cannot be deleted a message says so; what was verified does not fail by it.
    pub(super) fn delete(&self) {
        for topic in [&self.rows, &self.counted] {
            if let Err(error) = self.kafka.delete_topic(topic) {
                say(format_args!("Warning: {error}."));
            }
        }
    }

    /// A consumer's settings that see the messages of committed transactions only, or all.
    pub(super) fn config(&self, isolation: &str) -> Result<ClientConfig> {
        let mut config = self.kafka.client_config()?;
        config.set("isolation.level", isolation).set("enable.auto.commit", "false");
        Ok(config)
    }

    /// A consumer of committed messages, from the beginning of all partitions of a topic. It has a group only because librdkafka
    /// wants one.
    pub(super) fn consumer(&self, topic: &str) -> Result<BaseConsumer> {
        let mut config = self.config("read_committed")?;
        if config.get("group.id").is_none() {
            config.set("group.id", topic);
        }
        config
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100");
        let consumer: BaseConsumer =
            config.create().map_err(|error| cannot("read", topic).caused_by(error))?;
        let mut all = TopicPartitionList::new();
        for partition in 0..self.partitions as i32 {
            let added = all.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(|error| cannot("read", topic).caused_by(error))?;
        }
        consumer.assign(&all).map_err(|error| cannot("read", topic).caused_by(error))?;
        Ok(consumer)
    }

    /// Reads a topic from its beginning to its end, as a reader of committed messages sees it. The messages of a partition come in
    /// their order.
    pub(super) fn read(&self, topic: &str, mut message: impl FnMut(&[u8])) -> Result<()> {
        let consumer = self.consumer(topic)?;
        let (mut ended, mut last, mut why) = (BTreeSet::new(), Instant::now(), None);
        while ended.len() < self.partitions {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(found)) => {
                    message(found.payload().unwrap_or_default());
                    last = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                    last = Instant::now();
                }
                Some(Err(error)) => why = Some(error),
                None => {}
            }
            if last.elapsed() > PATIENCE {
                let error =
                    cannot("read", topic).context(format!("nothing has come for {} s", PATIENCE.as_secs()));
                return Err(match why {
                    Some(why) => error.caused_by(why),
                    None => error,
                });
            }
        }
        Ok(())
    }
}

/// Why a topic cannot be used; the cause is to be added.
pub(super) fn cannot(what: &str, topic: &str) -> Error {
    Error::job(format!("cannot {what} the topic {topic}"))
}
