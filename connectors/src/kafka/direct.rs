//! Messages that are sent at once, without waiting for a snapshot: for jobs that take milliseconds for a guarantee.
//!
//! The worker hands every message to librdkafka. At a barrier, the snapshot thread waits until the brokers have all of the epoch, so
//! that a snapshot never counts a record as done that is not written. Nothing is staged, and nothing is left to publish.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use serde::Deserialize;
use tidegate_connector_api::{Epoch, Publisher, StagedOutput, Staging, Waiting, Writer};
use tidegate_protocol::{Error, Result};
use tracing::warn;

use super::client::{
    DEFAULTS, Logging, STATISTICS, ask_for_leaders, bootstrap_if_lost, code_of, is_of_another, is_permanent,
    log, remedy,
};
use super::outgoing::OutgoingMessage;
use super::output::SENT;
use super::producer::record;
use super::publisher::TopicPublisher;
use super::record_format::RecordFormat;
use super::settings::Settings;
use super::writer::format;

/// Settings that a user may change.
const TUNED: [(&str, &str); 4] = [
    ("partitioner", "murmur2_random"),
    ("linger.ms", "1"),
    ("queue.buffering.max.kbytes", "32768"),
    ("message.max.bytes", "100000000"),
];
/// Settings that the writer relies on: it counts the messages that are on their way.
const OWN: [(&str, &str); 2] = [STATISTICS, ("delivery.report.only.error", "false")];
/// Every message is sent until the brokers have it.
const UNTIL_DELIVERED: [(&str, &str); 2] = [("enable.idempotence", "true"), ("message.timeout.ms", "0")];
/// After what time it is shown that a snapshot waits for the brokers.
const SHOWN: Duration = Duration::from_secs(5);
/// How long the end of a job waits for messages that no snapshot waits for.
const LAST: Duration = Duration::from_secs(1);
/// How often lost messages are logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The writer of one worker.
pub(super) struct DirectWriter<F> {
    format: F,
    topic: String,
    message: OutgoingMessage,
    producer: Arc<ThreadedProducer<Outcomes>>,
    brokers: String,
    /// The messages of the running epoch that the brokers do not have.
    pending: Arc<Pending>,
    records: u64,
    must_arrive: bool,
}

/// The messages of an epoch that are on their way.
#[derive(Default)]
struct Pending(AtomicU64);

impl<F> DirectWriter<F> {
    pub(super) fn new(settings: &Settings, topic: String, format: F, must_arrive: bool) -> Result<Self> {
        let defaults = [&DEFAULTS[..], &TUNED[..]].concat();
        let of_guarantee = if must_arrive { &UNTIL_DELIVERED[..] } else { &[] };
        let outcomes = Outcomes { must_arrive, ..Outcomes::default() };
        let producer = settings.client(&defaults, &[&OWN[..], of_guarantee].concat(), outcomes)?;
        Ok(Self {
            format,
            topic,
            message: OutgoingMessage::default(),
            producer: Arc::new(producer),
            brokers: settings.brokers(),
            pending: Arc::default(),
            records: 0,
            must_arrive,
        })
    }

    fn send(&self) -> Result<()> {
        let message = self.message.staged();
        let mut record = record(message.topic.unwrap_or(&self.topic), &message, self.pending.clone());
        self.pending.0.fetch_add(1, Ordering::AcqRel);
        let mut full = None;
        loop {
            self.producer.context().check()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    record = again;
                    self.wait_for_room(full.get_or_insert_with(Full::new));
                }
                Err((error, _)) => {
                    self.pending.0.fetch_sub(1, Ordering::AcqRel);
                    return Err(Error::environment(format!(
                        "a message cannot be sent to the topic {}: {error}{}",
                        self.topic,
                        remedy(code_of(&error))
                    )));
                }
            }
        }
    }

    /// Waits for a moment for librdkafka to have room for a message.
    fn wait_for_room(&self, full: &mut Full) {
        look_after(&self.producer, &self.brokers);
        if full.asked.elapsed() >= SHOWN {
            let shown = format!("the brokers, to take the messages for the topic {}", self.topic);
            full.waiting.get_or_insert_with(|| Waiting::since(full.since, shown));
            ask_for_leaders(self.producer.client(), None);
            full.asked = Instant::now();
        }
        self.producer.poll(Duration::from_millis(10));
    }
}

/// Since when librdkafka has no room for a message, and when the leaders of the topic were asked for last.
struct Full {
    since: Instant,
    asked: Instant,
    waiting: Option<Waiting>,
}

impl Full {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, asked: now, waiting: None }
    }
}

impl<T, F: RecordFormat<T>> Writer<T> for DirectWriter<F> {
    #[inline]
    fn write(&mut self, record: &T, event_time: Option<i64>) -> Result<()> {
        format(&mut self.format, record, event_time, &mut self.message, &self.topic)?;
        self.records += 1;
        self.send()
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        self.producer.context().check()?;
        look_after(&self.producer, &self.brokers);
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return Ok(None);
        }
        let (pending, producer) = (std::mem::take(&mut self.pending), self.producer.clone());
        let (must_arrive, brokers) = (self.must_arrive, self.brokers.clone());
        Ok(Some(Staging::elsewhere(records, SENT.into(), move || match must_arrive {
            true => producer.context().wait_for(&pending, || {
                look_after(&producer, &brokers);
                ask_for_leaders(producer.client(), None);
            }),
            false => Ok(()),
        })))
    }
}

impl<F> Drop for DirectWriter<F> {
    fn drop(&mut self) {
        // The job ends, or goes on from the last snapshot: a snapshot thread that waits need not wait any more.
        self.producer.context().close();
        if self.must_arrive || self.producer.in_flight_count() == 0 {
            return;
        }
        // No snapshot has waited for these.
        if self.producer.flush(LAST).is_err() {
            let (left, topic) = (self.producer.in_flight_count(), &self.topic);
            warn!(target: "kafka", "{left} messages to the topic {topic}, which the brokers had not taken when the job ended, are lost");
        }
    }
}

/// To be called now and then while the producer has messages.
fn look_after(producer: &ThreadedProducer<Outcomes>, brokers: &str) {
    let client = producer.client();
    if bootstrap_if_lost(client, &producer.context().logging, brokers) {
        ask_for_leaders(client, None);
    }
}

/// What has become of messages.
#[derive(Default)]
struct Outcomes {
    must_arrive: bool,
    logging: Logging,
    has_failed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Why the first message was not taken that ends the job.
    failure: Option<(Code, String)>,
    is_closed: bool,
    lost: u64,
    logged: Option<Instant>,
}

impl Outcomes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let text = self.lock().failure.as_ref().map(|(_, text)| text.clone());
        Err(Error::environment(text.unwrap_or_default()))
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until the brokers have all messages of an epoch.
    fn wait_for(&self, pending: &Pending, meanwhile: impl Fn()) -> Result<()> {
        let (began, mut waiting) = (Instant::now(), None);
        let mut state = self.lock();
        loop {
            let left = pending.0.load(Ordering::Acquire);
            if left == 0 || state.failure.is_some() || state.is_closed {
                break;
            }
            if began.elapsed() >= SHOWN {
                let shown = format!("the brokers, which have not taken {left} messages of an epoch yet");
                waiting.get_or_insert_with(|| Waiting::since(began, "")).set(shown);
            }
            let waited = self.changed.wait_timeout(state, SHOWN).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                drop(state);
                meanwhile();
                state = self.lock();
            }
        }
        let is_complete = pending.0.load(Ordering::Acquire) == 0;
        drop(state);
        self.check()?;
        is_complete.then_some(()).ok_or_else(|| {
            Error::environment("the job has ended before the brokers had all messages of the epoch")
        })
    }

    fn failed(&self, error: &KafkaError, topic: &str, what: &str) {
        let code = code_of(error);
        // What is purged was given up because the job ends.
        if matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
            return;
        }
        let mut state = self.lock();
        if self.must_arrive || is_permanent(code) {
            let text =
                || format!("a message was not taken by the topic {topic}: {code}{} ({what})", remedy(code));
            state.failure.take_if(|(earlier, _)| is_of_another(*earlier));
            state.failure.get_or_insert_with(|| (code, text()));
            self.has_failed.store(true, Ordering::Release);
            return;
        }
        state.lost += 1;
        if state.logged.is_none_or(|logged| logged.elapsed() > LOG_EVERY) {
            let lost = state.lost;
            warn!(target: "kafka", "{lost} messages for the topic {topic} are lost so far: {code} ({what})");
            state.logged = Some(Instant::now());
        }
    }
}

impl ClientContext for Outcomes {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logging.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Ok(Statistics { brokers }) = serde_json::from_slice(statistics) {
            self.logging.know(brokers.values().map(|broker| &*broker.source));
        }
    }
}

#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
}

impl ProducerContext<NoCustomPartitioner> for Outcomes {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        if let Err((error, message)) = result {
            let text = |bytes: Option<&[u8]>| {
                bytes.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned())
            };
            let what = format!("key {:?}, value {:?}", text(message.key()), text(message.payload()));
            self.failed(error, message.topic(), &what);
        }
        if pending.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock, so that nobody is about to wait.
            drop(self.lock());
            self.changed.notify_all();
        }
    }
}

/// The publisher of a slot whose messages are sent at once: it has nothing to do, but for what the job has staged when it still
/// was to write exactly once.
pub(super) struct DirectPublisher(pub(super) TopicPublisher);

impl Publisher for DirectPublisher {
    fn publish(&mut self, epoch: Epoch, outputs: &[StagedOutput<'_>]) -> Result<()> {
        if outputs.iter().all(|output| output.staged.place == SENT) {
            Ok(())
        } else {
            self.0.publish(epoch, outputs)
        }
    }
}
