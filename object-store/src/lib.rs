//! A bucket of S3, or of a store that speaks its protocol, as a checkpoint store; and which store a name means.
//!
//! A store is named by a path, or as `s3://bucket/prefix`. [`Stores`] opens it, with the settings and credentials of the
//! process. What a bucket does otherwise than a directory:
//!
//! - A manifest is made by a conditional put (`If-None-Match: *`), which the store refuses if the object exists.
//! - An object is visible when it was written as a whole, and durable then: nothing needs to be synced.
//! - Files are sent in parts of 8 MiB, a few at a time. Every object carries the CRC-32 of its content.
//! - Reading a file takes long. With a directory for copies ([`Copies`]), what a worker has stored or fetched before is
//!   taken from the local disk.
//! - There is no lock. On a cluster the ledger says who writes; a job alone cannot use a bucket.
//!
//! All requests are made on one thread of their own, which is started by the first one; who calls waits. A request that
//! fails is repeated for [`S3Settings::patience`], and then reported with the name of the object.
//!
//! Not here: what the objects are (`tidegate-snapshots`).

mod background;
mod bucket;
mod copies;
mod credentials;
mod settings;
mod store;
mod stores;
mod uri;

pub use copies::Copies;
pub use settings::S3Settings;
pub use store::ObjectStore;
pub use stores::Stores;
pub use uri::S3Uri;
