//! What a poll of a partition has read.

use crate::record::{Record, RecordId};

/// What a poll has read.
pub struct Polled<T> {
    /// The records read, with the offset of each for messages (a byte offset, a log offset).
    records: Vec<Record<T>>,
    /// The records that could not be read as a `T`.
    malformed: Vec<Malformed>,
    bytes: usize,
}

impl<T> Default for Polled<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Polled<T> {
    /// Nothing read yet, with room for so many records.
    pub fn with_capacity(records: usize) -> Self {
        Self { records: Vec::with_capacity(records), malformed: Vec::new(), bytes: 0 }
    }

    /// Nothing read yet; for tests of a connector.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Takes out what was read so far, for tests of a connector: records with their offsets, and malformed ones with
    /// offset, error and raw bytes.
    pub fn take(&mut self) -> (Vec<(u64, T)>, Vec<(u64, String, Vec<u8>)>) {
        self.bytes = 0;
        let records = self.records.drain(..).map(|r| (r.id.as_offset(), r.value)).collect();
        let malformed = self.malformed.drain(..).map(|m| (m.offset, m.error, m.raw)).collect();
        (records, malformed)
    }

    /// Adds a record that stands at `offset` of its partition.
    #[inline]
    pub fn record(&mut self, offset: u64, value: T) {
        self.records.push(Record {
            timestamp: Record::<T>::NO_TIMESTAMP,
            id: RecordId::offset(offset),
            value,
        });
    }

    /// Adds an entry at `offset` that is not a `T`; the job's policy for this source decides what happens.
    #[cold]
    pub fn malformed(&mut self, offset: u64, error: impl Into<String>, raw: &[u8]) {
        self.malformed.push(Malformed { offset, error: error.into(), raw: raw.to_vec() });
    }

    /// Says that what was polled took so many bytes more where it came from. It bounds what is in flight, which otherwise
    /// only the number of records does; it need not be exact.
    pub fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The records read so far. The engine takes them from here, and leaves the buffer to the next poll.
    pub fn records_mut(&mut self) -> &mut Vec<Record<T>> {
        &mut self.records
    }

    /// Takes out the malformed records so far.
    pub fn take_malformed(&mut self) -> Vec<Malformed> {
        std::mem::take(&mut self.malformed)
    }

    /// Takes the number of bytes since the last call.
    pub fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// The number of records and malformed records so far.
    pub fn len(&self) -> usize {
        self.records.len() + self.malformed.len()
    }

    /// True if nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that a source read and could not make a record of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where it stands in its partition.
    pub offset: u64,
    /// What is wrong with it.
    pub error: String,
    /// Its bytes, or the first of them.
    pub raw: Vec<u8>,
}
