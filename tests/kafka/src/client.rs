//! A client that makes topics, writes to them, and reads what a reader of committed messages sees.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

/// A client of a test.
pub struct Client {
    bootstrap: String,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The partition's number.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The key, if it has one.
    pub key: Option<String>,
    /// The value; None for a tombstone.
    pub value: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<i64>,
    /// Names and values of the headers.
    pub headers: Vec<(String, String)>,
}

/// An open transaction.
pub struct Transaction(BaseProducer);

impl Client {
    /// A client of these brokers.
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("allow.auto.create.topics", "false");
        config
    }

    fn admin<T>(&self, run: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
        let admin = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        block_on(run(&admin, &options))
    }

    /// Makes a topic, with settings of its own.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let made = self.admin(async |admin, options| admin.create_topics([&new], options).await);
        made.expect("an answer")[0].as_ref().expect("the topic is made");
        self.until(topic, partitions);
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, partitions: i32) {
        let more = NewPartitions::new(topic, partitions as usize);
        let made = self.admin(async |admin, options| admin.create_partitions([&more], options).await);
        made.expect("an answer")[0].as_ref().expect("the partitions are made");
        self.until(topic, partitions);
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let deleted = self.admin(async |admin, options| admin.delete_topics(&[topic], options).await);
        deleted.expect("an answer")[0].as_ref().expect("the topic is deleted");
    }

    /// Deletes the messages of a partition in front of an offset, as retention does.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        self.admin(async |admin, options| admin.delete_records(&offsets, options).await)
            .expect("they are deleted");
    }

    /// Deletes a consumer group with its offsets.
    pub fn delete_group(&self, group: &str) {
        let deleted = self.admin(async |admin, options| admin.delete_groups(&[group], options).await);
        deleted.expect("an answer")[0].as_ref().expect("the group is deleted");
    }

    /// The offsets that a group has committed for the partitions of a topic.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let client: BaseConsumer = self.config().set("group.id", group).create().expect("a client");
        let metadata = client.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(topic, 0, metadata.topics()[0].partitions().len() as i32 - 1);
        let found = client.committed_offsets(wanted, PATIENCE).expect("an answer");
        found.elements().iter().map(|found| found.offset().to_raw().filter(|offset| *offset >= 0)).collect()
    }

    fn until(&self, topic: &str, partitions: i32) {
        let client: BaseConsumer = self.config().create().expect("a client");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let found = client.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
            let ready = |topic: &rdkafka::metadata::MetadataTopic| {
                let parts = topic.partitions();
                parts.len() == partitions as usize
                    && parts.iter().all(|part| part.error().is_none() && part.leader() >= 0)
            };
            if found.topics().iter().any(ready) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the topic {topic} is not there after a minute");
    }

    /// Waits until no transaction is open in a topic. The brokers answer a commit before it is in all partitions.
    ///
    /// # Panics
    /// If one is open for a minute.
    pub fn until_committed(&self, topic: &str) {
        let client = |isolation: &str| -> BaseConsumer {
            self.config().set("isolation.level", isolation).create().expect("a consumer")
        };
        let (committed, all) = (client("read_committed"), client("read_uncommitted"));
        let metadata = all.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
        assert!(!metadata.topics()[0].partitions().is_empty(), "there is no topic {topic}");
        let until = Instant::now() + PATIENCE;
        for partition in 0..metadata.topics()[0].partitions().len() as i32 {
            let end = |client: &BaseConsumer| {
                client.fetch_watermarks(topic, partition, PATIENCE).expect("the ends of the partition").1
            };
            while end(&committed) < end(&all) {
                assert!(Instant::now() < until, "{topic}: a transaction is open for a minute");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Writes values into a partition, and waits until they are there.
    pub fn write<V: AsRef<[u8]>>(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = V>) {
        self.write_with(
            &[],
            topic,
            partition,
            values.into_iter().map(|value| (None::<Vec<u8>>, Some(value.as_ref().to_vec()))),
        );
    }

    /// Writes keys and values, with settings of the producer.
    pub fn write_with(
        &self,
        settings: &[(&str, &str)],
        topic: &str,
        partition: i32,
        messages: impl IntoIterator<Item = (Option<Vec<u8>>, Option<Vec<u8>>)>,
    ) {
        let mut config = self.config();
        config.set("message.max.bytes", "20000000").set("linger.ms", "5");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: BaseProducer = config.create().expect("a producer");
        for (key, value) in messages {
            send(&producer, topic, partition, key.as_deref(), value.as_deref());
        }
        producer.flush(PATIENCE).expect("all is written");
    }

    /// Begins a transaction that writes these values.
    pub fn transaction(&self, id: &str, topic: &str, partition: i32, values: &[&str]) -> Transaction {
        let producer: BaseProducer = self.config().set("transactional.id", id).create().expect("a producer");
        producer.init_transactions(PATIENCE).expect("the id is free");
        producer.begin_transaction().expect("a transaction");
        values.iter().for_each(|value| send(&producer, topic, partition, None, Some(value.as_bytes())));
        producer.flush(PATIENCE).expect("all is written");
        Transaction(producer)
    }

    /// All messages that a reader of committed ones sees, up to the ends.
    ///
    /// # Panics
    /// If it is blocked by an open transaction for a minute.
    pub fn read(&self, topic: &str) -> Vec<Row> {
        let mut config = self.config();
        config
            .set("group.id", "reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
        let client: BaseConsumer = config.create().expect("a consumer");
        let metadata = client.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
        let count = metadata.topics()[0].partitions().len() as i32;
        let mut all = TopicPartitionList::new();
        (0..count).for_each(|partition| {
            all.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
        });
        client.assign(&all).expect("an assignment");
        let (mut rows, mut ended, until) = (Vec::new(), BTreeSet::new(), Instant::now() + PATIENCE);
        while (ended.len() as i32) < count {
            assert!(Instant::now() < until, "{topic}: no end of {ended:?} in a minute");
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => rows.push(row(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(Err(_)) | None => {}
            }
        }
        rows
    }

    /// Their values, sorted.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let mut values: Vec<_> = self.read(topic).into_iter().filter_map(|row| row.value).collect();
        values.sort();
        values
    }
}

impl Transaction {
    /// Commits it.
    pub fn commit(self) {
        self.0.commit_transaction(PATIENCE).expect("it is committed");
    }

    /// Commits it, if it was not fenced.
    ///
    /// # Errors
    /// If it was.
    pub fn try_commit(self) -> Result<(), KafkaError> {
        self.0.commit_transaction(PATIENCE)
    }

    /// Aborts it.
    pub fn abort(self) {
        self.0.abort_transaction(PATIENCE).expect("it is aborted");
    }
}

fn row(message: &impl Message) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()))
            .collect()
    });
    Row {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        value: message.payload().map(text),
        timestamp: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition);
    (record.key, record.payload) = (key, value);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("{topic}: {error}"),
        }
    }
}

/// Runs a future of the admin client, which has threads of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
