//! A worker: it reads partitions, ends epochs, stages output, writes its part of snapshots and publishes.

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::manifest::{FileRef, OperatorSnapshot, PartitionSnapshot, SlotSnapshot, Staged};
use tidegate_protocol::{Attempt, Epoch, Slot};

use crate::outside::Piece;

/// How far a partition is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) position: u64,
    /// The position at the last barrier.
    before: u64,
    pub(crate) has_ended: bool,
}

/// What a worker hands over at a barrier.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub(crate) epoch: Epoch,
    partitions: BTreeMap<String, PartitionSnapshot>,
    ranges: Vec<(String, u64, u64)>,
}

/// A worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worker {
    pub(crate) slot: Slot,
    pub(crate) is_ready: bool,
    pub(crate) open: BTreeMap<String, Reading>,
    /// The number of assigned partitions that it has seen.
    pub(crate) seen: usize,
    /// The last epoch that its sources have ended.
    pub(crate) emitted: Epoch,
    /// Whether that was the last one.
    pub(crate) is_done: bool,
    pub(crate) barriers: VecDeque<Barrier>,
    pub(crate) is_writing: bool,
    pub(crate) has_reported_end: bool,
    /// The files of the last complete snapshot.
    pub(crate) completed: BTreeMap<String, FileRef>,
    /// Those of the last one that was written, and its epoch.
    newest: (Epoch, BTreeMap<String, FileRef>),
    /// Staged output of epochs that are not known to be published.
    unpublished: Vec<Staged>,
    /// What the worker's part of every snapshot has staged.
    pub(crate) outputs: BTreeMap<Epoch, Vec<Staged>>,
    pub(crate) published: Epoch,
    pub(crate) publishing: Option<Epoch>,
}

impl Worker {
    /// A worker that goes on after an epoch, with the files that it has restored.
    pub(crate) fn new(slot: Slot, emitted: Epoch, completed: BTreeMap<String, FileRef>) -> Self {
        Self { slot, emitted, completed, ..Self::default() }
    }

    /// Opens a partition at a position.
    pub(crate) fn open(&mut self, name: String, position: u64, has_ended: bool) {
        self.open.insert(name, Reading { position, before: position, has_ended });
    }

    /// Ends an epoch.
    pub(crate) fn end_epoch(&mut self, epoch: Epoch, is_last: bool) {
        let mut ranges = Vec::new();
        let mut partitions = BTreeMap::new();
        for (name, reading) in &mut self.open {
            if reading.before < reading.position {
                ranges.push((name.clone(), reading.before, reading.position));
            }
            reading.before = reading.position;
            let snapshot = PartitionSnapshot {
                position: reading.position.into(),
                watermark: None,
                ended: reading.has_ended,
            };
            partitions.insert(name.clone(), snapshot);
        }
        self.emitted = epoch;
        self.is_done |= is_last;
        self.barriers.push_back(Barrier { epoch, partitions, ranges });
    }

    /// Learns which epoch was completed, and stages what a barrier has handed over.
    pub(crate) fn stage(
        &mut self,
        barrier: &Barrier,
        completed: Epoch,
        attempt: Attempt,
        in_store: bool,
    ) -> Piece {
        if self.newest.0 == completed {
            self.completed = self.newest.1.clone();
        }
        self.unpublished.retain(|staged| staged.epoch > completed);
        let (slot, epoch) = (self.slot, barrier.epoch);
        let folder = if in_store { "staged" } else { "/out" };
        let path = format!("{folder}/{attempt}-{slot}-{epoch}-out");
        self.unpublished.push(Staged {
            slot,
            epoch,
            records: 0,
            place: attempt.0.into(),
            file: Some(FileRef { path, bytes: 0, crc32: 0 }),
        });
        Piece { id: (attempt, slot, epoch), ranges: barrier.ranges.clone() }
    }

    /// The worker's part of a snapshot with these files.
    pub(crate) fn part(
        &mut self,
        barrier: Barrier,
        files: BTreeMap<String, FileRef>,
        is_new: bool,
    ) -> SlotSnapshot {
        if is_new {
            self.newest = (barrier.epoch, files.clone());
        }
        self.outputs.insert(barrier.epoch, self.unpublished.clone());
        let source = OperatorSnapshot { partitions: barrier.partitions, ..OperatorSnapshot::default() };
        let sink = OperatorSnapshot { staged: self.unpublished.clone(), ..OperatorSnapshot::default() };
        let operators = [("in".to_owned(), source), ("out".to_owned(), sink)].into();
        SlotSnapshot { store: files, operators }
    }

    pub(crate) fn is_published(&mut self, epoch: Epoch) {
        self.published = epoch;
        self.publishing = None;
        self.outputs.retain(|other, _| *other > epoch);
    }
}
