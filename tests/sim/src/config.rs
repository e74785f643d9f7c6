//! What a seed chooses before anything happens: how big the cluster is, what its jobs are, and what goes wrong.
//!
//! Every kind of fault is switched on or off by itself, so that some runs have many faults of a few kinds: these find more
//! than a little of everything always.

use tidegate_protocol::JobId;

use crate::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ConnectionBreaks,
    ConnectionStalls,
    JobManagerDies,
    JobManagerStops,
    TaskManagerDies,
    TaskManagerStops,
    HostStops,
    ProcessDies,
    ProcessStops,
    StoreIsSlow,
    StoreIsAway,
    LedgerIsSlow,
    Damage,
    JobFails,
}

const KINDS: [Kind; 14] = [
    Kind::ConnectionBreaks,
    Kind::ConnectionStalls,
    Kind::JobManagerDies,
    Kind::JobManagerStops,
    Kind::TaskManagerDies,
    Kind::TaskManagerStops,
    Kind::HostStops,
    Kind::ProcessDies,
    Kind::ProcessStops,
    Kind::StoreIsSlow,
    Kind::StoreIsAway,
    Kind::LedgerIsSlow,
    Kind::Damage,
    Kind::JobFails,
];

/// A job that a user will submit.
#[derive(Clone, Debug)]
pub(crate) struct JobConfig {
    pub(crate) id: JobId,
    /// The records of every partition at first; None for a source that grows.
    pub(crate) bounded: Option<u64>,
    /// Partitions at first.
    pub(crate) partitions: u64,
    pub(crate) parallelism: u32,
    /// Whether its parallelism follows its partitions and the slots there are.
    pub(crate) auto_parallelism: bool,
    /// The most that a user rescales it to.
    pub(crate) parallelism_max: u32,
    pub(crate) interval_ms: u64,
    pub(crate) retain: usize,
    pub(crate) submitted_at: u64,
    /// Whether staged output lies in the checkpoint store.
    pub(crate) staged_in_store: bool,
    /// Whether it goes on from a savepoint of the first job.
    pub(crate) imports: bool,
}

/// What a seed has chosen.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The slots of every host.
    pub(crate) hosts: Vec<u32>,
    pub(crate) jobs: Vec<JobConfig>,
    pub(crate) faults: Vec<Kind>,
    /// A taskmanager that is without a jobmanager for so many milliseconds kills its processes.
    pub(crate) away_ms: u64,
    /// Milliseconds from one fault to the next, about.
    pub(crate) fault_every: u64,
    /// In so many of a thousand durable writes of the jobmanager it dies just before or just after.
    pub(crate) dies_at_writes: u64,
    /// In so many of a thousand messages a process sends an earlier one again.
    pub(crate) repeats: u64,
    /// In so many of a thousand snapshots a worker declines.
    pub(crate) declines: u64,
    pub(crate) steps: u64,
}

impl Config {
    pub(crate) fn new(random: &mut Random) -> Self {
        let hosts: Vec<u32> = (0..random.between(1, 4)).map(|_| random.between(1, 4) as u32).collect();
        let slots: u32 = hosts.iter().sum();
        let count = random.between(1, 3).min(slots.into());
        let share = slots / count as u32;
        let mut jobs: Vec<JobConfig> = (0..count).map(|number| job(random, number, share)).collect();
        let (bounded, partitions) = (jobs[0].bounded, jobs[0].partitions);
        for job in jobs.iter_mut().filter(|job| job.imports) {
            // It goes on with the input of the first job.
            (job.bounded, job.partitions) = (bounded, partitions);
        }
        // Beside other jobs it could take all slots before they are submitted, and they would wait for ever.
        jobs[0].auto_parallelism = count == 1 && random.chance(500);
        let is_calm = random.chance(50);
        let faults = KINDS.into_iter().filter(|_| random.chance(450) && !is_calm).collect();
        let mut some = |per_mille, most| if random.chance(per_mille) { random.between(1, most) } else { 0 };
        let (dies_at_writes, repeats, declines) = (some(400, 60), some(300, 50), some(400, 100));
        let fault_every = random.between(100, 4_000);
        let steps = random.between(1_000, 8_000);
        let away_ms = if random.chance(300) { random.between(500, 3_000) } else { 300_000 };
        Self { hosts, jobs, faults, away_ms, fault_every, dies_at_writes, repeats, declines, steps }
    }
}

fn job(random: &mut Random, number: u64, share: u32) -> JobConfig {
    let parallelism_max = share.clamp(1, 6);
    JobConfig {
        id: JobId([number as u8 + 1; 16]),
        bounded: random.chance(350).then(|| random.between(0, 3_000)),
        partitions: random.between(1, 6),
        parallelism: random.between(1, parallelism_max.into()) as u32,
        parallelism_max,
        auto_parallelism: false,
        interval_ms: random.between(50, 1_500),
        retain: random.between(1, 4) as usize,
        submitted_at: random.between(0, 3_000),
        staged_in_store: random.chance(500),
        imports: number > 0 && random.chance(400),
    }
}
