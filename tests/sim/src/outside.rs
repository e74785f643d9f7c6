//! The outside of a job: the partitions that it reads, and its published output, which is the truth that everything is
//! measured by.
//!
//! A record of the output is a record of the input: a piece of output is ranges of positions. Published exactly once
//! means that the ranges of all published pieces do not overlap, and have no gap up to where the job has come.

use std::collections::BTreeMap;

use tidegate_protocol::manifest::Staged;
use tidegate_protocol::{Attempt, Epoch, Slot};

/// Which piece of output: the attempt and the worker that staged it, and the epoch.
pub(crate) type PieceId = (Attempt, Slot, Epoch);

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: PieceId,
    /// Partitions, and positions from where to where.
    pub(crate) ranges: Vec<(String, u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Staged,
    Published,
}

/// A partition is added to a source that grows once in so many milliseconds.
const PARTITION_EVERY_MS: u64 = 15_000;
/// A record is added to every partition of such a source once in so many milliseconds.
const RECORD_EVERY_MS: u64 = 10;

/// The outside of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// The records of every partition; None for a source that grows.
    pub(crate) bounded: Option<u64>,
    /// The number of partitions at first.
    partitions_at_first: u64,
    pieces: BTreeMap<PieceId, (Piece, State)>,
    /// The newest attempt that has claimed the target.
    claimed: Attempt,
}

impl Outside {
    pub(crate) fn new(bounded: Option<u64>, partitions_at_first: u64) -> Self {
        Self { bounded, partitions_at_first, ..Self::default() }
    }

    /// The partitions that there are.
    pub(crate) fn partitions(&self, now: u64) -> Vec<String> {
        let more = if self.bounded.is_some() { 0 } else { now / PARTITION_EVERY_MS };
        (0..self.partitions_at_first + more).map(|number| format!("part-{number}")).collect()
    }

    /// The number of records of a partition, which has none when it is added.
    pub(crate) fn length(&self, partition: &str, now: u64) -> u64 {
        let number = partition.strip_prefix("part-").and_then(|number| number.parse().ok()).unwrap_or(0_u64);
        let added = (number + 1).saturating_sub(self.partitions_at_first) * PARTITION_EVERY_MS;
        self.bounded.unwrap_or(now.saturating_sub(added) / RECORD_EVERY_MS)
    }

    /// Claims the target for an attempt; an older one must not clean it up from now on.
    pub(crate) fn claim(&mut self, attempt: Attempt) -> Result<(), String> {
        self.check_claim(attempt)?;
        self.claimed = attempt;
        Ok(())
    }

    fn check_claim(&self, attempt: Attempt) -> Result<(), String> {
        if self.claimed > attempt {
            return Err(format!("attempt {} has taken the target over", self.claimed));
        }
        Ok(())
    }

    pub(crate) fn stage(&mut self, piece: Piece) {
        self.pieces.insert(piece.id, (piece, State::Staged));
    }

    /// Makes a piece visible. Returns it if it was not visible before.
    pub(crate) fn publish(&mut self, id: PieceId) -> Result<Option<Piece>, String> {
        match self.pieces.get_mut(&id) {
            Some((_, State::Published)) => Ok(None),
            Some((piece, state)) => {
                *state = State::Published;
                Ok(Some(piece.clone()))
            }
            None => Err("the staged output is gone".to_owned()),
        }
    }

    /// All pieces that there are.
    pub(crate) fn names(&self) -> Vec<PieceId> {
        self.pieces.keys().copied().collect()
    }

    /// Removes those of the listed pieces that are only staged, for an attempt.
    pub(crate) fn remove_staged(&mut self, listed: &[PieceId], attempt: Attempt) -> Result<(), String> {
        self.check_claim(attempt)?;
        for id in listed {
            if !self.is_published(*id) {
                self.pieces.remove(id);
            }
        }
        Ok(())
    }

    /// Takes those of the listed pieces back that are of later epochs than the restored one. Returns what was taken back.
    pub(crate) fn take_back(
        &mut self,
        listed: &[PieceId],
        attempt: Attempt,
        restored: Option<Epoch>,
    ) -> Result<Vec<Piece>, String> {
        self.check_claim(attempt)?;
        let later: Vec<PieceId> = listed.iter().copied().filter(|id| Some(id.2) > restored).collect();
        let published = later.into_iter().filter(|id| self.is_published(*id)).collect::<Vec<_>>();
        Ok(published.iter().filter_map(|id| self.pieces.remove(id)).map(|(piece, _)| piece).collect())
    }

    /// True if a piece is visible.
    pub(crate) fn is_published(&self, id: PieceId) -> bool {
        matches!(self.pieces.get(&id), Some((_, State::Published)))
    }
}

/// The piece that an entry of a manifest names.
pub(crate) fn piece_of(staged: &Staged) -> PieceId {
    let attempt = staged.place.as_u64().unwrap_or(0) as u32;
    (Attempt(attempt), staged.slot, staged.epoch)
}
