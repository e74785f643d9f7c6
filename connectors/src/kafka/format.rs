//! How the value of a message becomes a record.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, Result as JobResult};

use super::message::Message;
use crate::format::json;

/// Reads messages as records. Every worker has a copy of its own.
pub trait MessageFormat: Clone + Send + Sync + 'static {
    /// The type of a record.
    type Item: 'static;

    /// Checks the format itself, at the start of a job. Nothing is connected.
    ///
    /// # Errors
    /// If no message can be read in this format; the job does not start.
    fn check(&self) -> JobResult<()> {
        Ok(())
    }

    /// Reads a message, without waiting for anything.
    ///
    /// # Errors
    /// Why there is no record, see [`ReadError`].
    fn read(&mut self, message: &Message<'_>) -> Result<Self::Item, ReadError>;
}

/// Why a message was not read as a record.
#[derive(Debug)]
pub enum ReadError {
    /// What is wrong with the message, for the dead letter. A `String` becomes this.
    Malformed(String),
    /// Something that reading needs, like the schema of the message, is being fetched. The message is given to the format again
    /// some milliseconds later, and those behind it in the partition wait; all else goes on.
    NotYet,
    /// Reading cannot go on; the job ends.
    Failed(Error),
}

impl From<String> for ReadError {
    fn from(what: String) -> Self {
        Self::Malformed(what)
    }
}

/// Values that are each the JSON of a `T`.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T> std::fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Json")
    }
}

impl<T: DeserializeOwned + 'static> MessageFormat for Json<T> {
    type Item = T;

    fn read(&mut self, message: &Message<'_>) -> Result<T, ReadError> {
        Ok(json::parse(value(message)?, false)?)
    }
}

/// Values as they are.
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

impl MessageFormat for Bytes {
    type Item = Vec<u8>;

    fn read(&mut self, message: &Message<'_>) -> Result<Vec<u8>, ReadError> {
        Ok(value(message)?.to_vec())
    }
}

/// Values that are text.
#[derive(Clone, Copy, Debug)]
pub struct Utf8;

impl MessageFormat for Utf8 {
    type Item = String;

    fn read(&mut self, message: &Message<'_>) -> Result<String, ReadError> {
        let text = simdutf8::compat::from_utf8(value(message)?);
        let text =
            text.map_err(|error| format!("not UTF-8 from byte {} of the value on", error.valid_up_to()))?;
        Ok(text.to_owned())
    }
}

/// Messages that a function of the job reads.
#[derive(Clone, Debug)]
pub struct With<F>(pub(super) F);

impl<T, F> MessageFormat for With<F>
where
    T: 'static,
    F: Fn(&Message<'_>) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    type Item = T;

    fn read(&mut self, message: &Message<'_>) -> Result<T, ReadError> {
        Ok((self.0)(message)?)
    }
}

/// The value of a message that is no tombstone.
pub(super) fn value<'a>(message: &Message<'a>) -> Result<&'a [u8], String> {
    message.value().ok_or_else(|| "the message has no value: it is a tombstone".to_owned())
}
