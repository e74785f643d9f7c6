//! What a user can set about checkpoints.

/// How often a job takes checkpoints, how many snapshots stay, and how many workers write each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Milliseconds from one trigger to the next, at least 1 (0 is taken for 1); a checkpoint that is still in flight
    /// by then delays the next. None: only the last checkpoint is taken, at the job's end or stop.
    pub interval_ms: Option<u64>,
    /// Milliseconds after which a checkpoint in flight is reported as slow, and again after as many; at least 1 (0 is
    /// taken for 1).
    pub slow_ms: u64,
    /// Milliseconds after which a checkpoint is aborted if not every worker has acknowledged its part, at least 1 (0 is taken
    /// for 1). Its changes and its output go with the next one. None: a checkpoint may take as long as it takes. Under
    /// backpressure a barrier arrives late, but it arrives.
    pub timeout_ms: Option<u64>,
    /// The least number of milliseconds from the end of one checkpoint to the trigger of the next. A checkpoint that was
    /// asked for, and the last one, do not wait.
    pub min_pause_ms: u64,
    /// The number of checkpoints in a row that may be aborted; one more ends the attempt. None: any number. Those that are
    /// aborted because messages were lost do not count.
    pub tolerable_failures: Option<u32>,
    /// The number of newest snapshots that stay, at least 1 (0 is taken for 1).
    pub retain: usize,
    /// The number of workers that each write a part of every snapshot: slots `0..writers`, at least 1 (0 is taken
    /// for 1).
    pub writers: u32,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval_ms: Some(1_000),
            slow_ms: 30_000,
            timeout_ms: None,
            min_pause_ms: 0,
            tolerable_failures: None,
            retain: 3,
            writers: 1,
        }
    }
}

impl CheckpointSettings {
    /// The settings with every number raised to the least that makes sense.
    pub(crate) fn at_least_one(self) -> Self {
        Self {
            interval_ms: self.interval_ms.map(|ms| ms.max(1)),
            slow_ms: self.slow_ms.max(1),
            timeout_ms: self.timeout_ms.map(|ms| ms.max(1)),
            retain: self.retain.max(1),
            writers: self.writers.max(1),
            ..self
        }
    }
}
