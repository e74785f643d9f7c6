//! How a record becomes a message.

use serde::Serialize;

use super::outgoing::OutgoingMessage;

/// Writes a record of the type `T` as a message.
pub trait RecordFormat<T>: Clone + Send + Sync + 'static {
    /// Fills in the message, which is empty but for the timestamp, the record's event time.
    ///
    /// # Errors
    /// Why the record cannot be written; the job ends.
    fn write(&self, record: &T, message: &mut OutgoingMessage) -> Result<(), String>;
}

/// The record as JSON, without a key.
#[derive(Clone, Copy, Debug)]
pub struct JsonValue;

impl<T: Serialize> RecordFormat<T> for JsonValue {
    fn write(&self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        serde_json::to_writer(message.value(), record).map_err(|error| error.to_string())
    }
}

/// The record as JSON, with a key that is a part of it.
#[derive(Clone, Debug)]
pub struct KeyedJson<K>(pub(super) K);

impl<T, B, K> RecordFormat<T> for KeyedJson<K>
where
    T: Serialize,
    B: AsRef<[u8]> + ?Sized,
    K: Fn(&T) -> &B + Clone + Send + Sync + 'static,
{
    fn write(&self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        message.key().extend_from_slice((self.0)(record).as_ref());
        JsonValue.write(record, message)
    }
}

/// Messages that a function of the job fills in.
#[derive(Clone, Debug)]
pub struct WrittenBy<F>(pub(super) F);

impl<T, F> RecordFormat<T> for WrittenBy<F>
where
    F: Fn(&T, &mut OutgoingMessage) -> Result<(), String> + Clone + Send + Sync + 'static,
{
    fn write(&self, record: &T, message: &mut OutgoingMessage) -> Result<(), String> {
        (self.0)(record, message)
    }
}
