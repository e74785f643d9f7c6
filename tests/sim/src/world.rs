//! The world: everything there is, and its steps.
//!
//! A step takes the next event, carries it out, and has every invariant look at what has happened. Whatever else is to
//! happen is an event again, at a later time. There is no clock, no thread, and no chance but that of the seed.

use std::collections::BTreeMap;

use tidegate_control::cluster::Ledger;
use tidegate_protocol::{Attempt, JobId};

use crate::config::Config;
use crate::happening::Happening;
use crate::host::Host;
use crate::invariants::{self, Invariant};
use crate::jobmanager::JobManager;
use crate::log::Log;
use crate::network::Network;
use crate::outside::Outside;
use crate::process::Process;
use crate::process::fabric::Fabric;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::store::Store;
use crate::users::User;

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) queue: Queue,
    pub(crate) jobmanager: Option<JobManager>,
    /// The number of jobmanagers so far.
    pub(crate) jobmanager_life: u64,
    /// The jobmanager does nothing before this time.
    pub(crate) jobmanager_stopped_until: u64,
    /// The ledger as it is on disk.
    pub(crate) ledger: Ledger,
    /// Until then the disk of the ledger is slow.
    pub(crate) ledger_slow_until: u64,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Host>,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) next_pid: u32,
    pub(crate) fabrics: BTreeMap<(JobId, Attempt), Fabric>,
    pub(crate) outsides: BTreeMap<JobId, Outside>,
    pub(crate) users: Vec<User>,
    /// True once nothing goes wrong any more.
    pub(crate) is_healed: bool,
    pub(crate) happened: Vec<Happening>,
    invariants: Vec<Box<dyn Invariant>>,
}

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

impl World {
    pub(crate) fn new(seed: u64, is_printed: bool) -> Self {
        let mut random = Random::new(seed);
        let config = Config::new(&mut random);
        let outsides = config.jobs.iter().map(|job| (job.id, Outside::new(job.bounded, job.partitions)));
        let mut world = Self {
            now: 0,
            log: Log::new(is_printed),
            queue: Queue::default(),
            jobmanager: None,
            jobmanager_life: 0,
            jobmanager_stopped_until: 0,
            ledger: Ledger::default(),
            ledger_slow_until: 0,
            store: Store::default(),
            network: Network::default(),
            hosts: config.hosts.iter().enumerate().map(|(number, slots)| Host::new(number, *slots)).collect(),
            processes: BTreeMap::new(),
            next_pid: 1,
            fabrics: BTreeMap::new(),
            outsides: outsides.collect(),
            users: config.jobs.iter().map(|_| User::default()).collect(),
            is_healed: false,
            happened: Vec::new(),
            invariants: invariants::all(),
            random,
            config,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let config = self.config.clone();
        self.note(format_args!(
            "hosts {:?}, faults every {} ms: {:?}; dies at {} of 1000 writes, {} repeats, {} declines",
            config.hosts,
            config.fault_every,
            config.faults,
            config.dies_at_writes,
            config.repeats,
            config.declines
        ));
        config.jobs.iter().for_each(|job| self.note(format_args!("{job:?}")));
        self.queue.add(0, Event::JobManagerStarts);
        for host in 0..self.hosts.len() {
            let at = self.random.below(500);
            self.queue.add(at, Event::HostStarts { host });
        }
        for (job, of) in config.jobs.iter().enumerate() {
            self.queue.add(of.submitted_at, Event::UserActs { job });
            self.queue.add(of.submitted_at, Event::UserLooks { job });
        }
        self.queue.add(config.fault_every, Event::Fault);
    }

    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.log.add(self.now, line);
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.queue.add(self.now + ms, event);
    }

    /// What happens next.
    pub(crate) fn step(&mut self) -> Result<(), Broken> {
        let Some((at, event)) = self.queue.pop() else { return Ok(()) };
        self.now = at;
        match self.waits_until(&event) {
            Some(until) => self.queue.add(until, event),
            None => self.handle(event),
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), Broken> {
        let mut invariants = std::mem::take(&mut self.invariants);
        let happened = std::mem::take(&mut self.happened);
        let result = invariants.iter_mut().try_for_each(|invariant| {
            let held = invariant.look(self, &happened);
            held.map_err(|what| Broken { invariant: invariant.name(), what })
        });
        self.invariants = invariants;
        result
    }

    /// If whom an event is for is stopped at the moment: until when.
    fn waits_until(&self, event: &Event) -> Option<u64> {
        let until = match event {
            Event::BrainTick { .. }
            | Event::LedgerDurable { .. }
            | Event::LedgerReports { .. }
            | Event::StoreActs { .. }
            | Event::Copies { .. }
            | Event::ServerNotices { .. }
            | Event::ToServer { .. } => self.jobmanager_stopped_until,
            Event::HostConnects { host, .. }
            | Event::HostNotices { host, .. }
            | Event::HostTick { host, .. }
            | Event::Fetched { host, .. }
            | Event::Described { host, .. }
            | Event::ExitSeen { host, .. } => self.hosts[*host].stopped_until,
            Event::ToHost { connection } => {
                let connection = self.network.connections.get(connection)?;
                self.hosts[connection.host].stopped_until
            }
            Event::FromProcess { pid } => self.hosts[self.processes.get(pid)?.host].stopped_until,
            Event::ToProcess { pid }
            | Event::ProcessTick { pid }
            | Event::ProcessGoesOn { pid }
            | Event::WorkerReady { pid, .. }
            | Event::SnapshotWritten { pid, .. }
            | Event::OutputPublished { pid, .. }
            | Event::PeerGone { pid }
            | Event::ProcessEnds { pid } => self.processes.get(pid)?.stopped_until,
            Event::JobManagerStarts
            | Event::Breaks { .. }
            | Event::HostStarts { .. }
            | Event::UserActs { .. }
            | Event::UserLooks { .. }
            | Event::Fault => 0,
        };
        (until > self.now).then_some(until)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::JobManagerStarts => self.jobmanager_starts(),
            Event::BrainTick { life, version } => self.brain_tick(life, version),
            Event::LedgerDurable { life } => self.ledger_durable(life),
            Event::LedgerReports { life } => self.ledger_reports(life),
            Event::StoreActs { life, job } => self.store_acts(life, job),
            Event::Copies { life, copy } => self.copies(life, copy),
            Event::ServerNotices { life, connection } => self.server_notices(life, connection),
            Event::ToHost { connection } => self.arrives_at_host(connection),
            Event::ToServer { connection } => self.arrives_at_server(connection),
            Event::Breaks { connection } => self.break_connection(connection),
            Event::HostStarts { host } => self.host_starts(host),
            Event::HostConnects { host, life } => self.host_connects(host, life),
            Event::HostNotices { host, life, connection } => self.host_notices(host, life, connection),
            Event::HostTick { host, life } => self.host_tick(host, life),
            Event::Fetched { host, life, process } => self.fetched(host, life, process),
            Event::Described { host, life, request, job } => self.described(host, life, request, job),
            Event::ExitSeen { host, life, pid } => self.exit_seen(host, life, pid),
            Event::ToProcess { pid } => self.arrives_at_process(pid),
            Event::FromProcess { pid } => self.arrives_from_process(pid),
            Event::ProcessTick { pid } => self.process_tick(pid),
            Event::ProcessGoesOn { pid } => self.process_goes_on(pid),
            Event::WorkerReady { pid, slot } => self.worker_ready(pid, slot),
            Event::SnapshotWritten { pid, slot } => self.snapshot_written(pid, slot),
            Event::OutputPublished { pid, slot, epoch } => self.output_published(pid, slot, epoch),
            Event::PeerGone { pid } => self.peer_gone(pid),
            Event::ProcessEnds { pid } => self.process_dies(pid, "has ended"),
            Event::UserActs { job } => self.user_acts(job),
            Event::UserLooks { job } => self.user_looks(job),
            Event::Fault => self.fault(),
        }
    }
}
