//! The decoders of what comes from other processes, for the tests that feed them arbitrary bytes (`tests/decoders`, `fuzz`),
//! and the codec of batches for its bench. Not a part of the interface: it may change at any time.

use tidegate_connector_api::{Record, RecordId};

use crate::cluster;
use crate::data::Data;
use crate::dataflow::batch::Batch;
use crate::dataflow::peers;

/// Decodes bytes as a batch of an exchange. Panics if a batch that was decoded cannot be encoded, or changes by that.
pub fn batch<T: Data>(bytes: &[u8]) {
    let Ok(batch) = Batch::<T>::decoded(bytes) else { return };
    // A value that its type refuses to write is refused on the sender's side.
    let Ok(written) = batch.encoded() else { return };
    let again = Batch::<T>::decoded(&written).expect("a batch that was encoded can be decoded");
    assert_eq!(again.encoded().as_deref(), Ok(&*written), "a batch changes when it is encoded and decoded");
}

/// A batch of records as it is sent. Their timestamps and ids vary as those of a source do.
pub fn encode_batch<T: Data>(values: Vec<T>) -> Vec<u8> {
    batch_of(values).encode()
}

/// The records of a batch that [`encode_batch`] has written; None if it cannot be decoded.
pub fn decode_batch<T: Data>(bytes: &[u8]) -> Option<Vec<Record<T>>> {
    Some(Batch::decoded(bytes).ok()?.records)
}

/// A batch to be encoded more than once.
pub struct Sent<T>(Batch<T>);

/// The batch that [`encode_batch`] encodes.
pub fn batch_of<T: Data>(values: Vec<T>) -> Sent<T> {
    let record = |(i, value)| {
        let i = i as i64;
        Record {
            timestamp: 1_700_000_000_000 + i,
            id: RecordId::from_bits(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i as u64 + 1)),
            value,
        }
    };
    Sent(Batch::new(1, 0, None, values.into_iter().enumerate().map(record).collect()))
}

impl<T: Data> Sent<T> {
    /// The bytes; none if a value cannot be sent.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encoded().unwrap_or_default()
    }

    /// The records.
    pub fn records(&self) -> &[Record<T>] {
        &self.0.records
    }
}

/// From now on records of this type are encoded as they lie in memory.
///
/// # Safety
/// As for [`Job::abomonate`](crate::Job::abomonate).
#[cfg(feature = "abomonation")]
pub unsafe fn abomonate<T: Data + Clone + abomonation::Abomonation>() {
    // SAFETY: what the caller promises.
    unsafe { crate::dataflow::abomonated::register::<T>() };
}

/// Reads messages beside the dataflow until one is refused. Panics if one changes when it is written and read.
pub fn peer_messages(bytes: &[u8]) {
    peers::read_all(bytes);
}

/// Such messages.
pub fn encode_peer_messages() -> Vec<u8> {
    peers::samples()
}

/// Judges what a process says when it connects. Panics if another one is accepted than the one that is expected.
pub fn hello(bytes: &[u8]) {
    cluster::connect::judge_any(bytes);
}

/// What process `from` of attempt 2 says to process 0.
pub fn encode_hello(from: u32) -> Vec<u8> {
    cluster::connect::sample(from)
}
