//! What both demos have: programs, directories, an input with what must come of it, and a cluster.

use crate::Args;
use crate::cluster::Cluster;
use crate::screen::{Screen, grouped};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate_chaos::options::Options;
use tidegate_chaos::workbench::{Input, Workbench};
use tidegate_chaos::{Failure, Oracle, Result};

/// Partitions of the input.
pub(crate) const PARTITIONS: u64 = 3;
/// How often a running job is looked at.
const GLANCE: Duration = Duration::from_millis(3);

/// The programs and the directories of a demo.
pub(crate) struct Stage {
    pub(crate) generator: PathBuf,
    pub(crate) tidegate: PathBuf,
    pub(crate) job: PathBuf,
    pub(crate) model: PathBuf,
    pub(crate) bench: Workbench,
    pub(crate) rows: u64,
    pub(crate) devices: u64,
    pub(crate) seed: u64,
    pub(crate) parallelism: usize,
}

impl Stage {
    pub(crate) fn new(args: &Args) -> Result<Stage> {
        let Args { bin, generator, model, .. } = args;
        let (bin, generator, model) = (bin.clone(), generator.clone(), model.clone());
        let paths = Options { bin, generator, model, ..Options::default() };
        let job = paths.job()?;
        Ok(Stage {
            generator: paths.generator()?,
            tidegate: args.tidegate.clone().unwrap_or_else(|| job.with_file_name("tidegate")),
            job,
            model: paths.model()?,
            bench: Workbench::new(args.work.as_deref())?,
            rows: args.rows.unwrap_or(if args.kafka { 1_200_000 } else { 2_000_000 }),
            devices: args.devices.unwrap_or(if args.kafka { 500 } else { 2_000 }),
            seed: args.seed,
            parallelism: args.parallelism,
        })
    }

    /// Makes the input and computes what must come of it, or of a topic with its lines.
    pub(crate) fn prepare(&self, screen: &Screen, topic: Option<&str>) -> Result<Oracle> {
        let started = Instant::now();
        screen.live("input", "generating ...");
        let Stage { rows, devices, seed, .. } = *self;
        let generator = &self.generator;
        let counts =
            self.bench.generate(&Input { generator, rows, devices, partitions: PARTITIONS, seed })?;
        let (rows, devices, mb) = (grouped(rows), grouped(devices), self.bench.input_bytes() / 1_000_000);
        screen.timed("input", &format!("{rows} readings of {devices} devices, {mb} MB"), started.elapsed());
        let started = Instant::now();
        screen.live("expected", "computing by an independent program ...");
        let oracle = self.bench.oracle(topic, &self.model, &counts)?;
        let windows = grouped(oracle.windows.len() as u64);
        screen.timed("expected", &format!("{windows} windows, by an independent program"), started.elapsed());
        Ok(oracle)
    }

    pub(crate) fn start_cluster(&self, screen: &Screen) -> Result<Cluster> {
        let started = Instant::now();
        screen.live("cluster", "starting ...");
        let cluster = Cluster::up(&self.tidegate, &self.bench.checkpoints.with_file_name("cluster"))?;
        let text = format!("jobmanager at {}, 2 taskmanagers, 4 slots", cluster.address);
        screen.timed("cluster", &text, started.elapsed());
        Ok(cluster)
    }

    /// Submits the job with these arguments and the model.
    pub(crate) fn submit(
        &self,
        screen: &Screen,
        cluster: &Cluster,
        interval: &str,
        arguments: &[String],
    ) -> Result<String> {
        let started = Instant::now();
        let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let model = self.model.display().to_string();
        words.extend(["--model", &model]);
        let job = cluster.submit(self.parallelism, interval, &self.job, &words)?;
        screen.timed("submitted", &format!("JobID {job}"), started.elapsed());
        Ok(job)
    }
}

/// Waits a moment, but not for ever.
pub(crate) fn wait(until: Instant, job: &str) -> Result<()> {
    if Instant::now() >= until {
        return Err(Failure::new(format!("job {job} has not come to its end in time; it hangs")));
    }
    std::thread::sleep(GLANCE);
    Ok(())
}
