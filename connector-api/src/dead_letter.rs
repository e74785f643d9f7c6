//! The form in which a record that cannot be read is kept.

/// A record of a dead-letter sink: what a source or a parsing step could not read, where it stood and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// The name of the source, or of the parsing step, in the job.
    pub source: String,
    /// The partition's name. None behind an exchange or a union, where a record's place is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The offset in the partition (for a file the byte offset of the line's start); known where the partition is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong with it.
    pub error: String,
    /// The record as it was read, if it is UTF-8; behind a step `try_map`, the record as JSON. None if `event_time`
    /// found its time not plausible, because its bytes are not kept until then. Partition and offset say where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// The record as it was read, in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_base64: Option<String>,
}
