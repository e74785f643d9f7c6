//! A host: the taskmanager's supervisor, and what its runner and its link do around it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use tidegate_protocol::taskmanager::{FromTaskManager, HowEnded, ProcessId};
use tidegate_protocol::{Error, TaskManagerId};
use tidegate_taskmanager::supervisor::{Effect, Event as Given, Identity, Supervisor};

use crate::jobmanager::LEASE_MS;
use crate::process::Process;
use crate::queue::Event;
use crate::show;
use crate::users;
use crate::world::World;

/// A host.
pub(crate) struct Host {
    pub(crate) id: TaskManagerId,
    slots: u32,
    /// The number of taskmanagers that have run on it.
    pub(crate) life: u64,
    /// None while no taskmanager runs.
    pub(crate) supervisor: Option<Supervisor>,
    started: u64,
    /// The taskmanager does nothing before this time.
    pub(crate) stopped_until: u64,
    /// The processes that the taskmanager has started.
    pub(crate) children: BTreeMap<ProcessId, u32>,
    pub(crate) connection: Option<u64>,
}

impl Host {
    pub(crate) fn new(number: usize, slots: u32) -> Self {
        Self {
            id: TaskManagerId(format!("tm-{number}")),
            slots,
            life: 0,
            supervisor: None,
            started: 0,
            stopped_until: 0,
            children: BTreeMap::new(),
            connection: None,
        }
    }
}

impl World {
    pub(crate) fn host_starts(&mut self, number: usize) {
        let now = self.now;
        let host = &mut self.hosts[number];
        if host.supervisor.is_some() {
            return;
        }
        host.life += 1;
        host.started = now;
        host.stopped_until = 0;
        let (life, id) = (host.life, host.id.clone());
        host.supervisor = Some(Supervisor::new(Identity {
            id: id.clone(),
            pid: life as u32,
            slots: host.slots,
            address: id.0.clone(),
            listen: "127.0.0.1".to_owned(),
            tls: None,
            jobs: PathBuf::from("/jobs"),
            copies: PathBuf::from("/copies"),
            lease: Duration::from_millis(LEASE_MS),
            away: Duration::from_millis(self.config.away_ms),
        }));
        self.note(format_args!("{id} starts, for the {life}. time"));
        self.after(0, Event::HostTick { host: number, life });
        self.after(0, Event::HostConnects { host: number, life });
    }

    /// The taskmanager is killed, and the kernel kills its processes.
    pub(crate) fn host_dies(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.supervisor.take().is_none() {
            return;
        }
        host.stopped_until = 0;
        let (children, connection) = (std::mem::take(&mut host.children), host.connection.take());
        let id = host.id.clone();
        self.note(format_args!("the taskmanager {id} dies"));
        for pid in children.into_values() {
            self.process_dies(pid, "was killed with its taskmanager");
            self.processes.remove(&pid);
        }
        connection.into_iter().for_each(|connection| self.break_connection(connection));
        let down = self.random.delay(300, 10_000, 400);
        self.after(down, Event::HostStarts { host: number });
    }

    fn is_host_life(&self, number: usize, life: u64) -> bool {
        self.hosts[number].supervisor.is_some() && self.hosts[number].life == life
    }

    pub(crate) fn host_tick(&mut self, host: usize, life: u64) {
        if self.is_host_life(host, life) {
            self.host_event(host, Given::Tick);
            self.after(100, Event::HostTick { host, life });
        }
    }

    pub(crate) fn host_connects(&mut self, host: usize, life: u64) {
        if !self.is_host_life(host, life) || self.hosts[host].connection.is_some() {
            return;
        }
        let server =
            self.jobmanager.as_ref().map(|j| j.life).filter(|_| self.jobmanager_stopped_until <= self.now);
        let Some(server) = server else { return self.after(200, Event::HostConnects { host, life }) };
        let connection = self.network.connect(host, life, server);
        self.hosts[host].connection = Some(connection);
        self.note(format_args!("{} has connection {connection}", self.hosts[host].id.clone()));
        self.host_event(host, Given::Connected);
    }

    pub(crate) fn host_notices(&mut self, host: usize, life: u64, connection: u64) {
        self.break_connection(connection);
        if self.is_host_life(host, life) && self.hosts[host].connection == Some(connection) {
            self.hosts[host].connection = None;
            self.host_event(host, Given::Disconnected);
            let wait = self.random.below(200);
            self.after(wait, Event::HostConnects { host, life });
        }
    }

    pub(crate) fn arrives_at_host(&mut self, number: u64) {
        let Some(connection) = self.network.get(number) else { return };
        if connection.stalled_until > self.now {
            let until = connection.stalled_until;
            return self.queue.add(until, Event::ToHost { connection: number });
        }
        let (host, life) = (connection.host, connection.host_life);
        let Some(message) = connection.to_host.pop_front() else { return };
        if self.is_host_life(host, life) && self.hosts[host].connection == Some(number) {
            self.host_event(host, Given::Message(message));
        }
    }

    pub(crate) fn fetched(&mut self, host: usize, life: u64, process: ProcessId) {
        if self.is_host_life(host, life) {
            let fails = !self.is_healed && self.random.chance(10);
            let result = if fails { Err("the executable cannot be read".to_owned()) } else { Ok(()) };
            self.host_event(host, Given::Fetched { process, result });
        }
    }

    pub(crate) fn described(&mut self, host: usize, life: u64, request: u64, job: usize) {
        if self.is_host_life(host, life) {
            let fails = !self.is_healed && self.random.chance(20);
            let plan = users::plan(&self.config.jobs[job], self.now);
            let failed = || Err(Error::environment("the program cannot be run"));
            let result = if fails { failed() } else { Ok(Box::new(plan)) };
            self.host_event(host, Given::Described { request, result });
        }
    }

    pub(crate) fn exit_seen(&mut self, host: usize, life: u64, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else { return };
        if self.is_host_life(host, life) {
            self.hosts[host].children.remove(&process.id);
            self.host_event(
                host,
                Given::Exited { process: process.id, how: HowEnded::from_outside(process.how) },
            );
        }
    }

    /// Gives the supervisor an event, and carries out what it decides, and what follows from that at once.
    pub(crate) fn host_event(&mut self, number: usize, event: Given) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let host = &mut self.hosts[number];
            let Some(supervisor) = &mut host.supervisor else { return };
            let shown = show::given(&event);
            let effects = supervisor.handle(Duration::from_millis(self.now - host.started), event);
            if !shown.is_empty() {
                let id = host.id.clone();
                self.note(format_args!("{id} <- {shown}"));
            }
            for effect in effects {
                let shown = show::effect(&effect);
                if !shown.is_empty() {
                    let id = self.hosts[number].id.clone();
                    self.note(format_args!("{id} -> {shown}"));
                }
                events.extend(self.carry_out_effect(number, effect));
            }
        }
    }

    fn carry_out_effect(&mut self, number: usize, effect: Effect) -> Option<Given> {
        let life = self.hosts[number].life;
        match effect {
            Effect::Send(message) => self.send_to_server(number, message),
            Effect::Disconnect => {
                let connection = self.hosts[number].connection;
                connection.into_iter().for_each(|connection| self.break_connection(connection));
            }
            Effect::Lease(_) | Effect::ReadLogs { .. } | Effect::PassOn(_) | Effect::Metrics { .. } => {}
            Effect::Fetch { process, .. } => {
                let takes = self.random.delay(30, 3_000, 50);
                self.after(takes, Event::Fetched { host: number, life, process });
            }
            Effect::Spawn { process, .. } => {
                let result = self.spawn(number, process);
                return Some(Given::Spawned { process, result });
            }
            Effect::Tell(process, message) => {
                let pid = self.hosts[number].children.get(&process).copied();
                pid.into_iter().for_each(|pid| self.tell_process(pid, message.clone()));
            }
            Effect::Kill(process) => {
                let pid = self.hosts[number].children.get(&process).copied();
                pid.into_iter().for_each(|pid| self.process_dies(pid, "was killed"));
            }
            Effect::Describe { request, program } => {
                let takes = self.random.delay(50, 5_000, 50);
                let job = program.path.parse().unwrap_or(0);
                self.after(takes, Event::Described { host: number, life, request, job });
            }
        }
        None
    }

    fn send_to_server(&mut self, host: usize, message: FromTaskManager) {
        let delay = self.network_delay();
        let Some(number) = self.hosts[host].connection else { return };
        let Some(connection) = self.network.get(number).filter(|connection| !connection.is_broken) else {
            return;
        };
        if matches!(message, FromTaskManager::Pong) {
            return;
        }
        let at = (self.now + delay).max(connection.last.1).max(connection.stalled_until);
        connection.last.1 = at;
        connection.to_server.push_back(message);
        self.queue.add(at, Event::ToServer { connection: number });
    }

    fn spawn(&mut self, host: usize, id: ProcessId) -> Result<u32, String> {
        if !self.is_healed && self.random.chance(10) {
            return Err("the executable cannot be executed".to_owned());
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        let life = self.hosts[host].life;
        self.hosts[host].children.insert(id, pid);
        self.processes.insert(pid, Process::new(id, pid, (host, life), self.now));
        let first = self.random.between(1, 100);
        self.after(first, Event::ProcessTick { pid });
        Ok(pid)
    }
}
