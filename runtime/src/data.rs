//! Records that can be sent to another worker.

/// A record that can cross to another worker, in this process or another: whatever derives serde's traits.
///
/// # What can cross
///
/// Records cross where they move to another worker: at [`Stream::key_by`](crate::Stream::key_by) and
/// [`key_by_value`](crate::Stream::key_by_value), [`rebalance`](crate::Stream::rebalance),
/// [`broadcast`](crate::Stream::broadcast) and [`connect_broadcast`](crate::KeyedStream::connect_broadcast). To another
/// process they are sent in a format that is not self-describing, so a value must be read by the same steps by which it was
/// written. Numbers, texts, lists, maps, tuples, structs and enums can cross, and whatever is made of them by serde's
/// derive, but not with `#[serde(skip_serializing)]`, `#[serde(skip_serializing_if)]`, `#[serde(flatten)]`,
/// `#[serde(untagged)]` or `#[serde(tag)]` anywhere in it, and not with a `serde_json::Value`. Where `Serialize` and
/// `Deserialize` were written by hand, or named by `#[serde(with)]`, `#[serde(serialize_with)]` or
/// `#[serde(deserialize_with)]`, one must read what the other writes.
///
/// A job that sends records of such a type to other workers is refused before it starts, also with one worker, whose
/// records stay in memory. For that check the type is tested with generated values; a field that is left out only for a
/// value that was not tested ends the job when that value is sent to another process. The same goes for what a snapshot
/// [keeps](crate::KeyedProcess#what-can-be-kept).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate::testing::{VecSource, collect};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Reading {
///     device: u32,
///     #[serde(skip_serializing_if = "Option::is_none")]
///     note: Option<String>,
/// }
///
/// let readings = VecSource::of([Reading { device: 7, note: None }]);
/// // It may be read, changed and written; only the exchange refuses it.
/// let refused = collect(move |job| Ok(job.source("readings", readings.clone()).rebalance())).map(|_| ()).unwrap_err();
/// assert!(refused.to_string().contains("its field 'note' (of Reading) is left out"), "{refused}");
/// ```
#[diagnostic::on_unimplemented(
    message = "records of the type `{Self}` cannot cross to another worker",
    label = "a stream of `{Self}` cannot be exchanged between workers",
    note = "`key_by`, `rebalance`, `broadcast` and `connect` send records to other workers: such a record derives serde's \
            `Serialize` and `Deserialize`, and owns what it holds"
)]
pub trait Data: serde::Serialize + serde::de::DeserializeOwned + Send + 'static {}

impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Data for T {}
