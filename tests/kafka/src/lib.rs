//! Brokers for tests, and clients that feed and judge jobs. The clients share nothing with the connector but librdkafka.

mod brokers;
mod client;

pub use brokers::{Brokers, Secure};
pub use client::{Client, Row, Transaction};
