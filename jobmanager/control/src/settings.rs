//! What a user can set about checkpoints.

/// How often a job takes checkpoints, how many snapshots stay, and how many workers write each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Milliseconds from one trigger to the next, at least 1 (0 is taken for 1); a checkpoint that is still in flight
    /// by then delays the next. None: only the last checkpoint is taken, at the job's end or stop.
    pub interval_ms: Option<u64>,
    /// Milliseconds after which a checkpoint in flight is reported as slow, and again after as many; at least 1 (0 is
    /// taken for 1). No checkpoint is aborted for being slow: under backpressure a barrier arrives late, but it arrives.
    pub timeout_ms: u64,
    /// The number of newest snapshots that stay, at least 1 (0 is taken for 1).
    pub retain: usize,
    /// The number of workers that each write a part of every snapshot: slots `0..writers`, at least 1 (0 is taken
    /// for 1).
    pub writers: u32,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { interval_ms: Some(1_000), timeout_ms: 30_000, retain: 3, writers: 1 }
    }
}

impl CheckpointSettings {
    /// The settings with every number raised to the least that makes sense.
    pub(crate) fn at_least_one(self) -> Self {
        Self {
            interval_ms: self.interval_ms.map(|ms| ms.max(1)),
            timeout_ms: self.timeout_ms.max(1),
            retain: self.retain.max(1),
            writers: self.writers.max(1),
        }
    }
}
