//! The publishers of a process: one for every sink and slot, each on a thread of its own.
//!
//! A complete snapshot is given to all of them at once; while they publish, the dataflow and the driver go on. When the
//! last one has reported, the snapshot's output is published.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tidegate_failpoint::point;
use tidegate_protocol::{Epoch, Manifest, Result, Slot};

use super::job_sink::{JobSink, Snapshot};
use super::staged_files::StagedFiles;
use crate::activity::{Activity, ActivityRegistry};
use crate::attempt::ProcessWorkers;
use crate::metrics::Metrics;
use crate::thread_group::ThreadGroup;

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
