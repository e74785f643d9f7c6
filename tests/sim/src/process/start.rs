//! A process until it runs.

use std::sync::Arc;

use tidegate_protocol::link::Report;
use tidegate_protocol::manifest::Staged;
use tidegate_protocol::process::{Begin, FromJobProcess, Preparation};
use tidegate_protocol::{Epoch, Error, Manifest, Slot};

use super::worker::Worker;
use super::{Phase, Process};
use crate::happening::Happening;
use crate::outside::{Outside, piece_of};
use crate::queue::Event;
use crate::world::World;

/// For how long the other processes are waited for.
const CONNECT_MS: u64 = 10_000;

impl World {
    pub(super) fn prepares(&mut self, pid: u32, preparation: Box<Preparation>) {
        let takes = self.random.delay(50, 2_000, 30) + self.store_delay();
        let Some(process) = self.process(pid) else { return };
        process.preparation = Some(preparation);
        process.phase = Phase::Restoring;
        self.after(takes, Event::ProcessGoesOn { pid });
    }

    pub(crate) fn process_goes_on(&mut self, pid: u32) {
        let now = self.now;
        let Some(process) = self.process(pid) else { return };
        match process.phase {
            Phase::Restoring => self.restores(pid),
            Phase::Claiming => self.claims(pid),
            Phase::Publishing => self.publishes_restored(pid),
            Phase::CleaningUp => self.cleans_up(pid),
            Phase::TakingBack => self.takes_back(pid),
            Phase::Connecting(until) if until <= now => {
                self.process_fails(pid, Error::environment("the other processes have not come"));
            }
            _ => {}
        }
    }

    fn restores(&mut self, pid: u32) {
        if self.is_store_away() {
            return self.process_fails(pid, Error::environment("the store is away"));
        }
        let Some(process) = self.process(pid) else { return };
        let Some(preparation) = process.preparation.clone() else { return };
        let is_first = process.is_first();
        match self.restored(&preparation, is_first) {
            Ok(restored) => {
                let port = pid as u16;
                if let Some(process) = self.process(pid) {
                    process.restored = restored;
                    process.phase = if is_first { Phase::Claiming } else { Phase::Listening };
                }
                self.process_sends(pid, FromJobProcess::Listening { port });
                if is_first {
                    self.after(1, Event::ProcessGoesOn { pid });
                }
            }
            Err(why) => {
                if let Some(process) = self.process(pid) {
                    process.phase = Phase::Ending;
                }
                let epoch = preparation.restored.unwrap_or_default();
                self.note(format_args!("pid {pid} finds the snapshot of epoch {epoch} damaged: {why}"));
                self.process_sends(pid, FromJobProcess::Damaged { epoch, why });
            }
        }
    }

    fn restored(&self, preparation: &Preparation, is_first: bool) -> Result<Option<Arc<Manifest>>, String> {
        let Some(epoch) = preparation.restored else { return Ok(None) };
        let gone = || "the manifest is damaged or gone".to_owned();
        let store = self.store.jobs.get(&preparation.job).ok_or_else(gone)?;
        let stored = store.manifests.get(&epoch).filter(|stored| !stored.is_damaged).ok_or_else(gone)?;
        let manifest = stored.manifest.clone();
        let read = preparation.restores_from(&manifest);
        store.check(read.iter().flat_map(|slot| manifest.slots[slot].store.values()))?;
        if is_first && epoch > preparation.published {
            let staged = manifest.staged().filter_map(|(_, staged)| staged.file.as_ref());
            store.check(staged.filter(|file| !file.path.starts_with('/')))?;
        }
        Ok(Some(manifest))
    }

    /// The first process takes the target over from older attempts, whether they are alive or not.
    fn claims(&mut self, pid: u32) {
        let Some(id) = self.process(pid).map(|process| process.id) else { return };
        let Some(outside) = self.outsides.get_mut(&id.job) else { return };
        match outside.claim(id.attempt) {
            Ok(()) => self.goes_on_to(pid, Phase::Publishing),
            Err(why) => self.process_fails(pid, Error::environment(why)),
        }
    }

    fn goes_on_to(&mut self, pid: u32, phase: Phase) {
        let takes = self.random.delay(50, 3_000, 50);
        if let Some(process) = self.process(pid) {
            process.phase = phase;
        }
        self.after(takes, Event::ProcessGoesOn { pid });
    }

    fn publishes_restored(&mut self, pid: u32) {
        let Some(process) = self.process(pid) else { return };
        let published = process.preparation.as_ref().map(|p| p.published).unwrap_or_default();
        if let Some(manifest) = process.restored.clone().filter(|manifest| manifest.epoch > published) {
            let staged: Vec<Staged> = manifest.staged().map(|(_, staged)| staged.clone()).collect();
            if let Err(why) = self.publish_staged(pid, manifest.epoch, &staged) {
                return self.process_fails(pid, Error::environment(why));
            }
        }
        self.lists_then(pid, Phase::CleaningUp);
    }

    /// Lists what is in the target; what happens until the list is used is not on it.
    fn lists_then(&mut self, pid: u32, phase: Phase) {
        let Some(job) = self.process(pid).map(|process| process.id.job) else { return };
        let Some(listed) = self.outsides.get(&job).map(Outside::names) else { return };
        if let Some(process) = self.process(pid) {
            process.listed = listed;
        }
        self.goes_on_to(pid, phase);
    }

    /// Publishes pieces of output for a process.
    pub(super) fn publish_staged(&mut self, pid: u32, epoch: Epoch, staged: &[Staged]) -> Result<(), String> {
        let Some((job, attempt)) = self.process(pid).map(|p| (p.id.job, p.id.attempt)) else { return Ok(()) };
        for staged in staged {
            let id = piece_of(staged);
            let (Some(outside), Some(store)) = (self.outsides.get_mut(&job), self.store.jobs.get(&job))
            else {
                continue;
            };
            let in_store = staged.file.iter().filter(|file| !file.path.starts_with('/'));
            if !outside.is_published(id) {
                store.check(in_store)?;
            }
            if let Some(piece) = outside.publish(id)? {
                self.happened.push(Happening::Published { job, attempt, epoch, piece });
            }
        }
        Ok(())
    }

    fn cleans_up(&mut self, pid: u32) {
        let Some(process) = self.process(pid) else { return };
        let (job, attempt, listed) =
            (process.id.job, process.id.attempt, std::mem::take(&mut process.listed));
        let Some(outside) = self.outsides.get_mut(&job) else { return };
        match outside.remove_staged(&listed, attempt) {
            Ok(()) => self.lists_then(pid, Phase::TakingBack),
            Err(why) => self.process_fails(pid, Error::environment(why)),
        }
    }

    fn takes_back(&mut self, pid: u32) {
        let Some(process) = self.process(pid) else { return };
        process.phase = Phase::Listening;
        let (job, attempt, listed) =
            (process.id.job, process.id.attempt, std::mem::take(&mut process.listed));
        let restored = process.restored.as_ref().map(|manifest| manifest.epoch);
        let Some(outside) = self.outsides.get_mut(&job) else { return };
        let partitions = [("in".to_owned(), outside.partitions(self.now))].into();
        match outside.take_back(&listed, attempt, restored) {
            Ok(pieces) => {
                self.happened.push(Happening::TakenBack { job, pieces });
                self.happened.extend(restored.map(|epoch| Happening::AllPublished { job, epoch }));
                self.process_sends(pid, FromJobProcess::Prepared { partitions });
            }
            Err(why) => self.process_fails(pid, Error::environment(why)),
        }
    }

    pub(super) fn connects(&mut self, pid: u32, begin: &Begin) {
        let until = self.now + CONNECT_MS;
        let Some(process) = self.process(pid) else { return };
        process.phase = Phase::Connecting(until);
        let assigned = begin.assigned.get("in").cloned().unwrap_or_default();
        process.instructions.assigned = (0..).map(Slot).zip(assigned).collect();
        let id = process.id;
        let fabric = self.fabrics.entry((id.job, id.attempt)).or_default();
        fabric.members.insert(pid);
        let members = fabric.members.clone();
        self.queue.add(until, Event::ProcessGoesOn { pid });
        if members.len() == begin.addresses.len() {
            members.into_iter().for_each(|member| self.runs(member));
        }
    }

    /// All processes of the attempt are connected: the workers are built.
    fn runs(&mut self, pid: u32) {
        let Some(process) = self.process(pid).filter(|p| matches!(p.phase, Phase::Connecting(_))) else {
            return;
        };
        let Some(preparation) = process.preparation.clone() else { return };
        process.phase = Phase::Running;
        process.instructions.drain = preparation.drains;
        process.instructions.trigger = Epoch(preparation.first_epoch.0 - 1);
        let slots: Vec<Slot> =
            (preparation.first.0..preparation.first.0 + preparation.workers).map(Slot).collect();
        for slot in &slots {
            let worker = new_worker(process, *slot, &preparation);
            process.workers.insert(*slot, worker);
        }
        for slot in slots {
            let takes = self.random.delay(100, 4_000, 50);
            self.after(takes, Event::WorkerReady { pid, slot });
        }
    }

    pub(crate) fn worker_ready(&mut self, pid: u32, slot: Slot) {
        let Some(process) = self.process(pid) else { return };
        if let Some(worker) = process.workers.get_mut(&slot) {
            worker.is_ready = true;
        }
        self.reports(pid, Report::Ready(slot));
        self.polls(pid);
    }
}

fn new_worker(process: &Process, slot: Slot, preparation: &Preparation) -> Worker {
    let emitted = Epoch(preparation.first_epoch.0 - 1);
    let same = process.restored.as_ref().filter(|manifest| manifest.parallelism == preparation.parallelism);
    let part = same.and_then(|manifest| manifest.slots.get(&slot));
    let completed = part.map(|part| part.store.clone()).unwrap_or_default();
    Worker::new(slot, emitted, completed)
}
