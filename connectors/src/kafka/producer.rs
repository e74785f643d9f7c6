//! A producer with a transactional id, for one transaction after the other.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::util::IntoOpaque;
use tidegate_protocol::Result;
use tracing::debug;

use super::client::{DEFAULTS, Logging, Refusal, code_of, is_of_another, log};
use super::marker::Marker;
use super::outgoing::StagedMessage;
use super::settings::Settings;

/// Settings that a user may change.
const TUNED: [(&str, &str); 7] = [
    ("transaction.timeout.ms", TRANSACTION_TIMEOUT),
    // The one of Kafka's own clients, so that a key goes to the same partition whoever writes it.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.kbytes", "131072"),
    // What is too large for a topic the broker says: it knows the topic's own limit.
    ("message.max.bytes", "100000000"),
    // Of a message that was taken nothing has to be known: the transaction is committed as a whole.
    ("delivery.report.only.error", "true"),
];
const TRANSACTION_TIMEOUT: &str = "60000";
/// How often it is looked whether a message was refused while the others are on their way.
const GLANCE_MS: i32 = 10;
/// How long an initialization may take.
const INIT: Duration = Duration::from_secs(30);
/// For how long it is asked for often, and how often.
const OFTEN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(20));
/// How often later.
const SELDOM: Duration = Duration::from_millis(500);
/// How long brokers may take for one step of a commit; for messages half of the transaction's timeout, if that is longer. A client that was
/// asking when a coordinator went away may wait for it for as long as it is allowed to, though another broker has taken its place; a
/// new client finds that at once.
const STEP: Duration = Duration::from_secs(15);
/// How long the end of a transaction may take that is given up for good.
const ABORT: Duration = Duration::from_secs(5);

/// A producer with a transactional id. After any error it is of no use any more: whether its transaction is committed is not
/// known until another one has been made and the marker was read.
pub(super) struct Producer {
    client: BaseProducer<Deliveries>,
    id: String,
    timeout: Duration,
}

/// Why a transaction was not made, as far as is known.
pub(super) enum Failed {
    /// A message was not taken: its number in the epoch's output, and why.
    Message { number: u64, code: Code },
    /// Anything else.
    Kafka(KafkaError),
}

impl From<KafkaError> for Failed {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl Producer {
    /// Makes the client. It is of no use before [`Producer::init`].
    pub(super) fn new(settings: &Settings, id: &str) -> Result<Self> {
        let timeout = settings.number_or("transaction.timeout.ms", TRANSACTION_TIMEOUT)?;
        // A message that waits for longer would be in a transaction that the broker has aborted.
        let wait = settings.number_or("message.timeout.ms", &timeout.to_string())?.min(timeout).to_string();
        let defaults = [&DEFAULTS[..], &TUNED[..]].concat();
        let own = [("transactional.id", id), ("enable.idempotence", "true"), ("message.timeout.ms", &wait)];
        let client = settings.client(&defaults, &own, Deliveries::default())?;
        Ok(Self { client, id: id.to_owned(), timeout: Duration::from_millis(timeout) })
    }

    /// For how long a transaction may be open.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Fences every other producer with this id, and has the brokers abort what it has left open.
    ///
    /// By itself librdkafka asks twice a second, and the first answer after a kill is that the transaction is being aborted. Every
    /// call has it ask at once, and goes on where the one before has stopped.
    pub(super) fn init(&self) -> KafkaResult<()> {
        self.until_done(self.timeout.min(INIT), |pause| self.client.init_transactions(pause))
    }

    /// Calls a step of librdkafka that goes on where its call before has stopped. In between, what has become of messages is taken: some steps
    /// wait for that.
    fn until_done(&self, patience: Duration, step: impl Fn(Duration) -> KafkaResult<()>) -> KafkaResult<()> {
        let began = Instant::now();
        loop {
            let pause = if began.elapsed() < OFTEN.0 { OFTEN.1 } else { SELDOM };
            let done = step(pause);
            self.client.poll(Duration::ZERO);
            match done {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && began.elapsed() < patience => {
                }
                done => return done,
            }
        }
    }

    /// Why the brokers do not let the client in.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.client.context().logging.refusal()
    }

    pub(super) fn begin(&self) -> KafkaResult<()> {
        self.client.context().forget();
        self.client.begin_transaction()
    }

    /// Sends a message; it waits if too many are on their way. `number` is its number in the epoch's output.
    pub(super) fn send(
        &self,
        topic: &str,
        message: &StagedMessage<'_>,
        number: u64,
    ) -> std::result::Result<(), Failed> {
        let mut record = record(topic, message, number as usize);
        // The clock is read only where it is needed: for every message it would take a tenth of the publisher's time.
        let mut full_since = None;
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again))
                    if full_since.get_or_insert_with(Instant::now).elapsed() < self.timeout =>
                {
                    record = again;
                    self.client.poll(Duration::from_millis(10));
                    self.check()?;
                }
                Err((KafkaError::MessageProduction(code), _)) => {
                    // If the transaction cannot go on because of an earlier message, that one is the cause.
                    self.client.poll(Duration::ZERO);
                    self.check()?;
                    return Err(Failed::Message { number, code });
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Commits the transaction with its marker.
    pub(super) fn commit(&self, marker: &Marker, topic: &str) -> std::result::Result<(), Failed> {
        self.send_marker(marker, topic).or_else(|error| self.check().and(Err(error.into())))?;
        self.flush()?;
        let committed = self.client.commit_transaction(self.timeout.min(STEP));
        committed.or_else(|error| self.check().and(Err(error.into())))
    }

    /// Ends the transaction that is open, if there is one, so that readers need not wait for its timeout.
    pub(super) fn abort(&self) {
        if let Err(error) = self.until_done(ABORT, |pause| self.client.abort_transaction(pause)) {
            debug!(target: "kafka", "the transaction of {} is not aborted: {error}", self.id);
        }
    }

    /// Waits until the brokers have all messages. That of `rdkafka` sleeps for a tenth of a second if they have not yet.
    fn flush(&self) -> std::result::Result<(), Failed> {
        let began = Instant::now();
        let (mut left, mut since) = (self.client.in_flight_count(), began);
        loop {
            // SAFETY: the client is alive.
            let code =
                Code::from(unsafe { sys::rd_kafka_flush(self.client.client().native_ptr(), GLANCE_MS) });
            self.client.poll(Duration::ZERO);
            self.check()?;
            let now_left = self.client.in_flight_count();
            if now_left < left {
                (left, since) = (now_left, Instant::now());
            }
            let is_in_time = began.elapsed() < self.timeout && since.elapsed() < STEP.max(self.timeout / 2);
            match code {
                Code::NoError => return Ok(()),
                Code::OperationTimedOut if is_in_time => {}
                code => return Err(KafkaError::Flush(code).into()),
            }
        }
    }

    /// The first message that was not taken, as an error.
    fn check(&self) -> std::result::Result<(), Failed> {
        match self.client.context().first() {
            Some((number, code)) => Err(Failed::Message { number, code }),
            None => Ok(()),
        }
    }

    /// Commits the marker as an offset of the group that is called like the id. `rdkafka` makes the name of a group only from a
    /// consumer, which would be a client more for every sink and slot.
    fn send_marker(&self, marker: &Marker, topic: &str) -> KafkaResult<()> {
        let offsets = marker.as_offset(topic)?;
        let group = std::ffi::CString::new(self.id.as_str()).map_err(KafkaError::Nul)?;
        let timeout = self.timeout.min(STEP).as_millis() as i32;
        // SAFETY: client, offsets and name live until the calls are over; the group's metadata is destroyed after them.
        let error = unsafe {
            let group = sys::rd_kafka_consumer_group_metadata_new(group.as_ptr());
            let client = self.client.client().native_ptr();
            let error = sys::rd_kafka_send_offsets_to_transaction(client, offsets.ptr(), group, timeout);
            sys::rd_kafka_consumer_group_metadata_destroy(group);
            error
        };
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: it is an error that librdkafka gave, destroyed once.
        let code = unsafe {
            let code = Code::from(sys::rd_kafka_error_code(error));
            sys::rd_kafka_error_destroy(error);
            code
        };
        Err(KafkaError::OffsetFetch(code))
    }
}

/// A message as librdkafka takes it.
pub(super) fn record<'a, O: IntoOpaque>(
    topic: &'a str,
    message: &StagedMessage<'a>,
    opaque: O,
) -> BaseRecord<'a, [u8], [u8], O> {
    let mut record = BaseRecord::with_opaque_to(topic, opaque);
    (record.partition, record.timestamp) = (message.partition, message.timestamp);
    (record.key, record.payload) = (message.key, message.value);
    if !message.headers.is_empty() {
        let header = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
            headers.insert(Header { key, value: *value })
        };
        let headers = OwnedHeaders::new_with_capacity(message.headers.len());
        record.headers = Some(message.headers.iter().fold(headers, header));
    }
    record
}

/// What has become of the messages of a transaction: the first that was not taken.
#[derive(Default)]
struct Deliveries {
    first: Mutex<Option<(u64, Code)>>,
    logging: Logging,
}

impl Deliveries {
    fn forget(&self) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn first(&self) -> Option<(u64, Code)> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logging.failed(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let Err((error, _)) = result else { return };
        let code = code_of(error);
        // What is purged was given up because of something else.
        if !matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.take_if(|(_, earlier)| is_of_another(*earlier));
            first.get_or_insert((number as u64, code));
        }
    }
}
