//! The snapshots of a job: how they are written, found, checked, retained and collected.
//!
//! A snapshot is a manifest and the files that it names. Both are objects in a [`CheckpointStore`], which is a directory
//! ([`LocalStore`]) or a bucket (the crate `tidegate-object-store`). [`Snapshots`] is the layout of one job's
//! snapshots in such a store and everything that is done with them. [`choose`] finds the one to restore from;
//! [`write_savepoint`], [`copy_snapshot`] and [`import`] copy one.
//!
//! ```text
//! attempt                    the number of the last attempt, with its checksum
//! published                  the last epoch whose output is known to be published, with its checksum
//! manifest-00000000007.json  one for every retained snapshot; written last, which completes the snapshot
//! damaged-00000000006.json   a damaged manifest, set aside for inspection
//! files/                     state files, shared between snapshots: <attempt>-<slot>-<epoch>-<name>
//! staged/                    staged output of sinks that have no place of their own for it
//! ```
//!
//! Invariants:
//!
//! - A manifest becomes visible as a whole or not at all, after everything that it names is durable.
//! - A number that a manifest was ever written for is not used again, also if that manifest is damaged.
//! - No file that a retained manifest names is deleted: manifests go first, then the files that none names.
//!
//! Not here: when a snapshot is taken or complete (the control brain), what the state files hold (the state store), the
//! running state stores beside the snapshots (the runtime).

mod choice;
mod copy;
mod local;
mod numbers;
mod snapshots;
mod store;

pub use choice::{Choice, choose};
pub use copy::{copy_snapshot, import, newest, write_savepoint};
pub use local::{LocalStore, checksum};
pub use snapshots::{Found, Snapshots, state_file_name};
pub use store::{CheckpointStore, Checksum, Upload};
