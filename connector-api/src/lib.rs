//! What a connector implements: a source of partitions, a transactional sink.
//!
//! A connector knows nothing of workers, barriers or timely. Tidegate assigns a source's partitions to the workers, polls
//! each one for small batches, and keeps the position that a partition reports at every barrier; a restart opens the
//! partition at that position again. A sink stages the records that it receives until a barrier, and publishes what it has
//! staged once the snapshot that holds it is durable. Descriptions ([`Source`], [`TransactionalSink`]) are shared between
//! threads; what they make stays on the thread that it was made on.
//!
//! # What a connector must guarantee for exactly-once
//! - A partition opened at a position delivers the same records, in the same order, as it would have after that position.
//! - Staged output survives the end of the process, and publishing it twice is the same as publishing it once.
//!
//! A connector depends on this crate alone, and is built without the engine and its state store. What the traits use of
//! `tidegate-protocol` is exported here.

mod awaited;
mod dead_letter;
pub mod files;
mod polled;
mod record;
mod sink;
mod source;
mod staged;

pub use awaited::{Awaited, Waiting, awaited};
pub use dead_letter::DeadLetter;
pub use polled::{Malformed, Polled};
pub use record::{Record, RecordId};
pub use sink::{Owner, Publisher, SinkId, SinkPlace, SinkTarget, TransactionalSink, Writer};
pub use source::{PartitionStatus, Position, PositionCommitter, Source, SourceReader};
pub use staged::{StagedFile, StagedFileStore, StagedOutput, StagedWriter, Staging};
pub use tidegate_protocol::manifest::{FileRef, Staged};
pub use tidegate_protocol::{Attempt, Epoch, Error, ErrorContext, ErrorKind, JobId, Result, Slot};
