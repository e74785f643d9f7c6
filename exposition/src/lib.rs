//! Prometheus' text format (version 0.0.4).
//!
//! - [`Exposition`]: samples, family by family, and the texts of other processes with labels added.
//! - [`serve`]: one text over HTTP.
//!
//! ```
//! use tidegate_exposition::{Exposition, Family};
//!
//! const SLOTS: Family = Family::gauge("slots", "Workers that there is room for.");
//! let mut all = Exposition::default();
//! all.add(SLOTS, &[], 4.0);
//! let text = "# HELP late_total Late \n# TYPE late_total counter\nlate_total{worker=\"1\"} 7\n";
//! assert_eq!(all.merge(text, &[("attempt", "2")]), 0);
//! assert!(all.to_string().ends_with("late_total{worker=\"1\",attempt=\"2\"} 7\n"));
//! ```
//!
//! Not here: which metrics there are, and where their values come from.

#![forbid(unsafe_code)]

mod families;
mod sample;
mod server;

pub use families::{Exposition, Family};
pub use server::{CONTENT_TYPE, serve};
