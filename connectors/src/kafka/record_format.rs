//! How a record becomes a message.

use serde::Serialize;
use tidegate_protocol::Result as JobResult;

use super::outgoing::OutgoingMessage;

/// Writes records of the type `T` as messages. Every worker has a copy of its own.
pub trait RecordFormat<T>: Clone + Send + Sync + 'static {
    /// Checks the format itself, at the start of a job. Nothing is connected.
    ///
    /// # Errors
    /// If no record can be written in this format; the job does not start.
    fn check(&self) -> JobResult<()> {
        Ok(())
    }

    /// Prepares the format for the topic that is written to, before the first record; this may wait.
    ///
    /// # Errors
    /// If something that writing needs cannot be had; the job ends.
    fn open(&mut self, topic: &str) -> JobResult<()> {
        let _ = topic;
        Ok(())
    }

    /// Fills in the message, which is empty but for the timestamp, the record's event time.
    ///
    /// # Errors
    /// Why the record cannot be written; the job ends.
    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String>;
}

/// The record as JSON, without a key.
#[derive(Clone, Copy, Debug)]
pub struct JsonValue;

impl<T: Serialize> RecordFormat<T> for JsonValue {
    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        serde_json::to_writer(message.value(), record).map_err(|error| error.to_string())
    }
}

/// The record in the format `F`, with a key that is a part of it.
#[derive(Clone, Debug)]
pub struct Keyed<K, F> {
    pub(super) key: K,
    pub(super) format: F,
}

impl<T, B, K, F> RecordFormat<T> for Keyed<K, F>
where
    B: AsRef<[u8]> + ?Sized,
    K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
    F: RecordFormat<T>,
{
    fn check(&self) -> JobResult<()> {
        self.format.check()
    }

    fn open(&mut self, topic: &str) -> JobResult<()> {
        self.format.open(topic)
    }

    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        message.key().extend_from_slice((self.key)(record).as_ref());
        self.format.write(record, message)
    }
}

/// Messages that a function of the job fills in.
#[derive(Clone, Debug)]
pub struct WrittenBy<F>(pub(super) F);

impl<T, F> RecordFormat<T> for WrittenBy<F>
where
    F: Fn(&T, &mut OutgoingMessage) -> Result<(), String> + Clone + Send + Sync + 'static,
{
    fn write(&mut self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        (self.0)(record, message)
    }
}
