//! A record on its way through a job.

/// A record with its event time and what identifies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<T> {
    /// Event time in milliseconds since the Unix epoch; [`Record::NO_TIMESTAMP`] before the stream has one.
    pub timestamp: i64,
    /// The record's offset in its partition; behind an exchange by key the hash of its key, computed once.
    pub id: RecordId,
    /// The record itself.
    pub value: T,
}

impl<T> Record<T> {
    /// The timestamp of a record without event time.
    pub const NO_TIMESTAMP: i64 = i64::MIN;

    /// The event time, if the stream has one.
    #[inline]
    pub fn event_time(&self) -> Option<i64> {
        (self.timestamp != Self::NO_TIMESTAMP).then_some(self.timestamp)
    }
}

/// What identifies a record: its offset in its partition, or the hash of its key.
///
/// Which of the two it is follows from where the record is in the dataflow, so it is not kept with every record: in front of
/// the first exchange by key it is the offset, for messages about the record; behind it the hash, by which state is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId(u64);

impl RecordId {
    /// The id of the record at an offset of its partition (a byte offset, a log offset).
    #[inline]
    pub fn offset(offset: u64) -> Self {
        Self(offset)
    }

    /// The id of a record whose key has this hash.
    #[inline]
    pub fn key_hash(hash: u64) -> Self {
        Self(hash)
    }

    /// The offset, in front of the first exchange by key.
    #[inline]
    pub fn as_offset(self) -> u64 {
        self.0
    }

    /// The hash of the key, behind an exchange by key.
    #[inline]
    pub fn as_key_hash(self) -> u64 {
        self.0
    }

    /// The number, whichever it is: for bytes, and for what is shown of a record.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The id with this number, as [`RecordId::to_bits`] gave it.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
