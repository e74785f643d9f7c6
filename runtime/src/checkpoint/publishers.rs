//! The publishers of a process: one for every sink and slot, each on a thread of its own.
//!
//! When a snapshot is complete, what each slot staged for it is given to the publishers of that slot; while they publish,
//! the dataflow and the driver go on. When all sinks of a slot have published an epoch, the slot is reported as published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_failpoint::point;
use tidegate_protocol::{Epoch, Error, JobId, Result, Slot};

use super::job_sink::{JobSink, Publication};
use super::readiness::Readiness;
use super::staged_files::StagedFiles;
use super::staged_outputs::StagedOutputs;
use crate::activity::{Activity, ActivityRegistry};
use crate::attempt::{AttemptSetup, ProcessWorkers};
use crate::link::{DriverHandle, Report};
use crate::metrics::Metrics;
use crate::thread_group::ThreadGroup;

/// The publishers of an attempt in this process.
pub(crate) struct Publishers {
    shared: Arc<Shared>,
    threads: ThreadGroup,
}

/// What the publishers share.
struct Shared {
    driver: Arc<DriverHandle>,
    outputs: Arc<StagedOutputs>,
    readiness: Arc<Readiness>,
    slots: Mutex<BTreeMap<Slot, SlotState>>,
}

/// The publishers of a slot, and what they are doing.
#[derive(Default)]
struct SlotState {
    /// By the uid of the sink.
    publishers: BTreeMap<String, Sender<Publication>>,
    /// The last epoch that all of them have published.
    published: Epoch,
    /// The epoch that is being published, and the sinks that are not done.
    waiting: Option<(Epoch, BTreeSet<String>)>,
}

impl Publishers {
    /// Starts the publishers of all sinks for the slots of these workers. Each is made on its own thread. Threads of a run
    /// hold its metrics.
    pub(crate) fn start(
        sinks: &[JobSink],
        setup: &AttemptSetup,
        workers: ProcessWorkers,
        (outputs, readiness): (&Arc<StagedOutputs>, &Arc<Readiness>),
        driver: &Arc<DriverHandle>,
        (activities, metrics): (&ActivityRegistry, &Arc<Metrics>),
    ) -> Result<Self> {
        let files = StagedFiles::new(&setup.snapshots);
        let restored = setup.restored.as_ref().map(|manifest| manifest.epoch);
        let slots = workers.slots().map(|slot| (slot, SlotState::default())).collect();
        workers.slots().for_each(|slot| readiness.wait_for(slot, sinks.len()));
        let shared = Arc::new(Shared {
            driver: driver.clone(),
            outputs: outputs.clone(),
            readiness: readiness.clone(),
            slots: Mutex::new(slots),
        });
        let this = Self { shared: shared.clone(), threads: ThreadGroup::default() };
        for sink in sinks {
            for slot in workers.slots() {
                let (publications, inbox) = channel();
                let activity = activities.activity(slot);
                let thread = Thread {
                    number: activity.add_step(&sink.step, false),
                    activity,
                    sink: sink.clone(),
                    slot,
                    job: setup.job,
                    restored,
                    files: files.clone(),
                    shared: shared.clone(),
                    _metrics: metrics.clone(),
                };
                this.threads.spawn(format!("publisher-{slot}"), move || thread.run(&inbox))?;
                shared.slots().entry(slot).or_default().publishers.insert(sink.uid(), publications);
            }
        }
        Ok(this)
    }

    /// What publishes a complete snapshot's output of all slots; it does not wait until that is done.
    pub(crate) fn on_complete(&self) -> impl Fn(Epoch) + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |epoch| {
            point("publish.before");
            shared.publish(epoch);
        }
    }

    /// Ends the threads and waits for them until the time `until`: they must not run beside those of the next run. A thread
    /// that hangs is left until the process exits.
    pub(crate) fn close(self, until: Instant) {
        self.shared.slots().values_mut().for_each(|slot| slot.publishers.clear());
        self.threads.wait(until);
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Slot, SlotState>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every publisher its part of the epoch. A slot that has published it already is reported again: the driver asks
    /// again if it has lost the answer.
    fn publish(&self, epoch: Epoch) {
        let mut published = Vec::new();
        for (slot, state) in self.slots().iter_mut() {
            match self.begin(*slot, state, epoch) {
                Ok(true) => published.push(*slot),
                Ok(false) => {}
                Err(error) => return self.driver.fail(error),
            }
        }
        published.into_iter().for_each(|slot| self.driver.report(Report::Published { slot, epoch }));
    }

    /// Begins to publish the output of a slot; true if there is nothing to do.
    fn begin(&self, slot: Slot, state: &mut SlotState, epoch: Epoch) -> Result<bool> {
        if epoch <= state.published || state.waiting.as_ref().is_some_and(|(other, _)| epoch <= *other) {
            return Ok(epoch == state.published);
        }
        let missing = || {
            Error::internal(format!("epoch {epoch} is to be published, and slot {slot} has not written it"))
        };
        let staged = self.outputs.get(slot, epoch).ok_or_else(missing)?;
        if state.publishers.is_empty() {
            self.is_published(slot, state, epoch);
            return Ok(true);
        }
        for publisher in state.publishers.values() {
            // A thread that could not make its publisher has reported that, and the job is about to end.
            drop(publisher.send(Publication { epoch, staged: staged.clone(), is_restored: false }));
        }
        state.waiting = Some((epoch, state.publishers.keys().cloned().collect()));
        Ok(false)
    }

    fn is_published(&self, slot: Slot, state: &mut SlotState, epoch: Epoch) {
        state.published = epoch;
        self.outputs.forget(slot, epoch);
    }

    /// A publisher has published an epoch, or cannot.
    fn done(&self, uid: &str, slot: Slot, result: Result<Epoch>) {
        let epoch = match result {
            Ok(epoch) => epoch,
            Err(error) => return self.driver.fail(error),
        };
        let was_last = {
            let mut slots = self.slots();
            let Some(state) = slots.get_mut(&slot) else { return };
            let waiting = state.waiting.as_mut().filter(|(waiting_for, _)| *waiting_for == epoch);
            let was_last = waiting.is_some_and(|(_, sinks)| sinks.remove(uid) && sinks.is_empty());
            if was_last {
                state.waiting = None;
                self.is_published(slot, state, epoch);
            }
            was_last
        };
        if was_last {
            self.driver.report(Report::Published { slot, epoch });
        }
    }
}

/// The thread of one publisher.
struct Thread {
    sink: JobSink,
    slot: Slot,
    job: JobId,
    restored: Option<Epoch>,
    files: StagedFiles,
    /// The activity of the thread while it runs the connector's code, and the step's number in it.
    activity: Arc<Activity>,
    number: usize,
    shared: Arc<Shared>,
    _metrics: Arc<Metrics>,
}

impl Thread {
    fn run(&self, inbox: &Receiver<Publication>) {
        self.activity.enter_publishing(self.number);
        let made = self.sink.prepared_publisher(self.job, self.slot, self.restored);
        self.activity.leave();
        let mut publisher = match made {
            Ok(publisher) => publisher,
            Err(error) => return self.report(Err(error)),
        };
        if self.shared.readiness.part_is_ready(self.slot) {
            self.shared.driver.report(Report::Ready(self.slot));
        }
        while let Ok(publication) = inbox.recv() {
            self.activity.enter_publishing(self.number);
            let published = self.sink.publish(&mut *publisher, self.slot, &publication, &self.files);
            self.activity.leave();
            self.report(published.map(|()| publication.epoch));
        }
    }

    fn report(&self, result: Result<Epoch>) {
        self.shared.done(&self.sink.uid(), self.slot, result);
    }
}
