//! How a batch has crossed as bytes, if it has.

use std::cell::OnceCell;

/// The result of encoding or decoding a batch; empty for a batch that stays in memory.
#[derive(Default)]
pub(crate) struct Passage {
    /// On the sender's side, once timely has asked for the bytes: the bytes, or the reason why there are none.
    pub(super) sent: OnceCell<Result<Vec<u8>, String>>,
    /// On the receiver's side: the result of decoding the bytes.
    pub(super) arrived: Option<Result<(), String>>,
}

impl Passage {
    /// True if timely has asked for the batch as bytes, whether it could be encoded or not.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.get().is_some()
    }

    /// True if the batch was decoded from bytes.
    pub(crate) fn has_arrived(&self) -> bool {
        self.arrived.is_some()
    }

    /// Why the batch was not sent.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.sent.get()?.as_ref().err().map(String::as_str)
    }

    /// Why the batch is without its records.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.arrived.as_ref()?.as_ref().err().map(String::as_str)
    }
}
