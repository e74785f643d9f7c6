//! The thread of a worker that makes a barrier durable while the dataflow goes on.
//!
//! A barrier comes in as the changed rows, what else the operators keep, and output that is still to be synced. The thread
//! finishes the output, writes the rows, makes a RocksDB checkpoint (hard links), links its new files into the checkpoint
//! directory with their checksums, and acknowledges to the driver. If nothing was written since the last complete snapshot,
//! the files of that one are reused.
//!
//! An epoch may be aborted, because this worker or another could not write its part. Its staged output is not lost by
//! that: it becomes part of the next snapshot, until one that holds it is complete.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tidegate_protocol::manifest::{FileRef, OperatorSnapshot, SlotSnapshot, Staged};
use tidegate_protocol::{Attempt, Epoch, Slot};
use tidegate_snapshots::{Snapshots, state_file_name};

use super::committers::ReadPositions;
use super::staged_files::StagedFiles;
use super::staged_outputs::StagedOutputs;
use crate::activity::Activity;
use crate::attempt::AttemptSetup;
use crate::link::{DriverHandle, Report};
use crate::metrics::{Counter, Metrics, descriptors};
use crate::panics::{catch, panic_text};
use crate::state::store::{Rows, SharedStore};
use crate::step::Step;
use tidegate_connector_api::Staging;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, ErrorContext, Result};

/// What a worker hands over at a barrier.
pub(crate) struct CollectedEpoch {
    pub(crate) epoch: Epoch,
    pub(crate) rows: Rows,
    pub(crate) operators: BTreeMap<String, OperatorSnapshot>,
    pub(crate) stagings: Vec<(Arc<Step>, Staging)>,
}

/// The worker's handle to its snapshot thread. Dropping it ends the thread and waits for it, so that no store is still
/// being closed while the process exits.
pub(crate) struct SnapshotThread {
    barriers: Option<Sender<CollectedEpoch>>,
    thread: Option<JoinHandle<()>>,
    store: Option<Arc<SharedStore>>,
}

impl SnapshotThread {
    /// Starts the thread of a worker. `activity` is where other threads see what it does.
    pub(crate) fn start(
        slot: Slot,
        store: Option<Arc<SharedStore>>,
        setup: &AttemptSetup,
        driver: Arc<DriverHandle>,
        (outputs, read): (Arc<StagedOutputs>, Arc<ReadPositions>),
        (activity, metrics): (Arc<Activity>, Arc<Metrics>),
    ) -> Result<Self> {
        let (barriers, inbox) = channel();
        let files = store.as_ref().map(|s| s.restored_files.clone()).unwrap_or_default();
        let newest = StoreSnapshot { epoch: Epoch(0), writes: 0, files };
        let thread = Thread {
            slot,
            activity,
            metrics,
            sinks: BTreeMap::new(),
            store: store.clone(),
            attempt: setup.attempt,
            snapshots: setup.snapshots.clone(),
            staged_files: StagedFiles::new(&setup.snapshots),
            driver,
            outputs,
            read,
            completed: newest.clone(),
            newest,
            unpublished: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("snapshot-{slot}"))
            .spawn(move || thread.run(&inbox))
            .map_err(|e| Error::environment("start the snapshot thread").caused_by(e))?;
        Ok(Self { barriers: Some(barriers), thread: Some(thread), store })
    }

    /// All operator chains have come to a barrier and copied their rows; the rest is the thread's work.
    pub(crate) fn write(&self, barrier: CollectedEpoch) {
        if let Some(store) = &self.store {
            store.begin_writing();
        }
        // The thread lives as long as this sender.
        if let Some(barriers) = &self.barriers {
            let _ = barriers.send(barrier);
        }
    }
}

impl Drop for SnapshotThread {
    fn drop(&mut self) {
        self.barriers = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported as the job's failure.
            drop(thread.join());
        }
    }
}

/// The store as it is in a snapshot.
#[derive(Clone)]
struct StoreSnapshot {
    epoch: Epoch,
    /// What [`SharedStore::writes`] was then.
    writes: u64,
    files: BTreeMap<String, FileRef>,
}

struct Thread {
    slot: Slot,
    store: Option<Arc<SharedStore>>,
    attempt: Attempt,
    snapshots: Snapshots,
    staged_files: StagedFiles,
    driver: Arc<DriverHandle>,
    /// Where the publishers find what was staged.
    outputs: Arc<StagedOutputs>,
    /// Where those find how far the worker has read who commit that.
    read: Arc<ReadPositions>,
    /// The last snapshot that was made, whether its epoch is complete or not.
    newest: StoreSnapshot,
    /// The last snapshot that is known to be complete: its files are not deleted while this process runs.
    completed: StoreSnapshot,
    /// Where the thread is while it runs a connector's code.
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
    /// The numbers of the sinks in `activity`, and the bytes that they have staged, by their uid.
    sinks: BTreeMap<String, (usize, Counter)>,
    /// Staged output of epochs not known to be complete.
    unpublished: Vec<(String, Staged)>,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<CollectedEpoch>) {
        while let Ok(barrier) = inbox.recv() {
            if self.driver.is_aborted() {
                return self.abandon();
            }
            let (slot, epoch) = (self.slot, barrier.epoch);
            let written = catch_unwind(AssertUnwindSafe(|| self.write(barrier)));
            let written = written.unwrap_or_else(|panic| Err(Error::internal(panic_text(&*panic))));
            match written {
                Ok(Ok(part)) => {
                    point("snapshot.acked");
                    self.measure(&part);
                    self.driver.report(Report::Acked { slot, epoch, part: Box::new(part) });
                }
                Ok(Err(error)) => {
                    self.driver.report(Report::Declined { slot, epoch, reason: error.to_string() });
                }
                Err(error) => {
                    self.driver.fail(error.context(format!("snapshot of epoch {epoch}, slot {slot}")));
                    return self.abandon();
                }
            }
        }
    }

    /// Sets the metrics of the worker's part of a snapshot: its size, and the time since the trigger.
    fn measure(&self, part: &SlotSnapshot) {
        let bytes: u64 = part.store.values().map(|file| file.bytes).sum();
        let seconds = self.driver.instructions().since_trigger().as_secs_f64();
        self.metrics.set(descriptors::CHECKPOINT_BYTES, Some(self.slot), bytes as f64);
        self.metrics.set(descriptors::CHECKPOINT_WORKER_SECONDS, Some(self.slot), seconds);
    }

    /// Releases the worker, which may be waiting for the thread; nothing of this attempt counts any more.
    fn abandon(&self) {
        if let Some(store) = &self.store {
            store.abandon();
        }
    }

    /// The outer error ends the job: what the barrier handed over is lost. The inner one aborts the epoch: everything
    /// is still in the store and goes into the next snapshot.
    fn write(&mut self, barrier: CollectedEpoch) -> Result<Result<SlotSnapshot>> {
        let CollectedEpoch { epoch, rows, mut operators, stagings } = barrier;
        self.settle();
        for (step, staging) in stagings {
            let staged = self.stage(&step, staging, epoch)?;
            self.unpublished.push((step.uid(), staged));
        }
        point("snapshot.staged");
        for (uid, staged) in &self.unpublished {
            operators.entry(uid.clone()).or_default().staged.push(staged.clone());
        }
        let store = match self.store.clone() {
            Some(store) => match self.write_store(&store, epoch, rows)? {
                Ok(files) => files,
                Err(error) => return Ok(Err(error)),
            },
            None => BTreeMap::new(),
        };
        self.read.add(epoch, &operators);
        self.outputs.add(self.slot, epoch, self.unpublished.clone());
        Ok(Ok(SlotSnapshot { store, operators }))
    }

    /// Runs a connector's code, which may panic, or never return.
    fn stage(&mut self, step: &Arc<Step>, staging: Staging, epoch: Epoch) -> Result<Staged> {
        let known = self.sinks.entry(step.uid());
        let (number, bytes) = known.or_insert_with(|| {
            let bytes = self.metrics.counter(step, descriptors::BYTES_OUT, self.slot);
            (self.activity.add_step(step, false), bytes)
        });
        self.activity.enter_staging(*number);
        let staged = catch(|| staging.finish(self.slot, epoch, &self.staged_files));
        let staged = staged.context(|| format!("stage the output of step '{}'", step.name()));
        self.activity.leave();
        if let Ok(Some(file)) = staged.as_ref().map(|staged| &staged.file) {
            bytes.add(file.bytes);
        }
        staged
    }

    /// Learns which epochs have been completed since the last barrier.
    fn settle(&mut self) {
        let completed = self.driver.instructions().completed();
        // The files of an epoch that was aborted are deleted, and are never those of a later snapshot.
        if self.newest.epoch == completed {
            self.completed = self.newest.clone();
        }
        self.unpublished.retain(|(_, staged)| staged.epoch > completed);
        // A directory has no copies, and does not ask.
        let needed = LazyCell::new(|| {
            let of_state = self.completed.files.values().chain(self.newest.files.values());
            let staged = self.unpublished.iter().filter_map(|(_, staged)| staged.file.as_ref());
            of_state.chain(staged).map(|file| &*file.path).collect::<HashSet<&str>>()
        });
        self.snapshots.keep_copies_of_slot(self.slot, |name| needed.contains(name));
    }

    fn write_store(
        &mut self,
        store: &SharedStore,
        epoch: Epoch,
        rows: Rows,
    ) -> Result<Result<BTreeMap<String, FileRef>>> {
        store.write(rows)?;
        store.set_written(epoch);
        point("snapshot.rows_written");
        let writes = store.writes();
        if writes == self.completed.writes {
            // An idle job takes a checkpoint every second; such a checkpoint costs neither a file nor a sync.
            store.end_snapshot();
            return Ok(Ok(self.completed.files.clone()));
        }
        let made = store.path.with_extension(format!("epoch-{epoch}"));
        let checkpoint = store.checkpoint(&made);
        store.end_snapshot();
        checkpoint?;
        point("snapshot.checkpointed");
        let linked = self.link(&made, epoch);
        // What is left of it is cleaned up at the next start at the latest.
        drop(std::fs::remove_dir_all(&made));
        point("snapshot.linked");
        Ok(linked.inspect(|files| self.newest = StoreSnapshot { epoch, writes, files: files.clone() }))
    }

    /// Puts the checkpoint's files that are not yet in the checkpoint store into it.
    fn link(&self, made: &Path, epoch: Epoch) -> Result<BTreeMap<String, FileRef>> {
        let (mut files, mut names, mut new) = (BTreeMap::new(), Vec::new(), Vec::new());
        for entry in std::fs::read_dir(made)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match self.completed.files.get(&name).filter(|_| name.ends_with(".sst")) {
                Some(file) => drop(files.insert(name, file.clone())),
                None => {
                    new.push((entry.path(), state_file_name(self.attempt, self.slot, epoch, &name)));
                    names.push(name);
                }
            }
        }
        files.extend(names.into_iter().zip(self.snapshots.put_state_files(&new)?));
        self.snapshots.sync_state_files()?;
        Ok(files)
    }
}
