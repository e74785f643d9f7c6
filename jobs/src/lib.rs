//! The example jobs, one short file each, and what they share: the reading of a sensor.

use serde::{Deserialize, Serialize};

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
