//! A process that runs.

use std::collections::BTreeMap;

use tidegate_protocol::link::Report;
use tidegate_protocol::manifest::{FileRef, Staged};
use tidegate_protocol::{Epoch, Error, JobId, Slot};

use super::{Phase, Process};
use crate::happening::Happening;
use crate::outside::Outside;
use crate::queue::Event;
use crate::random::Random;
use crate::world::World;

/// How often the sources are asked for new partitions.
const DISCOVER_EVERY_MS: u64 = 1_000;

impl World {
    /// The workers of a process open what was assigned, read, and end the epochs that are triggered.
    pub(super) fn polls(&mut self, pid: u32) {
        let (now, is_known) = (self.now, self.processes.contains_key(&pid));
        let Some(process) = self.processes.get_mut(&pid).filter(|p| is_known && p.is_alive && !p.is_aborted)
        else {
            return;
        };
        if process.phase != Phase::Running {
            return;
        }
        let id = process.id;
        let Some(outside) = self.outsides.get(&id.job) else { return };
        let mut reports = Vec::new();
        for slot in process.workers.keys().copied().collect::<Vec<_>>() {
            let opened = open_assigned(process, slot, outside);
            let (job, attempt) = (id.job, id.attempt);
            self.happened.extend(opened.into_iter().map(|partition| Happening::Opened {
                job,
                attempt,
                slot,
                partition,
            }));
            read(process, slot, outside, now, &mut self.random);
            reports.extend(end(process, slot, outside));
            let fabric = self.fabrics.entry((job, attempt)).or_default();
            end_epochs(process, slot, |epoch| fabric.emit(slot, epoch));
        }
        reports.into_iter().for_each(|report| self.reports(pid, report));
        self.write_snapshots(id.job, id.attempt);
    }

    /// Begins to write every barrier that is complete.
    fn write_snapshots(&mut self, job: JobId, attempt: tidegate_protocol::Attempt) {
        let Some(fabric) = self.fabrics.get(&(job, attempt)).cloned() else { return };
        for pid in &fabric.members {
            let Some(process) = self.process(*pid).filter(|process| !process.is_aborted) else { continue };
            let parallelism = process.preparation.as_ref().map_or(1, |p| p.parallelism);
            let passed = fabric.passed(parallelism);
            let complete = process.workers.values_mut().filter(|worker| {
                !worker.is_writing && worker.barriers.front().is_some_and(|barrier| barrier.epoch <= passed)
            });
            let slots: Vec<Slot> = complete
                .map(|worker| {
                    worker.is_writing = true;
                    worker.slot
                })
                .collect();
            for slot in slots {
                let takes = self.random.delay(60, 2_000, 20) + self.store_delay();
                self.after(takes, Event::SnapshotWritten { pid: *pid, slot });
            }
        }
    }

    pub(crate) fn snapshot_written(&mut self, pid: u32, slot: Slot) {
        let (is_away, declines) = (self.is_store_away(), self.random.chance(self.config.declines));
        let declines = is_away || declines && !self.is_healed;
        let fails = is_away && self.random.chance(300);
        let Some(process) = self.process(pid).filter(|process| !process.is_aborted) else { return };
        let id = process.id;
        let Some(job) = self.config.jobs.iter().find(|job| job.id == id.job) else { return };
        let in_store = job.staged_in_store;
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let completed = process.instructions.completed;
        let Some(worker) = process.workers.get_mut(&slot) else { return };
        worker.is_writing = false;
        let Some(barrier) = worker.barriers.pop_front() else { return };
        let epoch = barrier.epoch;
        if fails {
            return self.process_fails(pid, Error::environment("the output cannot be synced"));
        }
        let piece = worker.stage(&barrier, completed, id.attempt, in_store);
        let store = self.store.jobs.entry(id.job).or_default();
        if in_store {
            store.files.insert(format!("staged/{}-{slot}-{epoch}-out", id.attempt), false);
        }
        if let Some(outside) = self.outsides.get_mut(&id.job) {
            outside.stage(piece);
        }
        if declines {
            let reason = "the disk is full".to_owned();
            self.reports(pid, Report::Declined { slot, epoch, reason });
        } else {
            let is_new = !self.random.chance(300);
            let files = if is_new {
                let name = |number: u64| format!("files/{}-{slot}-{epoch}-{number}", id.attempt);
                new_files(&worker.completed, &mut self.random, epoch, name)
            } else {
                worker.completed.clone()
            };
            for file in files.values() {
                store.files.entry(file.path.clone()).or_insert(false);
            }
            let part = Box::new(worker.part(barrier, files, is_new));
            self.reports(pid, Report::Acked { slot, epoch, part });
        }
        self.write_snapshots(id.job, id.attempt);
    }

    /// An epoch is to be published.
    pub(super) fn publishes(&mut self, pid: u32, epoch: Epoch) {
        let Some(process) = self.process(pid) else { return };
        for slot in process.workers.keys().copied().collect::<Vec<_>>() {
            let takes = if self.is_healed { 20 } else { self.random.delay(60, 4_000, 40) };
            let Some(worker) = self.process(pid).and_then(|process| process.workers.get_mut(&slot)) else {
                return;
            };
            if epoch == worker.published {
                self.reports(pid, Report::Published { slot, epoch });
            } else if epoch > worker.published && worker.publishing.is_none_or(|other| other < epoch) {
                if !worker.outputs.contains_key(&epoch) {
                    let text =
                        format!("epoch {epoch} is to be published, and slot {slot} has not written it");
                    return self.process_fails(pid, Error::internal(text));
                }
                worker.publishing = Some(epoch);
                self.after(takes, Event::OutputPublished { pid, slot, epoch });
            }
        }
    }

    pub(crate) fn output_published(&mut self, pid: u32, slot: Slot, epoch: Epoch) {
        let Some(worker) = self.process(pid).and_then(|process| process.workers.get_mut(&slot)) else {
            return;
        };
        let staged: Vec<Staged> = worker.outputs.get(&epoch).cloned().unwrap_or_default();
        if let Err(why) = self.publish_staged(pid, epoch, &staged) {
            return self.process_fails(pid, Error::environment(why));
        }
        let Some(worker) = self.process(pid).and_then(|process| process.workers.get_mut(&slot)) else {
            return;
        };
        worker.is_published(epoch);
        self.reports(pid, Report::Published { slot, epoch });
    }

    /// The first process asks the sources for new partitions.
    pub(super) fn discovers(&mut self, pid: u32) {
        let now = self.now;
        let Some(process) = self.process(pid) else { return };
        if !process.is_first() || process.phase != Phase::Running || process.next_discovery > now {
            return;
        }
        process.next_discovery = now + DISCOVER_EVERY_MS;
        let job = process.id.job;
        let names = self.outsides.get(&job).filter(|o| o.bounded.is_none()).map(|o| o.partitions(now));
        if let Some(names) = names {
            self.reports(pid, Report::Partitions { source: "in".to_owned(), names });
        }
    }
}

/// Opens the partitions that were assigned since the last time, where the snapshot has them.
fn open_assigned(process: &mut Process, slot: Slot, outside: &Outside) -> Vec<String> {
    let is_bounded = outside.bounded.is_some();
    let (restored, assigned) = (process.restored.clone(), &process.instructions.assigned);
    let Some(worker) = process.workers.get_mut(&slot).filter(|worker| worker.is_ready) else {
        return Vec::new();
    };
    let names = assigned.get(&slot).map(|names| names[worker.seen..].to_vec()).unwrap_or_default();
    for name in &names {
        let parts =
            restored.iter().flat_map(|m| m.slots.values()).filter_map(|part| part.operators.get("in"));
        let kept = parts.filter_map(|part| part.partitions.get(name)).next();
        let position = kept.and_then(|kept| kept.position.as_u64()).unwrap_or(0);
        worker.open(name.clone(), position, kept.is_some_and(|kept| kept.ended) && is_bounded);
    }
    worker.seen += names.len();
    names
}

fn read(process: &mut Process, slot: Slot, outside: &Outside, now: u64, random: &mut Random) {
    let instructions = &process.instructions;
    let is_bounded = outside.bounded.is_some() || instructions.drain;
    let Some(worker) = process.workers.get_mut(&slot).filter(|w| w.is_ready && !w.is_done) else { return };
    if instructions.stop_reading {
        return;
    }
    for (partition, reading) in worker.open.iter_mut().filter(|(_, reading)| !reading.has_ended) {
        let end = outside.length(partition, now);
        reading.position = (reading.position + random.below(400)).min(end).max(reading.position);
        reading.has_ended = is_bounded && reading.position >= end;
    }
}

/// Says once if all sources of a worker have ended.
fn end(process: &mut Process, slot: Slot, outside: &Outside) -> Option<Report> {
    let is_bounded = outside.bounded.is_some() || process.instructions.drain;
    let worker =
        process.workers.get_mut(&slot).filter(|w| w.is_ready && is_bounded && !w.has_reported_end)?;
    worker.has_reported_end = worker.open.values().all(|reading| reading.has_ended);
    worker.has_reported_end.then_some(Report::SourcesEnded(slot))
}

/// Ends the epochs that are triggered; none after the last one.
fn end_epochs(process: &mut Process, slot: Slot, mut emit: impl FnMut(Epoch)) {
    let (trigger, last) = (process.instructions.trigger, process.instructions.last);
    let Some(worker) = process.workers.get_mut(&slot).filter(|worker| worker.is_ready) else { return };
    while worker.emitted < trigger && !worker.is_done {
        let epoch = worker.emitted.next();
        worker.end_epoch(epoch, last == Some(epoch));
        emit(epoch);
    }
}

/// Some files of the last complete snapshot, and a new one.
fn new_files(
    completed: &BTreeMap<String, FileRef>,
    random: &mut Random,
    epoch: Epoch,
    name: impl Fn(u64) -> String,
) -> BTreeMap<String, FileRef> {
    let mut files: BTreeMap<String, FileRef> = completed
        .iter()
        .filter(|_| random.chance(600))
        .map(|(name, file)| (name.clone(), file.clone()))
        .collect();
    let path = name(random.below(1_000));
    files.insert(format!("{epoch}.sst"), FileRef { path, bytes: 1, crc32: 1 });
    files
}
