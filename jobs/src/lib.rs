//! The example jobs, one short file each, and what they share: the reading of a sensor.

use serde::{Deserialize, Serialize};
use tidegate_connectors::kafka::DeliveryGuarantee;
use tidegate_connectors::{Kafka, KafkaSetting, Location};

/// Compiles the program that the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

/// Runs the example of docs/event-time.md.
#[cfg(doctest)]
#[doc = include_str!("../../docs/event-time.md")]
mod event_time {}

/// A reading of a sensor, one row of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The machine that the sensor sits on.
    pub device_id: String,
    /// When it was measured, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Degrees Celsius; sensors that are broken report values outside 0 to 100.
    pub temperature: f64,
    /// Millimetres a second.
    pub vibration: f64,
    /// Kilopascals.
    pub pressure: f64,
}

/// Where a job reads and writes: directories of files, or topics.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    /// The readings: a directory of partitions part-*.jsonl, or kafka:TOPIC (also kafka:TOPIC,TOPIC or kafka:^PATTERN).
    #[arg(long, value_name = "DIR|kafka:TOPIC")]
    pub input: Location,
    /// Where the results go.
    #[arg(long, value_name = "DIR|kafka:TOPIC")]
    pub output: Location,
    /// Where rows go that are not readings.
    #[arg(long, value_name = "DIR|kafka:TOPIC")]
    pub dead_letters: Location,
    /// A setting of the Kafka client, any number of times, bootstrap.servers among them. A secret is given as KEY=env:NAME
    /// or KEY=file:PATH.
    #[arg(long, value_name = "KEY=VALUE")]
    pub kafka: Vec<KafkaSetting>,
    /// What is guaranteed of output to topics: exactly-once, at-least-once or none.
    #[arg(long, value_name = "GUARANTEE", default_value_t)]
    pub delivery: DeliveryGuarantee,
}

impl Places {
    /// The brokers that topics are at.
    pub fn kafka(&self) -> Kafka {
        Kafka::new(self.kafka.clone()).delivery(self.delivery)
    }
}
