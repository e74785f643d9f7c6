//! What the transactional ids of sinks hold, for people: which output is published, and whether a transaction is left open.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::Serialize;
use tidegate_protocol::{Error, Result};

use super::Kafka;
use super::client::{DEFAULTS, Logging, code_of, remedy};
use super::consumer::Consumer;
use super::marker::Marker;
use super::producer::Producer;

const REQUEST: Duration = Duration::from_secs(10);

/// What is published under a transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedOutput {
    /// `PREFIX.JOB.SINK.SLOT`.
    pub transactional_id: String,
    /// The sink's topic.
    pub topic: String,
    /// The last epoch of which anything is published.
    pub epoch: u64,
    /// The attempt that has staged it.
    pub attempt: u32,
    /// How many of the epoch's messages are published.
    pub done: u64,
    /// How many messages the epoch has.
    pub messages: u64,
}

/// Messages of a topic that readers of committed ones do not see, because a transaction in front of them is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset at which those readers stop.
    pub last_stable_offset: i64,
    /// The offset at which all messages end.
    pub high_watermark: i64,
}

impl Kafka {
    /// What is published under all transactional ids that begin with a prefix, by the markers that sinks have left. An id under
    /// which nothing was published yet has none.
    ///
    /// # Errors
    /// If the brokers do not answer, or the groups with the markers may not be read.
    pub fn published(&self, prefix: &str) -> Result<Vec<PublishedOutput>> {
        let consumer = Consumer::new(&self.settings)?;
        let topics = consumer.topics()?;
        let mut found = Vec::new();
        for id in self.groups(prefix)? {
            let own = [
                ("group.id", &*id),
                ("isolation.level", "read_uncommitted"),
                ("enable.auto.commit", "false"),
            ];
            let client: BaseConsumer<Logging> = self.settings.client(&DEFAULTS, &own, Logging::default())?;
            let mut wanted = TopicPartitionList::new();
            for topic in topics.keys() {
                wanted.add_partition(topic, 0);
            }
            let committed = client.committed_offsets(wanted, REQUEST).map_err(|error| {
                let remedy = remedy(code_of(&error));
                Error::environment(format!("cannot read the marker of {id}: {error}{remedy}"))
            })?;
            for element in committed.elements() {
                let Offset::Offset(epoch) = element.offset() else { continue };
                // Groups of others may begin like this, too.
                let Some(marker) = Marker::parse(epoch, element.metadata()) else { continue };
                found.push(PublishedOutput {
                    transactional_id: id.clone(),
                    topic: element.topic().to_owned(),
                    epoch: marker.epoch.0,
                    attempt: marker.attempt.0,
                    done: marker.done,
                    messages: marker.messages,
                });
            }
        }
        found.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(found)
    }

    fn groups(&self, prefix: &str) -> Result<Vec<String>> {
        let client: BaseConsumer<Logging> = self.settings.client(&DEFAULTS, &[], Logging::default())?;
        let groups = client.fetch_group_list(None, REQUEST).map_err(|error| {
            Error::environment(format!(
                "cannot ask the brokers {} for their consumer groups",
                self.settings.brokers()
            ))
            .caused_by(error)
        })?;
        let begins = format!("{prefix}.");
        let names = groups.groups().iter().map(|group| group.name().to_owned());
        Ok(names.filter(|name| name.starts_with(&begins)).collect())
    }

    /// The partitions of these topics in which readers of committed messages wait for a transaction. While a sink publishes, that is
    /// so for some milliseconds.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn blocked(&self, topics: &[String]) -> Result<Vec<BlockedPartition>> {
        let ends = |isolation: &str| {
            let settings = self.settings.with("isolation.level", isolation);
            let consumer = Consumer::new(&settings)?;
            let mut ends = BTreeMap::new();
            for topic in topics {
                for partition in 0..consumer.partitions_of_existing(topic)? as i32 {
                    ends.insert((topic.clone(), partition), consumer.ends(topic, partition)?.1);
                }
            }
            Ok::<_, Error>(ends)
        };
        // In this order: what is written in between is no open transaction.
        let (all, stable) = (ends("read_uncommitted")?, ends("read_committed")?);
        let blocked = all.into_iter().filter_map(|((topic, partition), high_watermark)| {
            let last_stable_offset = *stable.get(&(topic.clone(), partition))?;
            (last_stable_offset < high_watermark).then_some(BlockedPartition {
                topic,
                partition,
                last_stable_offset,
                high_watermark,
            })
        });
        Ok(blocked.collect())
    }

    /// Has the brokers abort the transaction of an id that is open, if one is. A job that runs with this id begins again what it was
    /// publishing; nothing is lost.
    ///
    /// # Errors
    /// If the brokers do not answer, or the id may not be used.
    pub fn abort_transaction(&self, id: &str) -> Result<()> {
        let producer = Producer::new(&self.settings, id)?;
        producer.init().map_err(|error| {
            let refusal =
                producer.refusal().map(|refusal| format!(" ({})", refusal.reason)).unwrap_or_default();
            let remedy = remedy(code_of(&error));
            Error::environment(format!("cannot abort the transaction of {id}: {error}{refusal}{remedy}"))
        })
    }
}
