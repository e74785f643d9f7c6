//! A record on its way.

/// A record with its event time and the hash of its key, computed once.
///
/// Before a stream has event time, `ts` is `i64::MIN`; before it has a key, `hash` holds the record's offset in its
/// partition, so that a message about a record can say which one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rec<T> {
    /// Event time in milliseconds since the Unix epoch.
    pub(crate) ts: i64,
    /// The stable hash of the key, or the offset before there is a key.
    pub(crate) hash: u64,
    /// The record itself.
    pub(crate) val: T,
}

/// A record that can cross to another worker, in this process or another: whatever derives serde's traits.
#[diagnostic::on_unimplemented(
    message = "records of the type `{Self}` cannot cross to another worker",
    label = "a stream of `{Self}` cannot be exchanged between workers",
    note = "`key_by`, `rebalance`, `broadcast` and `connect` send records to other workers: such a record derives serde's \
            `Serialize` and `Deserialize`, and owns what it holds"
)]
pub trait Data: serde::Serialize + serde::de::DeserializeOwned + Send + 'static {}

impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Data for T {}
