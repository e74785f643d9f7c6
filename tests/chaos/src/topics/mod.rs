//! Topics as their users see them, who share nothing with the engine but librdkafka.
//!
//! | module | what it is |
//! |---|---|
//! | here | makes topics, and reads a topic from its beginning to its end, committed messages only |
//! | [`producer`] | writes rows, each once |
//! | [`follower`] | a reader of committed messages that reads on all the time |
//! | [`blocked`] | for how long such a reader was kept waiting by an open transaction |

pub mod blocked;
pub mod follower;
pub mod producer;

use crate::cluster::network;
use crate::failure::{Context, Failure, Result};
use crate::visible::VisibleFile;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidegate_kafka_tests::Client;

/// A broker that has just started may take so long to answer a question.
const QUESTION: Duration = Duration::from_secs(30);
/// Brokers that do not answer in this time are away.
const ANSWER: Duration = Duration::from_secs(1);
/// How often a reader looks up from waiting for a message.
const POLL: Duration = Duration::from_millis(50);

/// Brokers, as seen from a host.
#[derive(Clone, Debug)]
pub struct Topics {
    bootstrap: String,
    host: Option<String>,
}

/// The messages of a topic by partition, each as a file of lines.
pub type Partitions = Vec<VisibleFile>;

impl Topics {
    /// Of the brokers at these addresses, which are reached from this host, or from one that is a network namespace.
    pub fn new(bootstrap: &str, host: Option<&str>) -> Topics {
        Topics { bootstrap: bootstrap.to_owned(), host: host.map(str::to_owned) }
    }

    /// The addresses of the brokers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic with so many partitions.
    pub fn create(&self, topic: &str, partitions: usize) -> Result<()> {
        // Retention would remove what is old, and event times are.
        let settings = [("retention.ms", "-1")];
        self.here(|| {
            Client::new(&self.bootstrap).create(topic, partitions as i32, &settings);
            Ok(())
        })
    }

    /// Waits until the brokers answer; returns how long that took.
    pub fn await_brokers(&self, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        self.here(|| {
            let client = self.consumer("read_committed")?;
            while let Err(error) = client.fetch_metadata(None, ANSWER) {
                if began.elapsed() > patience {
                    let (brokers, seconds) = (&self.bootstrap, patience.as_secs());
                    return Err(error).context(format!("the brokers {brokers} do not answer in {seconds} s"));
                }
            }
            Ok(began.elapsed())
        })
    }

    /// All that a reader of committed messages sees who comes now, to the ends of the partitions.
    pub fn read(&self, topic: &str, patience: Duration) -> Result<Partitions> {
        self.here(|| {
            let consumer = self.consumer("read_committed")?;
            let count = partitions(&consumer, topic)?;
            assign(&consumer, &[(topic, count)])?;
            let mut found = empty(topic, count);
            let (mut ended, began) = (BTreeSet::new(), Instant::now());
            while ended.len() < count {
                if began.elapsed() > patience {
                    let seconds = patience.as_secs();
                    return Err(Failure::new(format!(
                        "a reader of {topic} has not come to its end in {seconds} s: of {count} partitions it has read {ended:?}"
                    )));
                }
                match consumer.poll(POLL) {
                    Some(Ok(message)) => {
                        ended.remove(&message.partition());
                        add(&mut found, message.partition(), message.payload());
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                    // The brokers are away for a moment.
                    Some(Err(_)) | None => {}
                }
            }
            Ok(found)
        })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("allow.auto.create.topics", "false");
        config.set("reconnect.backoff.max.ms", "1000").set("socket.nagle.disable", "true");
        config
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer> {
        let mut config = self.config();
        config.set("group.id", "reader").set("enable.auto.commit", "false").set("isolation.level", isolation);
        config
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50");
        config.create().context("cannot make a consumer")
    }

    /// Does something on a thread that is on the host: a client's own threads are where the one is that has made it.
    fn here<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let there = || {
            self.enter()?;
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(there).join());
        done.map_err(|_| {
            Failure::new(format!("a client of the brokers {} has failed; see above", self.bootstrap))
        })?
    }

    /// Takes this thread to the host.
    fn enter(&self) -> Result<()> {
        self.host.as_ref().map_or(Ok(()), |host| network::enter(host))
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<usize> {
    let found = consumer
        .fetch_metadata(Some(topic), QUESTION)
        .context(format!("cannot ask for the topic {topic}"))?;
    Ok(found.topics().first().map_or(0, |topic| topic.partitions().len()))
}

/// From the beginning.
fn assign(consumer: &BaseConsumer, topics: &[(&str, usize)]) -> Result<()> {
    let mut all = TopicPartitionList::new();
    for (topic, partition) in topics.iter().flat_map(|(topic, count)| (0..*count).map(move |n| (topic, n))) {
        let added = all.add_partition_offset(topic, partition as i32, Offset::Beginning);
        added.context(format!("cannot read partition {partition} of {topic}"))?;
    }
    consumer.assign(&all).context("cannot read the topics")
}

fn empty(topic: &str, count: usize) -> Partitions {
    (0..count).map(|number| VisibleFile { name: format!("{topic}-{number}"), bytes: Vec::new() }).collect()
}

/// A message is a line: no row has a newline in it.
fn add(partitions: &mut Partitions, partition: i32, payload: Option<&[u8]>) {
    if let Some(file) = partitions.get_mut(partition as usize) {
        file.bytes.extend_from_slice(payload.unwrap_or_default());
        file.bytes.push(b'\n');
    }
}
