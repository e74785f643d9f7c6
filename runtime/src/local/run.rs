//! How a job is run in one process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::KeyGroups;

use crate::clock::Clock;
use crate::link::Link;
use crate::metrics::Metrics;

/// How a job is run in one process.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) job: String,
    pub(crate) checkpoint_dir: PathBuf,
    /// The number of workers; None for the number of cores, at most the number of key groups.
    pub(crate) parallelism: Option<usize>,
    pub(crate) interval: Option<Duration>,
    pub(crate) retain: usize,
    pub(crate) memory: usize,
    pub(crate) follow: bool,
    pub(crate) max_parallelism: u16,
    /// For tests; see [`JobSettings`](crate::attempt::JobSettings).
    pub(crate) over_the_wire: bool,
    pub(crate) arguments: BTreeMap<String, Vec<String>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    /// How the driver and the process exchange messages.
    pub(crate) link: Arc<dyn Link>,
}

impl Run {
    /// The number of workers with so many key groups: the number that was asked for, or one a core and at most one a group.
    pub(super) fn workers(&self, groups: KeyGroups) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.parallelism.unwrap_or_else(|| cores().min(groups.count.into()))
    }
}
