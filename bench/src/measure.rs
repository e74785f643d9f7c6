//! The measurements, one file each.
//!
//! To add one: a file with a function from [`Setting`] to [`Table`], and a line in [`ALL`].

use crate::Result;
use crate::setting::Setting;
use crate::table::Table;

pub mod restart;
pub mod throughput;

/// A measurement's name on the command line, what it answers, and how to take it.
pub struct Measurement {
    /// Its name.
    pub name: &'static str,
    /// The question.
    pub about: &'static str,
    /// Takes it.
    pub take: fn(&Setting) -> Result<Table>,
}

/// Every measurement, in the order of the report.
pub const ALL: &[Measurement] = &[
    Measurement {
        name: "throughput",
        about: "CPU, rows/s and peak memory beside the bare loop",
        take: throughput::take,
    },
    Measurement {
        name: "restart",
        about: "from kill -9 to the first new output, with much state",
        take: restart::take,
    },
];

/// The measurements of these names; all where none is named.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Measurement>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Measurement> {
    let known = || ALL.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|m| m.name == name).ok_or_else(|| format!("no measurement {name}, there are {}", known()))
}
