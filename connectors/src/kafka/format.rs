//! How the value of a message becomes a record.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::message::Message;
use crate::format::json;

/// Reads a message as a record.
pub trait MessageFormat: Clone + Send + Sync + 'static {
    /// The type of a record.
    type Item: 'static;

    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it, for the dead letter.
    fn read(&self, message: &Message<'_>) -> Result<Self::Item, String>;
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

    fn read(&self, message: &Message<'_>) -> Result<T, String> {
        json::parse(value(message)?, false)
    }
}

/// Values as they are.
#[derive(Clone, Copy, Debug)]
pub struct Bytes;

impl MessageFormat for Bytes {
    type Item = Vec<u8>;

    fn read(&self, message: &Message<'_>) -> Result<Vec<u8>, String> {
        value(message).map(<[u8]>::to_vec)
    }
}

/// Values that are text.
#[derive(Clone, Copy, Debug)]
pub struct Utf8;

impl MessageFormat for Utf8 {
    type Item = String;

    fn read(&self, message: &Message<'_>) -> Result<String, String> {
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

    fn read(&self, message: &Message<'_>) -> Result<T, String> {
        (self.0)(message)
    }
}

fn value<'a>(message: &Message<'a>) -> Result<&'a [u8], String> {
    message.value().ok_or_else(|| "the message has no value: it is a tombstone".to_owned())
}
