//! Which topics a source reads, and the partitions that they have.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use regex::Regex;
use tidegate_connector_api::Waiting;
use tidegate_protocol::{Error, Result};
use tracing::{info, warn};

use super::consumer::Consumer;
use super::names::PartitionName;

/// For how long the brokers may not know a topic that they knew before: one that has just started knows little.
const GONE: Duration = Duration::from_secs(15);
/// How often the topics of a pattern are looked for: the brokers list all that they have.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// The topics of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topics {
    /// These, sorted. They have to be there.
    Named(Vec<String>),
    /// Those whose whole name fits a regular expression. They may come and go.
    Pattern(String),
}

impl Topics {
    pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<_> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Self::Named(names)
    }

    /// The same topics at every start; an error for a description that means none.
    pub(super) fn uri(&self) -> Result<String> {
        match self {
            Self::Named(names) if names.is_empty() || names.iter().any(String::is_empty) => {
                Err(Error::job("a source of Kafka has no topic: name one"))
            }
            Self::Named(names) => Ok(format!("kafka:{}", names.join(","))),
            Self::Pattern(pattern) => whole(pattern).map(|_| format!("kafka:^{pattern}")),
        }
    }

    /// Whether a topic that is deleted ends, instead of ending the job.
    pub(super) fn may_go(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }
}

/// A pattern that fits whole names only.
fn whole(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        Error::job(format!("the pattern of topics {pattern:?} is no regular expression: {error}"))
    })
}

/// What was known of the topics last.
#[derive(Debug, Default)]
pub(super) struct KnownTopics {
    topics: BTreeMap<String, KnownTopic>,
    /// When the topics of a pattern were looked for last.
    listed: Option<Instant>,
    /// Since when the brokers do not answer.
    away: Option<(Instant, Waiting)>,
}

#[derive(Debug, Default)]
struct KnownTopic {
    partitions: usize,
    /// Since when the brokers do not know the topic.
    gone_since: Option<Instant>,
}

impl KnownTopics {
    /// Asks the brokers, and returns the names of all partitions. What they do not answer later stays as it was.
    pub(super) fn partitions(&mut self, topics: &Topics, consumer: &Consumer) -> Result<Vec<String>> {
        match topics {
            Topics::Named(names) => names.iter().try_for_each(|name| self.ask(name, consumer))?,
            Topics::Pattern(pattern) => self.list(pattern, consumer)?,
        }
        Ok(self.names())
    }

    /// The names of all partitions that are known.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.topics.iter().flat_map(|(topic, known)| {
            (0..known.partitions).map(move |number| PartitionName { topic, number: number as i32 })
        });
        names.map(|name| name.to_string()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Shows whether brokers answer, and logs when that changes: they are asked every second.
    fn answered(&mut self, error: Option<&KafkaError>, consumer: &Consumer) {
        let brokers = consumer.brokers();
        match (error, &self.away) {
            (Some(error), Some((_, waiting))) => waiting.set(format!("the brokers {brokers}: {error}")),
            (Some(error), None) => {
                warn!(target: "kafka", "the brokers {brokers} do not answer: {error}; they are asked until they do");
                let now = Instant::now();
                self.away = Some((now, Waiting::since(now, format!("the brokers {brokers}: {error}"))));
            }
            (None, Some((since, _))) => {
                let seconds = since.elapsed().as_secs();
                info!(target: "kafka", "the brokers {brokers} answer again, after {seconds} s");
                self.away = None;
            }
            (None, None) => {}
        }
    }

    fn ask(&mut self, topic: &str, consumer: &Consumer) -> Result<()> {
        let Some(known) = self.topics.get_mut(topic) else {
            let partitions = consumer.partitions_of_existing(topic)?;
            self.topics.insert(topic.to_owned(), KnownTopic { partitions, gone_since: None });
            return Ok(());
        };
        let answer = consumer.partitions_now(topic);
        match &answer {
            Ok(Some(partitions)) => *known = KnownTopic { partitions: *partitions, gone_since: None },
            Ok(None) => known.is_gone(topic)?,
            Err(_) => {}
        }
        self.answered(answer.err().as_ref(), consumer);
        Ok(())
    }

    fn list(&mut self, pattern: &str, consumer: &Consumer) -> Result<()> {
        if self.listed.is_some_and(|listed| listed.elapsed() < LIST_EVERY) {
            return Ok(());
        }
        let wanted = whole(pattern)?;
        let found = match self.listed {
            None => consumer.topics()?,
            Some(_) => {
                let answer = consumer.topics_now();
                self.answered(answer.as_ref().err(), consumer);
                let Ok(found) = answer else { return Ok(()) };
                found
            }
        };
        let is_first = self.listed.replace(Instant::now()).is_none();
        let fit = found.into_iter().filter(|(topic, _)| is_meant(&wanted, topic)).collect();
        self.set(fit, is_first);
        if is_first && self.topics.is_empty() {
            warn!(target: "kafka", "no topic fits the pattern {pattern} yet");
        }
        Ok(())
    }

    /// Takes what the brokers list. A topic that they do not list has gone, or they have just started: its reader finds out.
    fn set(&mut self, found: BTreeMap<String, usize>, is_first: bool) {
        for (topic, partitions) in found {
            let is_new =
                self.topics.insert(topic.clone(), KnownTopic { partitions, gone_since: None }).is_none();
            if is_new && !is_first {
                info!(target: "kafka", "the topic {topic} is new, and read from its beginning");
            }
        }
    }
}

/// Whether a pattern means a topic. Those of Kafka itself are meant only by patterns that say so.
fn is_meant(pattern: &Regex, topic: &str) -> bool {
    let is_internal = topic.starts_with("__") && !pattern.as_str().starts_with("^(?:__");
    !is_internal && pattern.is_match(topic)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_does_not_depend_on_the_order_of_names() {
        assert_eq!(Topics::named(["b", "a", "b"]).uri().unwrap(), "kafka:a,b");
        assert_eq!(Topics::Pattern("a-.*".to_owned()).uri().unwrap(), "kafka:^a-.*");
        for (topics, part) in [
            (Topics::named([]), "no topic"),
            (Topics::named([""]), "no topic"),
            (Topics::Pattern("(".into()), "\"(\""),
        ] {
            assert!(topics.uri().unwrap_err().to_string().contains(part));
        }
    }

    #[test]
    fn a_pattern_is_for_whole_names_and_not_for_those_of_kafka() {
        let pattern = |text: &str| whole(text).unwrap();
        assert!(is_meant(&pattern("a|b"), "b") && !is_meant(&pattern("a|b"), "bc"));
        assert!(!is_meant(&pattern(".*"), "__consumer_offsets"));
        assert!(is_meant(&pattern("__consumer.*"), "__consumer_offsets"));
    }
}
