//! Runs a job inside a test.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidegate_protocol::Epoch;

use super::directory::TemporaryDirectory;
use super::hostile::Seed;
use super::observer::{Observed, Observer, Unread};
use crate::api::Job;
use crate::api::job::BuildJob;
use crate::clock::{Clock, SystemClock};
use crate::link::Direct;
use crate::local::summary::Summary;
use crate::local::{self, Event, Mailbox, Run};
use crate::metrics::Metrics;
use tidegate_protocol::{Error, Result};

/// How long a test waits for a job before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the threads of a run that is over may take to be gone.
const LEAVE: Duration = Duration::from_secs(10);

/// A job that a test can run any number of times: a run resumes from the last snapshot of the run before.
///
/// It has one worker, a checkpoint every 20 ms and a temporary checkpoint directory, unless set otherwise.
///
/// ```
/// use tidegate::testing::{TestJob, VecSink, VecSource};
///
/// let out = VecSink::new();
/// let sink = out.clone();
/// let job = TestJob::new(move |job| {
///     job.source("words", VecSource::partitions([["a", "b"], ["c", "d"]])).sink("out", sink.clone());
///     Ok(())
/// });
/// let summary = job.parallelism(2).run()?;
/// assert_eq!(out.sorted(), ["a", "b", "c", "d"]);
/// assert!(summary.finished);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[must_use = "a job does nothing until it is run"]
pub struct TestJob {
    name: String,
    build: BuildJob,
    parallelism: usize,
    interval: Option<Duration>,
    retain: usize,
    memory: usize,
    max_parallelism: u16,
    over_the_wire: bool,
    arguments: BTreeMap<String, Vec<String>>,
    clock: Arc<dyn Clock>,
    directory: Directory,
    observed: Arc<Observed>,
    /// The seed of a hostile link; None for the direct link of a job in one process.
    hostile: Option<Arc<Seed>>,
}

/// Where snapshots go.
#[derive(Clone)]
enum Directory {
    Temporary(Arc<TemporaryDirectory>),
    Given(PathBuf),
}

impl TestJob {
    /// A job with this build function.
    pub fn new(build: impl Fn(&mut Job) -> Result<()> + Send + Sync + 'static) -> Self {
        Self {
            name: "test".to_owned(),
            build: Arc::new(build),
            parallelism: 1,
            interval: Some(Duration::from_millis(20)),
            retain: 3,
            memory: 64 << 20,
            max_parallelism: 128,
            over_the_wire: false,
            arguments: BTreeMap::new(),
            clock: Arc::new(SystemClock),
            directory: Directory::Temporary(Arc::new(TemporaryDirectory::new())),
            observed: Arc::default(),
            hostile: Seed::from_environment().map(Arc::new),
        }
    }

    /// The job's name, which a snapshot remembers.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The number of worker threads.
    pub fn parallelism(self, workers: usize) -> Self {
        Self { parallelism: workers, ..self }
    }

    /// How often a checkpoint is taken and its output published.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// No checkpoints but the last one.
    pub fn no_interval(self) -> Self {
        Self { interval: None, ..self }
    }

    /// The number of snapshots that are kept.
    pub fn retain(self, snapshots: usize) -> Self {
        Self { retain: snapshots, ..self }
    }

    /// Memory for keyed state, in bytes, all workers together.
    pub fn memory(self, bytes: usize) -> Self {
        Self { memory: bytes, ..self }
    }

    /// The number of key groups.
    pub fn max_parallelism(self, key_groups: u16) -> Self {
        Self { max_parallelism: key_groups, ..self }
    }

    /// Sends what changes the worker as bytes, as between processes, though all workers are in this one; with one worker,
    /// what it sends to itself. It shows whether records are decoded as what was encoded.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use tidegate::testing::{TestJob, VecSink, VecSource};
    ///
    /// let (addresses, out) = (VecSource::of([IpAddr::from([127, 0, 0, 1])]), VecSink::new());
    /// let sink = out.clone();
    /// let job = TestJob::new(move |job| {
    ///     job.source("addresses", addresses.clone()).rebalance().sink("out", sink.clone());
    ///     Ok(())
    /// });
    /// job.over_the_wire().run()?;
    /// assert_eq!(out.records(), [IpAddr::from([127, 0, 0, 1])]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn over_the_wire(self) -> Self {
        Self { over_the_wire: true, ..self }
    }

    /// An argument of the job, as the command line would give it; a snapshot remembers it.
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.insert(name.to_owned(), vec![value.to_owned()]);
        self
    }

    /// Connects the driver and the workers by a link that delays, repeats and reorders their messages as a network may, and
    /// now and then fails a checkpoint. Every worker counts as a process of its own. The environment variable
    /// `TIDEGATE_TEST_LINK=hostile:SEED` does that for all jobs; if a test fails, the seed is printed.
    pub fn hostile_link(self, seed: u64) -> Self {
        Self { hostile: Some(Arc::new(Seed::new(seed))), ..self }
    }

    /// Where processing time comes from, such as a [`crate::clock::ManualClock`].
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Where snapshots are kept, instead of a temporary directory that goes with this job.
    pub fn checkpoint_dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { directory: Directory::Given(directory.into()), ..self }
    }

    /// Where snapshots are kept.
    pub fn directory(&self) -> &Path {
        match &self.directory {
            Directory::Temporary(directory) => directory.path(),
            Directory::Given(path) => path,
        }
    }

    /// What all runs so far have logged.
    pub fn notes(&self) -> Vec<String> {
        self.observed.notes()
    }

    /// Runs the job to the end of its input.
    ///
    /// # Errors
    /// Whatever ends the job before that, a panic of its functions too.
    ///
    /// # Panics
    /// If the job is not over after a minute.
    pub fn run(&self) -> Result<Summary> {
        self.start().wait()
    }

    /// Starts the job.
    pub fn start(&self) -> Running {
        let (mailbox, run, build) = (Mailbox::new(), self.to_run(), self.build.clone());
        let (events, observed) = (mailbox.sender.clone(), self.observed.clone());
        let metrics = Arc::downgrade(&run.metrics);
        let (tell, result) = channel();
        observed.begin();
        std::thread::spawn(move || {
            let result = run_guarded(&run, build, mailbox, &observed);
            wait_for_threads(&run.metrics);
            let how = result.as_ref().map_or_else(ToString::to_string, ToString::to_string);
            observed.end(how);
            drop(tell.send(result));
        });
        let (observed, has_interval) = (self.observed.clone(), self.interval.is_some());
        let (name, _directory) = (self.name.clone(), self.directory.clone());
        Running { events, result, observed, has_interval, name, metrics, _directory }
    }

    fn to_run(&self) -> Run {
        Run {
            job: self.name.clone(),
            checkpoint_dir: self.directory().to_owned(),
            parallelism: Some(self.parallelism),
            interval: self.interval,
            retain: self.retain,
            memory: self.memory,
            follow: false,
            max_parallelism: self.max_parallelism,
            over_the_wire: self.over_the_wire,
            arguments: self.arguments.clone(),
            clock: self.clock.clone(),
            metrics: Arc::new(Metrics::default()),
            link: match &self.hostile {
                Some(seed) => Arc::new(seed.link()),
                None => Arc::new(Direct),
            },
        }
    }
}

fn run_guarded(run: &Run, build: BuildJob, mailbox: Mailbox, observed: &Arc<Observed>) -> Result<Summary> {
    let mut observer = Observer(observed.clone());
    let result = catch_unwind(AssertUnwindSafe(|| local::run(run, build, mailbox, &mut observer)));
    result.unwrap_or_else(|_| Err(Error::internal("the driver panicked")))
}

/// Waits until nothing of a run is left that could still write to its directory. All its threads hold its metrics.
fn wait_for_threads(metrics: &Arc<Metrics>) {
    let until = Instant::now() + LEAVE;
    while Arc::strong_count(metrics) > 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// A job under way. Dropping it kills the job.
#[must_use = "a job is killed when its handle is dropped"]
pub struct Running {
    events: Sender<Event>,
    result: Receiver<Result<Summary>>,
    observed: Arc<Observed>,
    has_interval: bool,
    name: String,
    /// Weak, because every strong reference to the metrics counts as a thread of the run.
    metrics: Weak<Metrics>,
    /// The [`TestJob`] may be dropped before its run is.
    _directory: Directory,
}

impl Running {
    /// Waits until the job ends by itself.
    ///
    /// # Errors
    /// Whatever ended the job before the end of its input.
    ///
    /// # Panics
    /// If the job is not over after a minute.
    pub fn wait(self) -> Result<Summary> {
        match self.result.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("the job is not over after a minute"),
            Err(RecvTimeoutError::Disconnected) => Err(Error::internal("the job's thread is gone")),
        }
    }

    /// Asks the job to stop with a last snapshot, and waits until it has.
    ///
    /// # Errors
    /// Whatever ended the job before.
    ///
    /// # Panics
    /// If the job is not over after a minute.
    pub fn stop(self) -> Result<Summary> {
        drop(self.events.send(Event::StopRequested));
        self.wait()
    }

    /// Ends the job without a snapshot, as a crash would: what was not published yet is lost.
    ///
    /// # Panics
    /// If the job is not over after a minute.
    pub fn kill(self) {
        drop(self);
    }

    /// The last epoch that this run has published, 0 if there is none yet.
    pub fn published(&self) -> Epoch {
        self.observed.published()
    }

    /// Waits until this epoch or a later one is published, and returns which one it is.
    ///
    /// # Panics
    /// If the job is over before, or it takes more than a minute.
    pub fn wait_for(&self, epoch: Epoch) -> Epoch {
        let published = self.observed.wait_for(epoch, Instant::now() + PATIENCE);
        published.unwrap_or_else(|why| panic!("epoch {epoch} was not published: {why}")).0
    }

    /// The metrics of this run as they are now, in the text that `--metrics` serves; nothing once it is over.
    pub fn metrics(&self) -> String {
        self.metrics.upgrade().map_or_else(String::new, |metrics| metrics.render(&self.name))
    }

    /// Waits until a checkpoint is published that has all that the sources held when this was called. A source that the
    /// job does not read on from, because it is held up or because a line in it has no end yet, is not waited for.
    ///
    /// # Panics
    /// If the job is over, has no checkpoint interval, or takes more than a minute.
    pub fn checkpoint(&self) -> Epoch {
        assert!(self.has_interval, "a job without a checkpoint interval has one checkpoint, at its end");
        let _asking = self.observed.ask_for_unread();
        // The first one from here on may be under way already.
        let until = Instant::now() + PATIENCE;
        self.wait_for_more(until);
        let mut before = None;
        loop {
            let (epoch, unread) = self.wait_for_more(until);
            // A partition that is not in the snapshot yet is found by the job within about a second.
            let known = unread.iter().all(|(_, position)| position.is_some());
            if unread.is_empty() || (known && before.as_ref() == Some(&unread)) {
                return epoch;
            }
            before = Some(unread);
        }
    }

    fn wait_for_more(&self, until: Instant) -> (Epoch, Unread) {
        let published = self.observed.wait_for(self.published().next(), until);
        published.unwrap_or_else(|why| panic!("no further epoch was published: {why}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.events.send(Event::Failed(Error::job("the test has killed the job"))));
        // The directory must be free before the next run.
        drop(self.result.recv_timeout(PATIENCE));
    }
}
