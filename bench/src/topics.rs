//! Brokers on this machine and topics for a measurement: those of `KAFKA_BOOTSTRAP`, or a node of its own, which ends with it.

use crate::Result;
use crate::consumer::Consumer;
use crate::setting::Setting;
use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use tidegate_connectors::{Kafka, KafkaSetting};
use tidegate_kafka_tests::{Brokers, Client};

/// What a measurement is taken with.
pub struct Topics {
    brokers: Brokers,
    kafka: Kafka,
    made: Cell<u32>,
}

/// The rows of a topic, whatever their order: two topics with the same rows are equal.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Rows {
    /// How many there are.
    pub count: u64,
    hashes: u64,
}

impl Topics {
    /// Starts a node, if no brokers are given. None if that cannot be done here; then `skipped` says why.
    ///
    /// # Errors
    /// The same, if `TIDEGATE_KAFKA` is `required`.
    pub fn start(skipped: &mut String) -> Result<Option<Topics>> {
        match Brokers::any() {
            Ok(brokers) => {
                let setting = KafkaSetting::new("bootstrap.servers", brokers.bootstrap());
                let kafka = Kafka::new([setting.map_err(|e| e.to_string())?]);
                Ok(Some(Topics { brokers, kafka, made: Cell::new(0) }))
            }
            Err(why) if std::env::var("TIDEGATE_KAFKA").is_ok_and(|value| value == "required") => Err(why),
            Err(why) => {
                *skipped = why;
                Ok(None)
            }
        }
    }

    /// Where the brokers are.
    pub fn bootstrap(&self) -> &str {
        self.brokers.bootstrap()
    }

    /// The flags of a job that say where the brokers are.
    pub fn flags(&self) -> [String; 2] {
        ["--kafka".into(), format!("bootstrap.servers={}", self.bootstrap())]
    }

    /// Makes a topic, and returns its name, which begins with this one.
    pub fn make(&self, name: &str, partitions: u64) -> Result<String> {
        let topic = self.named(name);
        // Rows have event times of years ago as timestamps, which brokers would delete within minutes.
        match self.kafka.create_topic(&topic, partitions as usize, None, &[("retention.ms", "-1")]) {
            Ok(true) => Ok(topic),
            Ok(false) => Err(format!("there is a topic {topic} already")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A topic with the generator's rows.
    pub fn input(&self, setting: &Setting) -> Result<String> {
        let topic = self.named("input");
        setting.input_topic(self.bootstrap(), &topic)?;
        Ok(topic)
    }

    /// Deletes topics: outputs would fill the disk.
    pub fn delete(&self, topics: &[&str]) {
        let client = Client::new(self.bootstrap());
        topics.iter().for_each(|topic| client.delete(topic));
    }

    /// Reads all of a topic.
    pub fn rows(&self, topic: &str) -> Result<Rows> {
        Client::new(self.bootstrap()).until_committed(topic);
        let (mut consumer, mut rows) = (Consumer::open(self.bootstrap(), topic)?, Rows::default());
        while !consumer.ended() {
            consumer.batch(|_, _, value| {
                rows.add(value);
                Ok(())
            })?;
        }
        Ok(rows)
    }

    /// A name that no topic had: what is deleted is there for a while.
    fn named(&self, name: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("bench-{}-{name}-{}", std::process::id(), self.made.get())
    }
}

impl Rows {
    fn add(&mut self, value: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(value);
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_equal_in_any_order_and_not_if_one_differs() {
        let rows = |values: &[&str]| {
            let mut rows = Rows::default();
            values.iter().for_each(|value| rows.add(value.as_bytes()));
            rows
        };
        assert_eq!(rows(&["a", "b", "b"]), rows(&["b", "a", "b"]));
        assert_ne!(rows(&["a", "b", "b"]), rows(&["a", "a", "b"]));
        assert_ne!(rows(&["a", "b"]), rows(&["a", "b", "b"]));
    }
}
