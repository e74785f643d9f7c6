//! A source or sink that the command line of a job chooses: a directory of files, or a topic.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_connector_api::{Source, TransactionalSink};

use super::{Kafka, TopicSource};
use crate::FileLog;

/// Where a job reads from or writes to, as its command line says it: a directory, or `kafka:TOPIC`. A source may have several topics,
/// `kafka:TOPIC,TOPIC`, or those that a regular expression fits, `kafka:^PATTERN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of files of JSON lines. One that is called like a topic is written `./kafka:TOPIC`.
    Directory(PathBuf),
    /// A topic; for a source also several, or a pattern behind `^`.
    Topic(String),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("kafka:") {
            Some("") => {
                Err("kafka: is to be followed by the name of a topic, as in kafka:sensor-data".to_owned())
            }
            Some(topic) => Ok(Self::Topic(topic.to_owned())),
            None => Ok(Self::Directory(text.into())),
        }
    }
}

impl Location {
    /// Reads it as JSON: the lines of the files, or the values of the messages.
    pub fn json_source<T: DeserializeOwned + 'static>(&self, kafka: &Kafka) -> Box<dyn Source<Item = T>> {
        match self {
            Self::Directory(path) => Box::new(FileLog::partitions(path).json()),
            Self::Topic(topic) => Box::new(topics(kafka, topic).json()),
        }
    }

    /// Writes records to it as JSON, without keys.
    pub fn json_sink<T: Serialize + 'static>(&self, kafka: &Kafka) -> Box<dyn TransactionalSink<T>> {
        match self {
            Self::Directory(path) => Box::new(FileLog::sink(path).json()),
            Self::Topic(topic) => Box::new(kafka.sink(topic).json()),
        }
    }

    /// Writes records to it as JSON; a message has a part of its record as its key.
    pub fn json_sink_by_key<T, B, K>(&self, kafka: &Kafka, key: K) -> Box<dyn TransactionalSink<T>>
    where
        T: Serialize + 'static,
        B: AsRef<[u8]> + ?Sized,
        K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    {
        match self {
            Self::Directory(path) => Box::new(FileLog::sink(path).json()),
            Self::Topic(topic) => Box::new(kafka.sink(topic).json_by_key(key)),
        }
    }
}

fn topics(kafka: &Kafka, text: &str) -> TopicSource {
    match text.strip_prefix('^') {
        Some(pattern) => kafka.topic_pattern(pattern),
        None => kafka.topics(text.split(',')),
    }
}

#[cfg(test)]
mod tests {
    use super::super::KafkaSetting;
    use super::*;

    #[test]
    fn a_topic_is_marked_and_everything_else_is_a_directory() {
        let location = |text: &str| text.parse::<Location>();
        assert_eq!(location("kafka:a").unwrap(), Location::Topic("a".into()));
        assert_eq!(location("./kafka:a").unwrap(), Location::Directory("./kafka:a".into()));
        let kafka = Kafka::new([KafkaSetting::new("bootstrap.servers", "localhost:9092").unwrap()]);
        let uri = |text: &str| topics(&kafka, text).bytes().uri().unwrap();
        assert_eq!(["b,a", "^a.*"].map(uri), ["kafka:a,b", "kafka:^a.*"]);
        assert_eq!(location("/data/in").unwrap(), Location::Directory("/data/in".into()));
        assert!(location("kafka:").unwrap_err().contains("name of a topic"));
    }
}
