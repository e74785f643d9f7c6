//! The topic that is written to.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::OnceLock;
use tidegate_connectors::Kafka;

/// How long the brokers may be away.
const PATIENCE: Duration = Duration::from_secs(300);

/// A topic, with a producer that writes it without repeating a row.
pub(crate) struct Topic {
    name: String,
    producer: BaseProducer<Deliveries>,
}

/// The first row that was not taken, and why.
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

impl Topic {
    /// Opens a topic with so many partitions; it is made if it is missing.
    pub(crate) fn open(kafka: &Kafka, name: &str, partitions: u64) -> Result<Self, String> {
        match kafka.partitions(name).map_err(|e| e.to_string())? {
            None => {
                kafka.create_topic(name, partitions as usize, None, &[]).map_err(|e| e.to_string())?;
            }
            Some(found) if found as u64 != partitions => {
                return Err(format!("the topic {name} has {found} partitions, ask for --partitions {found}"));
            }
            Some(_) => {}
        }
        let mut config = kafka.client_config().map_err(|e| e.to_string())?;
        config.set("enable.idempotence", "true").set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let producer = config.create_with_context(Deliveries::default()).map_err(|e| e.to_string())?;
        Ok(Self { name: name.to_owned(), producer })
    }

    /// Sends a row; the newline at its end is no part of the message.
    pub(crate) fn write(&mut self, partition: usize, line: &[u8]) -> Result<(), String> {
        let row = line.strip_suffix(b"\n").unwrap_or(line);
        let mut record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition as i32).payload(row);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(Duration::from_millis(10));
                    self.check()?;
                }
                Err((error, _)) => return Err(self.failed(&error.to_string())),
            }
        }
    }

    /// Waits until the brokers have all rows.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.producer.flush(PATIENCE).map_err(|e| self.failed(&e.to_string()))?;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        self.producer.context().0.get().map_or(Ok(()), |error| Err(self.failed(error)))
    }

    fn failed(&self, error: &str) -> String {
        format!("cannot write to the topic {}: {error}", self.name)
    }
}
