//! A consumer as librdkafka's C interface has it: messages come in batches from a queue for each partition, and are read where
//! they lie. `rdkafka` has no safe call for that, and one message a call costs more than the parsing of a short one.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::ptr;
use std::rc::Rc;
use std::slice;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};
use tidegate_connector_api::Waiting;
use tidegate_protocol::{Error, Result};
use tracing::warn;

use super::client::{
    DEFAULTS, REFUSED, Refusal, STATISTICS, UNKNOWN, ask_for_leaders, bootstrap_if_lost, code_of,
    is_permanent, is_unknown, remedy,
};
use super::message::Message;
use super::names::PartitionName;
use super::reach::Reading;
use super::settings::Settings;

/// Settings that a user may change.
const TUNED: [(&str, &str); 5] = [
    ("isolation.level", "read_committed"),
    // A partition's messages wait here until the job reads them: enough for some tenths of a second.
    ("queued.max.messages.kbytes", "16384"),
    // Otherwise a partition whose queue was full rests for a second.
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.wait.max.ms", FETCH_WAIT),
];
const FETCH_WAIT: &str = "100";
/// Settings that the source relies on. An offset that is not there any more is an error, and never skipped.
const OWN: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    STATISTICS,
];
/// The most messages that are fetched at once.
const BATCH: usize = 1_024;
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long one may take while a worker waits for it.
const SHORT_REQUEST: Duration = Duration::from_secs(2);
/// For how long the answer that there is no such topic has to stay.
const UNKNOWN_TOPIC: Duration = Duration::from_secs(10);
/// For how long a question is asked again while no broker answers, and from when on that is logged.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(5));
/// How long the thread that serves a client waits for events before it looks whether the client is still used.
const SERVED: Duration = Duration::from_millis(200);

/// Takes what librdkafka reports of a client as a whole, for as long as there is somebody who uses it: its log, its errors, its
/// statistics. They wait without a bound where nobody takes them, and a worker may have no reason to poll for hours.
fn serve(client: &Weak<BaseConsumer<Reading>>, brokers: &str) {
    while let Some(client) = client.upgrade() {
        bootstrap_if_lost(client.client(), &client.context().logging, brokers);
        for topic in client.context().without_leader() {
            if !ask_for_leaders(client.client(), Some(&topic)) {
                // There is none for the others, either; it has taken long enough, and is asked again next time.
                break;
            }
        }
        // Messages come from queues of their own: what this returns can only be an error, and it was logged.
        drop(client.poll(SERVED));
    }
}

/// A client that reads topics.
pub(super) struct Consumer {
    client: Arc<BaseConsumer<Reading>>,
    brokers: String,
    group: Option<String>,
}

impl Consumer {
    /// Makes the client; it connects by itself.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let defaults = [&DEFAULTS[..], &TUNED[..]].concat();
        let fetch_wait = settings.number_or("fetch.wait.max.ms", FETCH_WAIT)?;
        let reading = Reading::new(Duration::from_millis(fetch_wait));
        let client = Arc::new(settings.client(&defaults, &OWN, reading)?);
        let (events, brokers) = (Arc::downgrade(&client), settings.brokers());
        let names = brokers.clone();
        thread::Builder::new().name("kafka-events".to_owned()).spawn(move || serve(&events, &names))?;
        Ok(Self { client, brokers, group: settings.value("group.id")? })
    }

    /// Whether the broker of a partition that is read does not answer.
    pub(super) fn is_silent(&self, topic: &str, number: i32) -> bool {
        self.client.context().is_silent(topic, number)
    }

    /// The brokers have answered.
    pub(super) fn is_let_in(&self) {
        self.client.context().logging.is_let_in();
    }

    /// An error if the brokers have not let the client in for so long.
    pub(super) fn check_is_let_in(&self, patience: Duration) -> Result<()> {
        match self.client.context().logging.refusal() {
            Some(refusal) if is_permanent(refusal.code) && refusal.since.elapsed() > patience => {
                Err(Error::environment(self.describe(&refusal)))
            }
            _ => Ok(()),
        }
    }

    fn describe(&self, Refusal { code, reason, .. }: &Refusal) -> String {
        format!("the brokers {} do not let the job in: {reason}{}", self.brokers, remedy(*code))
    }

    /// The number of a topic's partitions; None if there is no such topic. Brokers that have just started know no topic for a
    /// while, so that answer has to stay.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<usize>> {
        let mut unknown_since = None;
        loop {
            let what = format!("the partitions of the topic {topic}");
            if let Some(count) = self.ask(&what, |client| count(client, topic, REQUEST))? {
                return Ok(Some(count));
            }
            let since = *unknown_since.get_or_insert_with(|| {
                let seconds = UNKNOWN_TOPIC.as_secs();
                warn!(target: "kafka", "the brokers {} do not know the topic {topic}; asking for {seconds} s", self.brokers);
                Instant::now()
            });
            if since.elapsed() > UNKNOWN_TOPIC {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The same of a topic that has to be there.
    pub(super) fn partitions_of_existing(&self, topic: &str) -> Result<usize> {
        self.partitions(topic)?.ok_or_else(|| {
            let brokers = &self.brokers;
            Error::job(format!(
                "there is no topic {topic} at {brokers}, or the job's user may not see it: create it"
            ))
        })
    }

    /// The number of a topic's partitions, asked for once and for a short time.
    pub(super) fn partitions_now(&self, topic: &str) -> std::result::Result<Option<usize>, KafkaError> {
        count(&self.client, topic, SHORT_REQUEST)
    }

    /// All topics, with the numbers of their partitions.
    pub(super) fn topics(&self) -> Result<BTreeMap<String, usize>> {
        self.ask("the list of topics", |client| topics(client, REQUEST))
    }

    /// The same, asked for once and for a short time.
    pub(super) fn topics_now(&self) -> std::result::Result<BTreeMap<String, usize>, KafkaError> {
        topics(&self.client, SHORT_REQUEST)
    }

    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The consumer group that a user has set.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The offset that the group has committed for a partition, if it has.
    pub(super) fn committed(&self, name: PartitionName<'_>) -> Result<Option<i64>> {
        let found =
            self.ask(&format!("the offset of {name} that the consumer group has committed"), |client| {
                let mut wanted = TopicPartitionList::new();
                wanted.add_partition(name.topic, name.number);
                let found = client.committed_offsets(wanted, REQUEST)?;
                found
                    .elements()
                    .first()
                    .map_or(Ok(Offset::Invalid), |found| found.error().map(|()| found.offset()))
            })?;
        Ok(if let Offset::Offset(offset) = found { Some(offset) } else { None })
    }

    /// Commits offsets of partitions, by their names, for the group.
    pub(super) fn commit(&self, offsets: &BTreeMap<String, i64>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        let failed = |error| {
            let group = self.group().unwrap_or_default();
            Error::environment(format!("the offsets of the consumer group {group}")).caused_by(error)
        };
        for (partition, offset) in offsets {
            let name = PartitionName::parse(partition)?;
            list.add_partition_offset(name.topic, name.number, Offset::Offset(*offset)).map_err(failed)?;
        }
        self.client.commit(&list, CommitMode::Sync).map_err(failed)
    }

    /// The offset of the first message of a partition whose timestamp is this one or later; the end, if there is none.
    pub(super) fn offset_at(&self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let what = format!("the first offset at {timestamp} of partition {partition} of the topic {topic}");
        let found = self.ask(&what, |client| {
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition_offset(topic, partition, Offset::Offset(timestamp))?;
            let found = client.offsets_for_times(wanted, REQUEST)?;
            found.elements().first().map_or(Ok(Offset::End), |found| found.error().map(|()| found.offset()))
        })?;
        match found {
            Offset::Offset(offset) => Ok(offset),
            _ => Ok(self.ends(topic, partition)?.1),
        }
    }

    /// The first offset of a partition, and the one behind its last message. For a consumer that reads what is committed, that
    /// is the first of an open transaction, if there is one.
    pub(super) fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        self.ask(&format!("the offsets of partition {partition} of the topic {topic}"), |client| {
            client.fetch_watermarks(topic, partition, REQUEST)
        })
    }

    /// The same, asked for once and for a short time.
    pub(super) fn ends_now(
        &self,
        topic: &str,
        partition: i32,
    ) -> std::result::Result<(i64, i64), KafkaError> {
        self.client.fetch_watermarks(topic, partition, SHORT_REQUEST)
    }

    /// Asks until there is an answer: a broker that restarts is back in seconds.
    fn ask<T>(
        &self,
        what: &str,
        mut question: impl FnMut(&BaseConsumer<Reading>) -> std::result::Result<T, KafkaError>,
    ) -> Result<T> {
        let (began, mut next_warning) = (Instant::now(), PATIENCE.1);
        let mut waiting: Option<Waiting> = None;
        loop {
            let error = match question(&self.client) {
                Ok(answer) => {
                    self.is_let_in();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.check_is_let_in(REFUSED)?;
            let code = code_of(&error);
            let took = began.elapsed();
            let failed = || format!("cannot ask the brokers {} for {what}", self.brokers);
            if is_permanent(code) && (!is_unknown(code) || took > UNKNOWN) {
                return Err(Error::job(format!("{}: {error}{}", failed(), remedy(code))));
            }
            if took > PATIENCE.0 {
                let failed = format!("{} in {} s", failed(), took.as_secs());
                let refusal = self.client.context().logging.refusal();
                return Err(Error::environment(match refusal {
                    Some(refusal) => format!("{failed}: {}", self.describe(&refusal)),
                    None => format!("{failed}; check bootstrap.servers, and whether the brokers run"),
                })
                .caused_by(error));
            }
            if took > PATIENCE.1 {
                let shown = format!("the brokers {} for {what}: {error}", self.brokers);
                waiting.get_or_insert_with(|| Waiting::since(began, "")).set(shown);
            }
            if took > next_warning {
                warn!(target: "kafka", "{} yet: {error}", failed());
                next_warning *= 2;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn topics(
    client: &BaseConsumer<Reading>,
    timeout: Duration,
) -> std::result::Result<BTreeMap<String, usize>, KafkaError> {
    let metadata = client.fetch_metadata(None, timeout)?;
    let found = metadata.topics().iter().filter(|topic| topic.error().is_none());
    Ok(found.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
}

fn count(
    client: &BaseConsumer<Reading>,
    topic: &str,
    timeout: Duration,
) -> std::result::Result<Option<usize>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map(|found| (found.error().map(Code::from), found.partitions().len())) {
        None | Some((Some(Code::UnknownTopicOrPartition | Code::UnknownTopic), _)) => Ok(None),
        Some((Some(code), _)) => Err(KafkaError::MetadataFetch(code)),
        // A topic that is being made has none for a moment.
        Some((None, 0)) => Err(KafkaError::MetadataFetch(Code::LeaderNotAvailable)),
        Some((None, count)) => Ok(Some(count)),
    }
}

/// A partition that is being read.
pub(super) struct PartitionQueue {
    // Dropped last: the pointers belong to it.
    topic: *mut sys::rd_kafka_topic_t,
    queue: *mut sys::rd_kafka_queue_t,
    name: String,
    partition: i32,
    batch: Vec<*mut sys::rd_kafka_message_t>,
    /// What was fetched and not taken yet.
    waiting: VecDeque<Owned>,
    _consumer: Rc<Consumer>,
}

/// Whether a message was taken, or stays the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    NotYet,
}

/// What a look into the queue has found.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// How many messages were taken; there may be more.
    pub(super) messages: usize,
    /// The next message is there, and was not taken.
    pub(super) is_waiting: bool,
    /// The offset behind the last message, if there is nothing more for now.
    pub(super) end: Option<i64>,
    /// An error of the partition; what is behind it is for the next look.
    pub(super) error: Option<(Code, String)>,
}

impl PartitionQueue {
    /// Begins to fetch a partition at an offset.
    pub(super) fn open(consumer: &Rc<Consumer>, topic: &str, partition: i32, offset: i64) -> Result<Self> {
        let name = CString::new(topic)
            .map_err(|_| Error::job(format!("the topic {topic:?} has a zero in its name")))?;
        let client = consumer.client.client().native_ptr();
        // SAFETY: the client is alive, and outlives both, which are destroyed when this is dropped.
        let (native, queue) = unsafe {
            let native = sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut());
            (native, sys::rd_kafka_queue_new(client))
        };
        let this = Self {
            topic: native,
            queue,
            name: topic.to_owned(),
            partition,
            batch: Vec::with_capacity(BATCH),
            waiting: VecDeque::with_capacity(BATCH),
            _consumer: consumer.clone(),
        };
        if this.start(offset) {
            return Ok(this);
        }
        // SAFETY: it reads the error of the last call on this thread.
        let code = Code::from(unsafe { sys::rd_kafka_last_error() });
        Err(Error::environment(format!("cannot read partition {partition} of the topic {topic}: {code}")))
    }

    /// Begins to fetch again, at an offset. False if that fails.
    pub(super) fn start_again(&mut self, offset: i64) -> bool {
        self.waiting.clear();
        // SAFETY: the pointers are those that librdkafka has given. Messages that are still in the queue are of an older start, and
        // librdkafka drops them.
        unsafe { sys::rd_kafka_consume_stop(self.topic, self.partition) };
        self.start(offset)
    }

    fn start(&self, offset: i64) -> bool {
        // SAFETY: the pointers are those that librdkafka has given, and the topic is not null.
        !self.topic.is_null()
            && unsafe { sys::rd_kafka_consume_start_queue(self.topic, self.partition, offset, self.queue) }
                == 0
    }

    /// Gives up to about `limit` messages to `take`, without waiting for any. One that it does not take is the first of the next
    /// call.
    pub(super) fn fetch(&mut self, limit: usize, mut take: impl FnMut(Message<'_>) -> Taken) -> Fetched {
        let limit = limit.clamp(1, BATCH);
        if self.waiting.is_empty() {
            self.fetch_batch(limit);
        }
        let mut fetched = Fetched::default();
        for _ in 0..limit {
            let Some(message) = self.waiting.pop_front() else { break };
            // SAFETY: librdkafka has given it, and it is destroyed when it was taken.
            let raw = unsafe { &*message.0 };
            match Code::from(raw.err) {
                Code::NoError => {
                    // SAFETY: it has no error, and lives as long as `message`.
                    if take(unsafe { Message::new(message.0, &self.name) }) == Taken::NotYet {
                        self.waiting.push_front(message);
                        fetched.is_waiting = true;
                        break;
                    }
                    fetched.messages += 1;
                }
                Code::PartitionEOF => fetched.end = Some(raw.offset),
                code => {
                    // The next one is for the next call, so that none is overlooked.
                    fetched.error = Some((code, text(raw)));
                    break;
                }
            }
        }
        fetched
    }

    fn fetch_batch(&mut self, limit: usize) {
        // SAFETY: the batch has room for so many pointers, and librdkafka says how many it has written.
        unsafe {
            let count = sys::rd_kafka_consume_batch_queue(self.queue, 0, self.batch.as_mut_ptr(), limit);
            self.batch.set_len(usize::try_from(count).unwrap_or(0));
        }
        // All of them at once, so that none is left if reading one panics.
        self.waiting.extend(self.batch.drain(..).map(Owned));
    }
}

/// What librdkafka says of an error, which is in place of a message's value.
fn text(message: &sys::rd_kafka_message_t) -> String {
    if message.payload.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka gives pointer and length of memory that lives as long as the message.
    let text = unsafe { slice::from_raw_parts(message.payload.cast::<u8>(), message.len) };
    String::from_utf8_lossy(text).into_owned()
}

/// A message that is destroyed with this, also if reading it panics.
struct Owned(*mut sys::rd_kafka_message_t);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it is one that `rd_kafka_consume_batch_queue` gave, and nobody else destroys it.
        unsafe { sys::rd_kafka_message_destroy(self.0) }
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        self.waiting.clear();
        // SAFETY: both belong to this, and the client outlives them.
        unsafe {
            if !self.topic.is_null() {
                sys::rd_kafka_consume_stop(self.topic, self.partition);
                sys::rd_kafka_topic_destroy(self.topic);
            }
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}
