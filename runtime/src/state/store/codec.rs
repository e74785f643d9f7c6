//! Keys and values as bytes, and the errors for those that cannot be read back.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, Result};

use crate::fingerprint::readable;
use crate::fingerprint::whole::{NotWhole, left_out};

/// Appends a key or a state as it is written to a snapshot.
///
/// # Errors
/// If the type refuses the value, or writes it in a way that could not be read back.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, into: &mut Vec<u8>) -> Result<()> {
    // Such a value would be written, and the snapshot with it could not be read back.
    if let Some(what) = left_out(value) {
        return Err(cannot_keep::<T>(what));
    }
    let bytes = std::mem::take(into);
    *into = postcard::to_extend(value, bytes).map_err(cannot_serialize)?;
    Ok(())
}

/// The type of a key or a state refuses a value.
pub(crate) fn cannot_serialize(why: postcard::Error) -> Error {
    Error::job("a key or a state cannot be serialized").caused_by(why)
}

/// The error for a value that could not be read back from its bytes; nothing of it was written.
#[cold]
fn cannot_keep<T: ?Sized>(what: NotWhole) -> Error {
    Error::job(format!(
        "a value of type {} cannot be kept in a snapshot: {what}, and could not be read back; remove that attribute",
        readable(type_name::<T>())
    ))
}

/// Reads a key or a state of a row.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    decode_all(bytes).map_err(|why| cannot_read_back::<T>(&why))
}

/// The error for bytes that cannot be read back. The bytes of the state store are covered by checksums, so most likely the
/// type itself writes a value in another way than it reads it.
#[cold]
pub(crate) fn cannot_read_back<T>(why: &str) -> Error {
    Error::job(format!(
        "a value of type {} was written to the state store and cannot be read back: {why}. The likely reason is that its \
         'Serialize' does not write what its 'Deserialize' reads, because of a serde attribute (skip_serializing, \
         skip_serializing_if, flatten, untagged, tag, with) or because one of the two was written by hand: change the type, \
         and start with an empty --checkpoint-dir and empty output directories. If it has nothing of that kind, this is a \
         defect of Tidegate: please report it",
        readable(type_name::<T>())
    ))
}

/// Reads all of the bytes as one value: if bytes are left over, they belong to a value of another type.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} bytes are left after the value", rest.len())),
        Err(e) => Err(e.to_string()),
    }
}
