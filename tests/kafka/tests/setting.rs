//! What every test has: brokers, topics of its own, jobs that copy one topic to another.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidegate::connector::{PartitionStatus, Polled, Source, SourceReader};
use tidegate::testing::TestJob;
use tidegate_connectors::kafka::{Kafka, KafkaSetting, OutgoingMessage, SchemaRegistry};
use tidegate_kafka_tests::{Brokers, Client, Registry, Row};

/// Brokers and a client, for all tests.
pub(crate) struct Setting {
    pub(crate) brokers: Brokers,
    pub(crate) client: Client,
    registry: OnceLock<Registry>,
}

impl Setting {
    pub(crate) fn new() -> Result<Self, String> {
        Brokers::any().map(Self::of)
    }

    pub(crate) fn of(brokers: Brokers) -> Self {
        let client = Client::new(brokers.bootstrap());
        Self { brokers, client, registry: OnceLock::new() }
    }

    /// A topic of its own, with so many partitions.
    pub(crate) fn topic(&self, partitions: i32) -> String {
        self.topic_with(partitions, &[])
    }

    /// The same for messages of 1970: from other topics brokers delete them when they next look for old ones.
    pub(crate) fn lasting_topic(&self, partitions: i32) -> String {
        self.topic_with(partitions, &[("retention.ms", "-1")])
    }

    /// A topic with settings.
    pub(crate) fn topic_with(&self, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.name();
        self.client.create(&name, partitions, settings);
        name
    }

    /// A name that no other test and no other run has.
    pub(crate) fn name(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        format!("test-{now:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A schema registry for all tests, started by the first one that needs it.
    pub(crate) fn registry_server(&self) -> &Registry {
        self.registry.get_or_init(|| Registry::start().expect("a schema registry"))
    }

    pub(crate) fn registry(&self) -> SchemaRegistry {
        SchemaRegistry::new(self.registry_server().url()).unwrap()
    }

    pub(crate) fn kafka(&self) -> Kafka {
        self.kafka_with(&[])
    }

    pub(crate) fn kafka_with(&self, settings: &[(&str, &str)]) -> Kafka {
        let bootstrap = [("bootstrap.servers", self.brokers.bootstrap())];
        kafka(bootstrap.iter().chain(settings))
    }

    /// A job that copies the text of one topic to another, and follows the first one.
    pub(crate) fn copy(&self, from: &str, to: &str) -> TestJob {
        self.copy_with(&[], from, to)
    }

    pub(crate) fn copy_with(&self, settings: &[(&str, &str)], from: &str, to: &str) -> TestJob {
        copy(self.kafka_with(settings), from, to, true)
    }

    /// The messages that a job has left in a topic.
    pub(crate) fn rows(&self, topic: &str) -> Vec<Row> {
        self.client.until_committed(topic);
        self.client.read(topic)
    }

    /// Waits until the topic holds these values and no others, as a reader of what is committed sees it.
    pub(crate) fn expect(&self, topic: &str, values: &[String]) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.client.values(topic);
            if found == values {
                return;
            }
            assert!(
                found.len() <= values.len() && Instant::now() < until,
                "{topic}: {found:?}, not {values:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The brokers that these settings name.
pub(crate) fn kafka<'a>(settings: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Kafka {
    Kafka::new(settings.map(|(key, value)| KafkaSetting::new(key, value).unwrap()))
}

/// A job that copies the text of one topic to another; with `follow` also what the first one gets later.
pub(crate) fn copy(kafka: Kafka, from: &str, to: &str, follow: bool) -> TestJob {
    let (from, to) = (from.to_owned(), to.to_owned());
    TestJob::new(move |job| {
        let text = kafka.topic(&from).follow(follow).utf8();
        job.source("in", text).sink("out", kafka.sink(&to).write_by(write_text));
        Ok(())
    })
}

/// A message whose value is a text.
pub(crate) fn write_text(text: &String, message: &mut OutgoingMessage) -> Result<(), String> {
    message.value().extend_from_slice(text.as_bytes());
    Ok(())
}

/// Reads a source to its end, by hand.
pub(crate) fn read_all<S: Source>(source: &S) -> (Vec<S::Item>, Box<dyn SourceReader<S::Item>>) {
    let mut reader = source.reader().unwrap();
    let mut all = Vec::new();
    for (number, name) in source.partitions().unwrap().iter().enumerate() {
        reader.open(name, None).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let mut polled = Polled::new();
            let status = reader.poll(number, &mut polled, 100).unwrap();
            all.extend(polled.take().0.into_iter().map(|(_, item)| item));
            if status == PartitionStatus::Ended {
                break;
            }
            assert!(Instant::now() < until, "{name} does not end");
        }
    }
    (all, reader)
}

/// Numbers as text, sorted as text.
pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    let mut numbers: Vec<_> = range.map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}
