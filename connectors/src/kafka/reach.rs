//! Which of the partitions that a client reads are held by a broker that answers, by the statistics of librdkafka.
//!
//! Nothing else says that a partition cannot be read: librdkafka connects again by itself, and a partition that was read to its end
//! before just has no more messages. But while its broker is silent, its end is not known; a job that took it for idle would go on
//! without it, and find its records late when the broker is back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use serde::Deserialize;
use tidegate_connector_api::Waiting;
use tracing::{info, warn};

use super::client::{Logging, log};

/// A broker that is asked answers a fetch when it has waited for messages (`fetch.wait.max.ms`); after so much longer it is silent.
const SILENT: Duration = Duration::from_secs(3);
/// A silence that lasts so long is shown and logged; shorter ones belong to every restart of a broker.
const SHOWN: Duration = Duration::from_secs(5);

/// The context of a client that reads.
pub(super) struct Reading {
    pub(super) logging: Logging,
    /// After how many microseconds a broker is silent.
    silent_us: i64,
    reach: Mutex<Reach>,
}

#[derive(Default)]
struct Reach {
    silent: Silent,
    since: Option<Instant>,
    shown: Option<Waiting>,
}

/// Partitions whose broker does not answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Silent {
    /// By their topics.
    partitions: BTreeMap<String, BTreeSet<i32>>,
    /// The addresses of the brokers.
    brokers: BTreeSet<String>,
    /// Topics that have partitions without a leader: their brokers are not known.
    without_leader: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
    topics: HashMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    nodename: String,
    source: String,
    state: String,
    waitresp_cnt: i64,
    /// Microseconds since something was received.
    rxidle: i64,
}

#[derive(Deserialize)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    broker: i32,
    desired: bool,
}

impl Broker {
    fn answers(&self, silent_us: i64) -> bool {
        let is_connected = matches!(&*self.state, "UP" | "UPDATE");
        is_connected && (self.waitresp_cnt == 0 || self.rxidle < silent_us)
    }
}

impl Statistics {
    fn reads_any(&self) -> bool {
        self.topics.values().flat_map(|topic| topic.partitions.values()).any(|partition| partition.desired)
    }
}

impl Silent {
    fn of(statistics: &Statistics, silent_us: i64) -> Self {
        let mut silent = Self::default();
        let brokers: HashMap<i32, &Broker> =
            statistics.brokers.values().map(|broker| (broker.nodeid, broker)).collect();
        for (topic, Topic { partitions }) in &statistics.topics {
            for Partition { partition, broker, .. } in partitions.values().filter(|it| it.desired) {
                let broker = brokers.get(broker).filter(|broker| broker.nodeid >= 0);
                if broker.is_some_and(|broker| broker.answers(silent_us)) {
                    continue;
                }
                silent.partitions.entry(topic.clone()).or_default().insert(*partition);
                match broker {
                    Some(broker) => drop(silent.brokers.insert(broker.nodename.clone())),
                    None => drop(silent.without_leader.insert(topic.clone())),
                }
            }
        }
        silent
    }

    fn describe(&self) -> String {
        let partitions = self.partitions.iter().map(|(topic, numbers)| {
            let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
            let plural = if numbers.len() == 1 { "partition" } else { "partitions" };
            format!("{plural} {} of the topic {topic}", numbers.join(", "))
        });
        let partitions: Vec<String> = partitions.collect();
        let brokers: Vec<&str> = self.brokers.iter().map(String::as_str).collect();
        let who = match &*brokers {
            [] => "a leader".to_owned(),
            [one] => format!("the broker {one}"),
            many => format!("the brokers {}", many.join(", ")),
        };
        format!("{who} of {}", partitions.join(" and "))
    }
}

impl Reach {
    fn update(&mut self, silent: Silent, now: Instant) {
        self.silent = silent;
        if self.silent.partitions.is_empty() {
            if let (Some(since), Some(_)) = (self.since, &self.shown) {
                info!(target: "kafka", "all brokers answer again, after {} s", since.elapsed().as_secs());
            }
            (self.since, self.shown) = (None, None);
            return;
        }
        let since = *self.since.get_or_insert(now);
        let text = self.silent.describe();
        match &self.shown {
            Some(shown) => shown.set(text),
            None if now - since >= SHOWN => {
                warn!(target: "kafka", "waiting for {text}, without an answer for {} s", SHOWN.as_secs());
                self.shown = Some(Waiting::since(since, text));
            }
            None => {}
        }
    }
}

impl Reading {
    /// The context of a client whose fetches wait for so long at a broker.
    pub(super) fn new(fetch_wait: Duration) -> Self {
        let silent_us = i64::try_from((SILENT + fetch_wait).as_micros()).unwrap_or(i64::MAX);
        Self { logging: Logging::default(), silent_us, reach: Mutex::default() }
    }

    /// Topics with partitions that had no leader when there were statistics last; told once each time.
    pub(super) fn without_leader(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.reach().silent.without_leader)
    }

    fn reach(&self) -> MutexGuard<'_, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker of a partition does not answer.
    pub(super) fn is_silent(&self, topic: &str, number: i32) -> bool {
        self.reach().silent.partitions.get(topic).is_some_and(|numbers| numbers.contains(&number))
    }
}

impl ClientContext for Reading {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logging.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => {
                warn!(target: "kafka", "the statistics of librdkafka cannot be read: {error}");
                return;
            }
        };
        self.logging.know(statistics.brokers.values().map(|broker| &*broker.source));
        let silent = Silent::of(&statistics, self.silent_us);
        if statistics.reads_any() && silent.partitions.is_empty() {
            // Partitions that have been read to their ends give no other sign that a refusal was for a moment only.
            self.logging.is_let_in();
        }
        self.reach().update(silent, Instant::now());
    }
}

impl ConsumerContext for Reading {}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode as Code;
    use serde_json::{Value, json};

    use super::super::client::is_permanent;
    use super::*;

    fn broker(number: i32, state: &str, waits: i64, idle: i64) -> Value {
        json!({
            "nodeid": number, "nodename": format!("b{number}:9092"), "source": "learned", "state": state, "waitresp_cnt": waits,
            "rxidle": idle
        })
    }

    fn statistics(brokers: &[Value], partitions: &[(i32, i32)]) -> Value {
        let brokers: serde_json::Map<String, Value> =
            brokers.iter().map(|broker| (broker["nodename"].to_string(), broker.clone())).collect();
        let mut all: serde_json::Map<String, Value> = partitions
            .iter()
            .map(|(partition, broker)| {
                (partition.to_string(), json!({"partition": partition, "broker": broker, "desired": true}))
            })
            .collect();
        // What librdkafka has for messages without a partition.
        all.insert("-1".to_owned(), json!({"partition": -1, "broker": -1, "desired": false}));
        json!({"brokers": brokers, "topics": {"t": {"partitions": all}}})
    }

    fn silent(brokers: &[Value], partitions: &[(i32, i32)]) -> Silent {
        let statistics = serde_json::from_value(statistics(brokers, partitions)).unwrap();
        Silent::of(&statistics, 3_000_000)
    }

    #[test]
    fn a_client_that_knows_no_broker_any_more_is_lost_until_it_does() {
        let reading = Reading::new(Duration::ZERO);
        let is_lost = |sources: &[&str]| {
            reading.logging.know(sources.iter().copied());
            (reading.logging.is_lost(), reading.logging.is_lost())
        };
        assert_eq!(is_lost(&["internal", "logical"]), (true, false), "it is told once");
        assert_eq!(is_lost(&["internal", "configured"]), (false, false));
        assert_eq!(is_lost(&["internal", "learned"]), (false, false));
    }

    #[test]
    fn a_refusal_is_over_when_all_brokers_answer() {
        let reading = Reading::new(Duration::from_millis(100));
        let refuse = || reading.logging.failed(&KafkaError::Global(Code::Authentication), "no");
        let take = |statistics: &Value| reading.stats_raw(statistics.to_string().as_bytes());
        refuse();
        take(&statistics(&[broker(1, "AUTH_REQ", 0, 0)], &[(0, 1)]));
        assert!(reading.logging.refusal().is_some() && reading.is_silent("t", 0));
        take(&statistics(&[], &[]));
        assert!(reading.logging.refusal().is_some(), "nothing is read yet");
        take(&statistics(&[broker(1, "UP", 1, 3_050_000)], &[(0, 1)]));
        assert!(reading.logging.refusal().is_none() && !reading.is_silent("t", 0));
    }

    #[test]
    fn a_refusal_is_over_when_the_broker_is_away_and_a_missing_token_is_none() {
        let reading = Reading::new(Duration::ZERO);
        let fail = |code, reason: &str| {
            reading.logging.failed(&KafkaError::Global(code), reason);
            reading.logging.refusal().map(|refusal| (refusal.reason.clone(), !is_permanent(refusal.code)))
        };
        let token = "Failed to acquire SASL OAUTHBEARER token: Could not connect";
        assert_eq!(fail(Code::Authentication, token), Some((token.to_owned(), true)));
        let refused = "sasl_ssl://a:1/1: SASL authentication error: wrong password";
        assert_eq!(fail(Code::Authentication, refused), Some((refused.to_owned(), false)));
        assert!(fail(Code::Authentication, token).is_some_and(|(reason, _)| reason == refused));
        assert!(fail(Code::BrokerTransportFailure, "sasl_ssl://b:1/2: Disconnected").is_some());
        assert_eq!(fail(Code::BrokerTransportFailure, "sasl_ssl://a:1/1: Disconnected"), None);
    }

    #[test]
    fn a_partition_is_silent_while_its_broker_is_away_or_does_not_answer() {
        let brokers = [
            broker(-1, "INIT", 0, -1),
            broker(1, "UP", 1, 90_000),
            broker(2, "UP", 1, 3_500_000),
            broker(3, "CONNECT", 0, 0),
            broker(4, "UP", 0, 9_000_000),
        ];
        let silent = silent(&brokers, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, -1), (5, 9)]);
        assert_eq!(silent.partitions["t"], [1, 2, 4, 5].into());
        assert_eq!(silent.describe(), "the brokers b2:9092, b3:9092 of partitions 1, 2, 4, 5 of the topic t");
        let none = self::silent(&brokers, &[(0, 1), (3, 4)]);
        assert_eq!(none, Silent::default());
        assert_eq!(self::silent(&brokers, &[(4, -1)]).describe(), "a leader of partition 4 of the topic t");
    }

    #[test]
    fn a_silence_is_shown_when_it_has_lasted() {
        let (mut reach, now) = (Reach::default(), Instant::now());
        let away = || silent(&[broker(1, "DOWN", 0, 0)], &[(0, 1)]);
        reach.update(away(), now);
        reach.update(Silent::default(), now + Duration::from_secs(4));
        reach.update(away(), now + Duration::from_secs(4));
        reach.update(away(), now + Duration::from_secs(8));
        assert!(reach.shown.is_none());
        reach.update(away(), now + Duration::from_secs(9));
        assert!(reach.shown.is_some());
        reach.update(Silent::default(), now + Duration::from_secs(10));
        assert!(reach.shown.is_none() && reach.silent == Silent::default());
    }
}
