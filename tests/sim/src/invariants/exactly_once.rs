//! Every record of the output is published exactly once, in effect: no two published pieces overlap; and when an epoch counts as
//! published, everything up to its positions is, without a gap. What was staged for aborted epochs is part of the next. A
//! job that has ended by itself, or because it was drained, has published all of its input.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_control::cluster::{Ending, Record};
use tidegate_protocol::{Epoch, JobId, Manifest};

use super::{Invariant, hold};
use crate::happening::Happening;
use crate::outside::Piece;
use crate::show;
use crate::world::World;

/// The published ranges of a partition: from where to where, and the piece.
type Ranges = BTreeMap<u64, (u64, String)>;

#[derive(Default)]
struct Job {
    published: BTreeMap<String, Ranges>,
    /// Where the job has begun.
    base: BTreeMap<String, u64>,
    manifests: BTreeMap<Epoch, Arc<Manifest>>,
    /// How far the partitions reached when the job was to drain for the first time.
    drained_to: Option<BTreeMap<String, u64>>,
}

#[derive(Default)]
pub(super) struct ExactlyOnce(BTreeMap<JobId, Job>);

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "every record is published exactly once"
    }

    fn look(&mut self, world: &World, happened: &[Happening]) -> Result<(), String> {
        for happening in happened {
            match happening {
                Happening::ManifestWritten { job, manifest } => {
                    self.0.entry(*job).or_default().manifests.insert(manifest.epoch, manifest.clone());
                }
                Happening::Durable(Record::Submitted { job, spec }) => {
                    let of = self.0.entry(*job).or_default();
                    let restored = spec.restored.and_then(|(epoch, _)| of.manifests.get(&epoch).cloned());
                    of.base = restored.map(|manifest| positions(&manifest)).unwrap_or_default();
                }
                Happening::Durable(Record::StopRequested { job, stop }) if stop.drain => {
                    self.0.entry(*job).or_default().drained_to.get_or_insert_with(|| ends(world, *job));
                }
                Happening::Published { job, piece, .. } => {
                    self.0.entry(*job).or_default().publish(*job, piece)?
                }
                Happening::TakenBack { job, pieces, .. } => self.0.entry(*job).or_default().take_back(pieces),
                Happening::Durable(Record::Ended { job, .. }) => self.ended(world, *job)?,
                Happening::AllPublished { job, epoch } => {
                    self.0.entry(*job).or_default().all_published(*job, *epoch)?
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl ExactlyOnce {
    /// A job that has ended well leaves nothing unpublished.
    fn ended(&mut self, world: &World, job: JobId) -> Result<(), String> {
        let Some(facts) = world.ledger.jobs.get(&job) else { return Ok(()) };
        let (Some((Ending::Finished { .. }, _)), Some(epoch)) = (&facts.ended, facts.newest()) else {
            return Ok(());
        };
        let of = self.0.entry(job).or_default();
        of.all_published(job, epoch)?;
        if !world.is_only_drained(job) {
            return Ok(());
        }
        let until = of.drained_to.clone().unwrap_or_else(|| ends(world, job));
        of.reaches(&until, || format!("{} has ended by itself", show::job(job)))
    }
}

impl Job {
    fn publish(&mut self, job: JobId, piece: &Piece) -> Result<(), String> {
        for (partition, from, to) in &piece.ranges {
            let ranges = self.published.entry(partition.clone()).or_default();
            let before = ranges.range(..to).next_back().filter(|(_, (end, _))| end > from);
            hold(before.is_none(), || {
                format!(
                    "{} {partition}: {from}..{to} of {:?} is published twice: {before:?}",
                    show::job(job),
                    piece.id
                )
            })?;
            ranges.insert(*from, (*to, format!("{:?}", piece.id)));
        }
        Ok(())
    }

    fn take_back(&mut self, pieces: &[Piece]) {
        for (partition, from, _) in pieces.iter().flat_map(|piece| &piece.ranges) {
            if let Some(ranges) = self.published.get_mut(partition) {
                ranges.remove(from);
            }
        }
    }

    /// Everything up to the positions of the epoch's snapshot is published.
    fn all_published(&self, job: JobId, epoch: Epoch) -> Result<(), String> {
        let Some(manifest) = self.manifests.get(&epoch) else { return Ok(()) };
        self.reaches(&positions(manifest), || {
            format!("{}: epoch {epoch} counts as published", show::job(job))
        })
    }

    /// What is published has no gap up to these positions.
    fn reaches(&self, ends: &BTreeMap<String, u64>, what: impl Fn() -> String) -> Result<(), String> {
        for (partition, end) in ends {
            let mut position = self.base.get(partition).copied().unwrap_or(0);
            for (from, (to, _)) in self.published.get(partition).into_iter().flatten() {
                let is_next = *from == position;
                position = if is_next { *to } else { position };
            }
            hold(position >= *end, || format!("{}, and {partition} {position}..{end} is missing", what()))?;
        }
        Ok(())
    }
}

/// How far the partitions of a job reach now.
fn ends(world: &World, job: JobId) -> BTreeMap<String, u64> {
    let outside = &world.outsides[&job];
    let partitions = outside.partitions(world.now).into_iter();
    partitions.map(|partition| (partition.clone(), outside.length(&partition, world.now))).collect()
}

/// How far every partition was read for a snapshot.
fn positions(manifest: &Manifest) -> BTreeMap<String, u64> {
    let parts = manifest.slots.values().filter_map(|part| part.operators.get("in"));
    let all = parts.flat_map(|part| &part.partitions);
    all.map(|(name, partition)| (name.clone(), partition.position.as_u64().unwrap_or(0))).collect()
}
