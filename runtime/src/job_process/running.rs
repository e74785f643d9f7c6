//! A process of a job from the start of its threads to their end.

use std::sync::Arc;
use std::time::Instant;

use tidegate_connector_api::awaited;
use tidegate_protocol::Result;
use tidegate_protocol::why::ProcessWhy;

use super::description::Description;
use super::discovery::Discovery;
use super::watchdog::Watchdog;
use crate::checkpoint::committers::Committers;
use crate::checkpoint::publishers::Publishers;
use crate::dataflow::process::Process;
use crate::dataflow::sockets::Sockets;
use crate::dataflow::worker::{BuildGraph, Workers, start};
use crate::metrics::descriptors;

/// The threads of a process of a job.
pub(crate) struct RunningProcess {
    process: Arc<Process>,
    workers: Option<Workers>,
    publishers: Publishers,
    committers: Committers,
    discovery: Discovery,
    watchdog: Watchdog,
}

impl RunningProcess {
    /// Starts the workers, connected to those of the other processes, and what runs beside them. The first process of an
    /// attempt asks the sources for new partitions.
    pub(crate) fn start(
        process: &Arc<Process>,
        job: &Description,
        sockets: Sockets,
        build: BuildGraph,
    ) -> Result<Self> {
        let publishers = Publishers::start(
            &job.sinks,
            &process.setup,
            process.workers,
            (&process.outputs, &process.readiness),
            &process.driver,
            (&process.activities, &process.metrics),
        )?;
        let committers = Committers::start(job.committers()?, &process.read)?;
        let (commit, publish) = (committers.on_complete(), publishers.on_complete());
        process.driver.set_publish(move |epoch| {
            commit(epoch);
            publish(epoch);
        })?;
        let is_first = process.workers.first.0 == 0;
        let sources = if is_first { &job.sources[..] } else { &[] };
        let discovery = Discovery::start(sources, &process.driver, &process.metrics)?;
        let workers = Some(start(process, sockets, build)?);
        let (process, watchdog) = (process.clone(), Watchdog::default());
        Ok(Self { process, workers, publishers, committers, discovery, watchdog })
    }

    /// Looks for steps that hang, and updates how long barriers have been under way. Returns what a user should know.
    pub(crate) fn look(&mut self) -> Vec<String> {
        let process = &self.process;
        self.show_gauges();
        let found = self.watchdog.look(&process.activities, Instant::now());
        process.metrics.set_stuck(found.stuck);
        found.notes
    }

    /// Updates the gauges that nobody sets as time passes.
    pub(crate) fn show_gauges(&self) {
        let process = &self.process;
        process.activities.show_alignments(process.driver.instructions());
        process.activities.show_lags(process.clock.now_ms());
        let longest = awaited().first().map_or(0.0, |awaited| awaited.duration().as_secs_f64());
        process.metrics.set(descriptors::AWAITED_SECONDS, Some(process.workers.first), longest);
    }

    /// What holds event time or a barrier back, as far as this process knows.
    pub(crate) fn why(&self) -> ProcessWhy {
        super::why::why(&self.process, &self.watchdog)
    }

    /// The job is to stop: what holds it up is named sooner.
    pub(crate) fn is_stopping(&mut self) {
        self.watchdog.stop();
    }

    /// Ends the threads after an abort. Workers that have not reported their end are stuck: they are left
    /// to run until the process of the operating system ends.
    pub(crate) fn close(self, have_workers_ended: bool, until: Instant) {
        let Self { workers, publishers, committers, discovery, .. } = self;
        if have_workers_ended {
            drop(workers);
        } else {
            std::mem::forget(workers);
        }
        publishers.close(until);
        committers.close(until);
        discovery.close(until);
    }
}
