//! How a job's program is run, alone or on a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::{KeyGroups, Result};

use crate::api::job::BuildJob;
use crate::attempt::{AttemptSetup, ProcessWorkers};
use crate::clock::Clock;
use crate::dataflow::process::Process;
use crate::job_process::description::Description;
use crate::link::{Beginning, Connection, Link, ToDriver};
use crate::metrics::Metrics;

/// How a job's program is run: what its command line says, and what a test replaces.
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

    /// A process with some of the job's workers, which have these partitions; the last flag says whether the job drains.
    pub(crate) fn process(
        &self,
        setup: AttemptSetup,
        workers: ProcessWorkers,
        (assigned, drains): (BTreeMap<String, Vec<Vec<String>>>, bool),
        to_driver: Connection<ToDriver>,
    ) -> Process {
        let (attempt, first_epoch) = (setup.attempt, setup.first_epoch);
        let beginning = Beginning { attempt, first_epoch, assigned, drains };
        Process::new(setup, workers, beginning, to_driver, self.clock.clone(), self.metrics.clone())
    }

    /// Describes the job in a process in which no worker runs: nothing is reported, and nothing is counted.
    pub(crate) fn describe(
        &self,
        build: &BuildJob,
        setup: AttemptSetup,
        workers: ProcessWorkers,
    ) -> Result<Description> {
        let apart = Self { metrics: Arc::default(), ..self.clone() };
        let process = apart.process(setup, workers, (BTreeMap::new(), false), Box::new(drop));
        Description::of(&self.job, &self.arguments, build, process)
    }
}
