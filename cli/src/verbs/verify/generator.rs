//! Writes numbered rows at a steady rate, on a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tidegate_protocol::Result;

use super::audit::Row;
use super::background::{Background, Signals};
use super::topics::{Topics, cannot};
use crate::options::ExactlyOnceOptions;

/// For how long the brokers may be away before rows count as lost.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest time without a look at what the brokers have acknowledged.
const PAUSE: Duration = Duration::from_millis(10);

/// The thread that writes.
pub(super) struct Generator {
    thread: Background<Result<Sent>>,
    deliveries: Arc<Deliveries>,
}

/// What was sent.
pub(super) struct Sent {
    /// The numbers of the rows are those below.
    pub(super) rows: u64,
    /// The rows that the brokers have not acknowledged: they may be there or not.
    pub(super) refused: Vec<u64>,
}

#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    refused: Mutex<Vec<u64>>,
}

struct Context(Arc<Deliveries>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => drop(self.0.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err(_) => self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).push(number as u64),
        }
    }
}

impl Generator {
    /// Starts to write.
    pub(super) fn start(topics: &Topics, options: &ExactlyOnceOptions) -> Result<Self> {
        let mut config = topics.kafka.client_config()?;
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
        config.set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let deliveries = Arc::<Deliveries>::default();
        let producer: BaseProducer<Context> = config
            .create_with_context(Context(deliveries.clone()))
            .map_err(|error| cannot("write to", &topics.rows).caused_by(error))?;
        let writer = Writer {
            producer,
            topic: topics.rows.clone(),
            partitions: topics.partitions as u64,
            keys: options.keys.into(),
            rate: options.rate.into(),
        };
        let thread = Background::start("generator", move |signals| writer.run(signals))?;
        Ok(Self { thread, deliveries })
    }

    /// How many rows the brokers have acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.deliveries.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether it has ended: all rows are acknowledged or lost, or it cannot go on.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has it write no more rows; those that are sent already are acknowledged later.
    pub(super) fn stop(&self) {
        self.thread.stop();
    }

    /// Waits until all rows are acknowledged or lost.
    pub(super) fn sent(self) -> Result<Sent> {
        self.thread.result()?
    }
}

struct Writer {
    producer: BaseProducer<Context>,
    topic: String,
    partitions: u64,
    keys: u64,
    rate: u64,
}

impl Writer {
    fn run(self, signals: &Signals) -> Result<Sent> {
        let began = Instant::now();
        let mut rows = 0;
        while !signals.to_stop() {
            let due = (began.elapsed().as_micros() * u128::from(self.rate) / 1_000_000) as u64;
            while rows < due && !signals.to_stop() {
                self.send(rows, signals)?;
                rows += 1;
            }
            self.producer.poll(PAUSE);
        }
        // Every row is acknowledged or lost, in time.
        while self.producer.in_flight_count() > 0 && !signals.to_abandon() {
            self.producer.poll(PAUSE);
        }
        let refused = &self.producer.context().0.refused;
        let refused = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Sent { rows, refused })
    }

    /// The rows of a key are in one partition, in the order of their numbers.
    fn send(&self, number: u64, signals: &Signals) -> Result<()> {
        let key = number % self.keys;
        let row = Row { key: format!("key-{key}"), number };
        let payload = serde_json::to_vec(&row)?;
        let mut record = BaseRecord::with_opaque_to(&self.topic, number as usize)
            .partition((key % self.partitions) as i32)
            .key(row.key.as_bytes())
            .payload(&payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    if signals.to_abandon() {
                        return Ok(());
                    }
                    record = again;
                    self.producer.poll(PAUSE);
                }
                Err((error, _)) => return Err(cannot("write to", &self.topic).caused_by(error)),
            }
        }
    }
}
