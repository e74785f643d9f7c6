//! The measurements, one file each.
//!
//! To add one: a file with a function from [`Setting`] to [`Table`], and a line in [`ALL`].

use crate::Result;
use crate::setting::Setting;
use crate::table::Table;

pub mod alignment;
pub mod cluster_cpu;
pub mod codec;
pub mod drift;
pub mod firing;
pub mod hot_key;
pub mod idle;
pub mod kafka_gap;
pub mod kafka_latency;
pub mod kafka_throughput;
pub mod many_jobs;
pub mod recovery;
pub mod rescale;
pub mod restart;
pub mod slow_sink;
pub mod state;
pub mod throughput;
pub mod trickle;

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
    Measurement { name: "idle", about: "what a followed input without traffic costs", take: idle::take },
    Measurement { name: "alignment", about: "from trigger to barrier, at full load", take: alignment::take },
    Measurement {
        name: "trickle",
        about: "what a trickling partition costs two full ones",
        take: trickle::take,
    },
    Measurement {
        name: "slow-sink",
        about: "memory and checkpoints with a sink 100 times slower than its source",
        take: slow_sink::take,
    },
    Measurement {
        name: "firing",
        about: "memory with many windows or timers that are due at once, and with maps as state",
        take: firing::take,
    },
    Measurement {
        name: "drift",
        about: "state and speed with a backlog whose partitions are read at different speeds of event time",
        take: drift::take,
    },
    Measurement {
        name: "hot-key",
        about: "aggregate and aggregate_hot on even and on skewed keys",
        take: hot_key::take,
    },
    Measurement {
        name: "cluster-cpu",
        about: "CPU of 2 processes with a worker each beside 1 process with 2",
        take: cluster_cpu::take,
    },
    Measurement {
        name: "recovery",
        about: "time without output after a killed process, a killed and a silent host",
        take: recovery::take,
    },
    Measurement {
        name: "many-jobs",
        about: "an idle cluster, a submission, and the jobmanager with 200 jobs",
        take: many_jobs::take,
    },
    Measurement {
        name: "rescale",
        about: "time without output of a rescale and a savepoint with 1 GB of state (minutes)",
        take: rescale::take,
    },
    Measurement {
        name: "codec",
        about: "the codec of batches between processes beside those that were not taken",
        take: codec::take,
    },
    Measurement {
        name: "kafka-throughput",
        about: "CPU, rows/s and peak memory from topic to topic beside bare loops over librdkafka (minutes)",
        take: kafka_throughput::take,
    },
    Measurement {
        name: "kafka-latency",
        about: "from produced to visible for a reader of committed messages",
        take: kafka_latency::take,
    },
    Measurement {
        name: "kafka-gap",
        about: "time without committed messages after a killed process",
        take: kafka_gap::take,
    },
    Measurement {
        name: "state",
        about: "memory, checkpoint size and pauses with state larger than memory (minutes)",
        take: state::take,
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
