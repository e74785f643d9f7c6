//! What will happen, in the order of the simulated time.

use std::collections::BTreeMap;

use tidegate_protocol::taskmanager::ProcessId;
use tidegate_protocol::{Epoch, JobId, Slot};

/// Something that happens at a time. What belongs to a life of something (of the jobmanager, of a taskmanager) carries that
/// life's number, and is nothing if that life is over.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The jobmanager is started.
    JobManagerStarts,
    /// The brain's deadline, or its tick.
    BrainTick {
        life: u64,
        version: u64,
    },
    /// The batch that is being written to the ledger is durable.
    LedgerDurable {
        life: u64,
    },
    /// The durable batch is reported to the brain.
    LedgerReports {
        life: u64,
    },
    /// The first action in the queue of a job's checkpoint store is carried out.
    StoreActs {
        life: u64,
        job: JobId,
    },
    /// A copy goes one step on.
    Copies {
        life: u64,
        copy: u64,
    },
    /// The jobmanager notices that a connection is over.
    ServerNotices {
        life: u64,
        connection: u64,
    },
    /// A message arrives on a connection.
    ToHost {
        connection: u64,
    },
    /// The same in the other direction.
    ToServer {
        connection: u64,
    },
    /// A connection breaks.
    Breaks {
        connection: u64,
    },
    /// A taskmanager is started.
    HostStarts {
        host: usize,
    },
    /// A taskmanager tries to connect.
    HostConnects {
        host: usize,
        life: u64,
    },
    /// A taskmanager notices that its connection is over.
    HostNotices {
        host: usize,
        life: u64,
        connection: u64,
    },
    HostTick {
        host: usize,
        life: u64,
    },
    /// An executable is fetched.
    Fetched {
        host: usize,
        life: u64,
        process: ProcessId,
    },
    /// A job is described.
    Described {
        host: usize,
        life: u64,
        request: u64,
        job: usize,
    },
    /// A taskmanager notices the end of a process.
    ExitSeen {
        host: usize,
        life: u64,
        pid: u32,
    },
    /// A message arrives at a process.
    ToProcess {
        pid: u32,
    },
    /// A message of a process arrives at its taskmanager.
    FromProcess {
        pid: u32,
    },
    ProcessTick {
        pid: u32,
    },
    /// A process goes one step on in its start.
    ProcessGoesOn {
        pid: u32,
    },
    /// A worker's dataflow is built.
    WorkerReady {
        pid: u32,
        slot: Slot,
    },
    /// The oldest barrier of a worker is written.
    SnapshotWritten {
        pid: u32,
        slot: Slot,
    },
    /// A worker's output of an epoch is published.
    OutputPublished {
        pid: u32,
        slot: Slot,
        epoch: Epoch,
    },
    /// A process notices that another one of its attempt is gone.
    PeerGone {
        pid: u32,
    },
    /// A process ends.
    ProcessEnds {
        pid: u32,
    },
    /// A user does something.
    UserActs {
        job: usize,
    },
    /// A user looks for an answer, or asks again.
    UserLooks {
        job: usize,
    },
    /// Something fails.
    Fault,
}

/// All that will happen.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
}

impl Queue {
    /// What happens at the same time happens in the order in which it was added.
    pub(crate) fn add(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
