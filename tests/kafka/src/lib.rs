//! Brokers and a schema registry for tests, and clients that feed and judge jobs. The clients share nothing with the connector but
//! librdkafka.

mod brokers;
mod client;
mod registry;

pub use brokers::{Brokers, Host, Secure};
pub use client::{Client, Row, Transaction};
pub use registry::Registry;
