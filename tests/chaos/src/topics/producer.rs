//! Writes rows to a topic, each once, however often the brokers die.

use crate::failure::{Context, Failure, Result};
use crate::topics::Topics;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::sync::OnceLock;
use std::time::Duration;

/// Rows that wait for brokers that are away.
const WAITING: &str = "1000000";
/// For so long at most.
const PATIENCE: &str = "600000";

/// A producer whose rows keep their order.
pub struct Producer(BaseProducer<Deliveries>);

/// The first row that the brokers did not take, and why.
#[derive(Default)]
struct Deliveries(OnceLock<String>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let _ = self.0.set(error.to_string());
        }
    }
}

impl Producer {
    /// Makes one.
    pub fn new(topics: &Topics) -> Result<Producer> {
        topics.here(|| {
            let mut config = topics.config();
            config
                .set("enable.idempotence", "true")
                .set("message.timeout.ms", PATIENCE)
                .set("linger.ms", "5");
            config.set("queue.buffering.max.messages", WAITING);
            let made = config.create_with_context(Deliveries::default());
            Ok(Producer(made.context("cannot make a producer")?))
        })
    }

    /// Hands a row over; false if too many wait already.
    pub fn send(&self, topic: &str, partition: usize, row: &[u8]) -> Result<bool> {
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition as i32).payload(row);
        match self.0.send(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
            Err((error, _)) => Err(failed(topic, &error.to_string())),
        }
    }

    /// Hears what has become of the rows.
    pub fn poll(&self, topic: &str) -> Result<()> {
        self.0.poll(Duration::ZERO);
        self.0.context().0.get().map_or(Ok(()), |error| Err(failed(topic, error)))
    }

    /// Waits until the brokers have all rows.
    pub fn flush(&self, topic: &str, patience: Duration) -> Result<()> {
        self.0.flush(patience).map_err(|error| failed(topic, &error.to_string()))?;
        self.poll(topic)
    }
}

fn failed(topic: &str, error: &str) -> Failure {
    Failure::new(format!("cannot write to the topic {topic}: {error}"))
}
