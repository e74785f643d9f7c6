//! The publishers of a process: one for every sink and slot, each on a thread of its own.
//!
//! A complete snapshot is given to all of them at once; while they publish, the dataflow and the driver go on. When the
//! last one has reported, the snapshot's output is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tidegate_connector_api::{Publisher, SinkTarget, StagedOutput};
use tidegate_failpoint::point;
use tidegate_protocol::{Epoch, Error, ErrorContext, Manifest, Result, Slot};

use super::staged_files::StagedFiles;
use crate::activity::{Activity, ActivityRegistry};
use crate::attempt::ProcessWorkers;
use crate::metrics::Metrics;
use crate::panics::catch;
use crate::step::Step;
use crate::thread_group::ThreadGroup;

/// How many publishers work at the same time before the start.
const AT_ONCE: usize = 64;
/// After this time a publisher that delays the start is named in the log, and again whenever the time has doubled.
const PATIENCE: Duration = Duration::from_secs(5);

/// The publishing side of a sink, whatever the type of its records is.
pub(crate) trait PublishedSink: Send + Sync {
    fn uri(&self) -> Result<String>;
    fn target(&self) -> Result<Box<dyn SinkTarget>>;
    fn publisher(&self, slot: Slot) -> Result<Box<dyn Publisher>>;
}

/// A sink of the job.
#[derive(Clone)]
pub(crate) struct JobSink {
    pub(crate) step: Arc<Step>,
    pub(crate) sink: Arc<dyn PublishedSink>,
}

impl JobSink {
    fn uid(&self) -> String {
        self.step.uid()
    }

    fn target(&self) -> Result<Box<dyn SinkTarget>> {
        catch(|| self.sink.target()).context(|| format!("sink '{}'", self.uid()))
    }

    fn publisher(&self, slot: Slot) -> Result<Box<dyn Publisher>> {
        catch(|| self.sink.publisher(slot))
            .context(|| format!("sink '{}', publisher of slot {slot}", self.uid()))
    }

    /// Publishes what a snapshot holds of a slot.
    fn publish(
        &self,
        publisher: &mut dyn Publisher,
        slot: Slot,
        snapshot: &Snapshot,
        files: &StagedFiles,
    ) -> Result<()> {
        let Snapshot { manifest, is_restored } = snapshot;
        let uid = self.uid();
        let ours = manifest.staged().filter(|(of, staged)| *of == uid && staged.slot == slot);
        let outputs: Vec<_> =
            ours.map(|(_, staged)| StagedOutput::new(staged, *is_restored, files)).collect();
        catch(|| publisher.publish(manifest.epoch, &outputs))
            .context(|| format!("publish epoch {} of '{uid}', slot {slot}", manifest.epoch))
    }
}

/// A snapshot whose output is to be published.
#[derive(Clone)]
struct Snapshot {
    manifest: Arc<Manifest>,
    is_restored: bool,
}

/// The targets of all sinks, opened for an attempt.
pub(crate) struct Targets(#[allow(dead_code, reason = "a target may hold a lock")] Vec<Box<dyn SinkTarget>>);

impl Targets {
    /// Publishes the output that the restored snapshot holds, and removes what older attempts have left. Output up to the
    /// epoch `published` is not published again, because its readers may have removed it. `note` is called with messages
    /// for the user.
    pub(crate) fn recover(
        sinks: &[JobSink],
        restored: Option<&Arc<Manifest>>,
        published: Epoch,
        files: &StagedFiles,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let mut targets = sinks.iter().map(JobSink::target).collect::<Result<Vec<_>>>()?;
        if let Some(manifest) = restored.filter(|m| m.epoch > published) {
            publish_restored(sinks, manifest, files, note)?;
        }
        for (sink, target) in sinks.iter().zip(&mut targets) {
            let uid = sink.uid();
            let taken_back = catch(|| target.recover(restored.map(|m| m.epoch)));
            let taken_back = taken_back.context(|| format!("sink '{uid}'"))?;
            if !taken_back.is_empty() {
                note(&format!("sink '{uid}' has taken back {}", taken_back.join(", ")));
            }
        }
        Ok(Self(targets))
    }
}

/// Publishes all that a restored snapshot holds, many publishers at the same time.
fn publish_restored(
    sinks: &[JobSink],
    manifest: &Arc<Manifest>,
    files: &StagedFiles,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    point("publish.before");
    let known: BTreeSet<String> = sinks.iter().map(JobSink::uid).collect();
    if let Some((uid, _)) = manifest.staged().find(|(uid, _)| !known.contains(*uid)) {
        return Err(Error::internal(format!("the snapshot has output of the unknown sink '{uid}'")));
    }
    let slots: BTreeSet<Slot> =
        manifest.slots.keys().copied().chain(manifest.staged().map(|(_, s)| s.slot)).collect();
    let all: Vec<(&JobSink, Slot)> =
        sinks.iter().flat_map(|sink| slots.iter().map(move |slot| (sink, *slot))).collect();
    let snapshot = Snapshot { manifest: manifest.clone(), is_restored: true };
    all.chunks(AT_ONCE).try_for_each(|some| publish_at_once(some, &snapshot, files, note))?;
    point("publish.after");
    Ok(())
}

fn publish_at_once(
    publishers: &[(&JobSink, Slot)],
    snapshot: &Snapshot,
    files: &StagedFiles,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let publish = |sink: &JobSink, slot: Slot| {
        let mut publisher = sink.publisher(slot)?;
        sink.publish(&mut *publisher, slot, snapshot, files)
    };
    let publish = &publish;
    std::thread::scope(|scope| {
        let (report, reports) = channel();
        let mut waiting = BTreeMap::new();
        for (number, &(sink, slot)) in publishers.iter().enumerate() {
            let report = report.clone();
            // The waiting thread receives until it has all reports.
            let run = move || drop(report.send((number, catch(|| publish(sink, slot)))));
            let thread = std::thread::Builder::new().name(format!("publisher-{slot}"));
            let started = thread.spawn_scoped(scope, run);
            started.map_err(|e| Error::environment("cannot start the thread of a publisher").caused_by(e))?;
            waiting.insert(number, format!("sink '{}', slot {slot}", sink.uid()));
        }
        let (began, mut patience) = (Instant::now(), PATIENCE);
        let mut failed = None;
        while let Some(first) = waiting.values().next() {
            match reports.recv_timeout(patience.saturating_sub(began.elapsed())) {
                Ok((number, result)) => {
                    let name = waiting.remove(&number);
                    // The error is returned only when all publishers have reported, and one that hangs may take long.
                    if let (Err(error), false) = (&result, waiting.is_empty()) {
                        note(&format!("{}: {error}", name.unwrap_or_default()));
                    }
                    failed = failed.or(result.err());
                }
                Err(_) => {
                    let (epoch, seconds) = (snapshot.manifest.epoch, began.elapsed().as_secs());
                    note(&format!(
                        "publishing epoch {epoch} before the start has taken {seconds} s so far: {first}"
                    ));
                    patience *= 2;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })
}

/// What a publisher reports: the epoch that it has published, or why it cannot.
pub(crate) struct PublisherReport {
    uid: String,
    slot: Slot,
    result: Result<Epoch>,
}

/// Where publishers report.
pub(crate) type ReportPublished = Arc<dyn Fn(PublisherReport) + Send + Sync>;

/// The publishers of an attempt.
#[derive(Default)]
pub(crate) struct Publishers {
    /// By the uid of the sink and the slot.
    publishers: Vec<((String, Slot), Sender<Snapshot>)>,
    /// The epoch that is being published, and the publishers that have not reported yet.
    waiting: Option<(Epoch, BTreeSet<(String, Slot)>)>,
    threads: ThreadGroup,
}

impl Publishers {
    /// Starts the publishers of all sinks for the slots of these workers. Each is made on its own thread. Threads of a run
    /// hold its metrics.
    pub(crate) fn start(
        sinks: &[JobSink],
        workers: ProcessWorkers,
        files: &StagedFiles,
        (activities, metrics): (&ActivityRegistry, &Arc<Metrics>),
        report: &ReportPublished,
    ) -> Result<Self> {
        let mut this = Self::default();
        for sink in sinks {
            for slot in workers.slots() {
                let (snapshots, inbox) = channel();
                let activity = activities.activity(slot);
                let thread = Thread {
                    number: activity.add_step(&sink.step, false),
                    activity,
                    sink: sink.clone(),
                    slot,
                    files: files.clone(),
                    report: report.clone(),
                    _metrics: metrics.clone(),
                };
                this.threads.spawn(format!("publisher-{slot}"), move || thread.run(&inbox))?;
                this.publishers.push(((sink.uid(), slot), snapshots));
            }
        }
        Ok(this)
    }

    /// Sends a complete snapshot to all publishers. True if there is none, so that nothing is left to be published.
    pub(crate) fn publish(&mut self, manifest: &Arc<Manifest>) -> bool {
        point("publish.before");
        for (_, snapshots) in &self.publishers {
            // A thread that could not make its publisher has reported that, and the job is about to end.
            drop(snapshots.send(Snapshot { manifest: manifest.clone(), is_restored: false }));
        }
        let all: BTreeSet<_> = self.publishers.iter().map(|(key, _)| key.clone()).collect();
        let is_published = all.is_empty();
        self.waiting = (!is_published).then_some((manifest.epoch, all));
        is_published
    }

    /// Takes a publisher's report. Returns the epoch if that was the last report, and so all output of the epoch is
    /// published.
    ///
    /// # Errors
    /// The error of the publisher.
    pub(crate) fn take(&mut self, report: PublisherReport) -> Result<Option<Epoch>> {
        let PublisherReport { uid, slot, result } = report;
        let epoch = result?;
        let Some((waiting_for, slots)) = &mut self.waiting else { return Ok(None) };
        if *waiting_for != epoch || !slots.remove(&(uid, slot)) || !slots.is_empty() {
            return Ok(None);
        }
        self.waiting = None;
        point("publish.after");
        Ok(Some(epoch))
    }

    /// Ends the threads and waits for them until the time `until`: they must not run beside those of the next run. A thread
    /// that hangs is left until the process exits.
    pub(crate) fn close(self, until: Instant) {
        drop(self.publishers);
        self.threads.wait(until);
    }
}

/// The thread of one publisher.
struct Thread {
    sink: JobSink,
    slot: Slot,
    files: StagedFiles,
    /// The activity of the thread while it runs the connector's code, and the step's number in it.
    activity: Arc<Activity>,
    number: usize,
    report: ReportPublished,
    _metrics: Arc<Metrics>,
}

impl Thread {
    fn run(&self, inbox: &Receiver<Snapshot>) {
        self.activity.enter_publishing(self.number);
        let made = self.sink.publisher(self.slot);
        self.activity.leave();
        let mut publisher = match made {
            Ok(publisher) => publisher,
            Err(error) => return self.report(Err(error)),
        };
        while let Ok(snapshot) = inbox.recv() {
            self.activity.enter_publishing(self.number);
            let published = self.sink.publish(&mut *publisher, self.slot, &snapshot, &self.files);
            self.activity.leave();
            self.report(published.map(|()| snapshot.manifest.epoch));
        }
    }

    fn report(&self, result: Result<Epoch>) {
        (self.report)(PublisherReport { uid: self.sink.uid(), slot: self.slot, result });
    }
}
