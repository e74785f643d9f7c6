//! A job process, by the contract of the runtime's module `cluster`: from its first message to its end.
//!
//! - `start`: until it runs: it checks the snapshot, the first process publishes what that holds, all connect.
//! - `running`: its workers read, end epochs, write snapshots and publish.
//! - `worker`: the state of a worker; `instructions`: what the process was told; `fabric`: what processes of an attempt know of
//!   each other.
//!
//! A process that is stopped goes on later, whatever has become of its attempt meanwhile.

pub(crate) mod fabric;
mod instructions;
mod running;
mod start;
mod worker;

use std::collections::{BTreeMap, VecDeque};

use tidegate_protocol::link::{Command, Report, ToDriver};
use tidegate_protocol::process::{FromJobProcess, Preparation, ToJobProcess};
use tidegate_protocol::taskmanager::ProcessId;
use tidegate_protocol::{Error, ErrorKind, Manifest, Slot};
use tidegate_taskmanager::supervisor::Event as Given;

use crate::happening::Happening;
use crate::outside::PieceId;
use crate::queue::Event;
use crate::show;
use crate::world::World;
use instructions::Instructions;
use worker::Worker;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its first message.
    New,
    /// It checks the snapshot.
    Restoring,
    /// The first process claims the target.
    Claiming,
    /// It publishes what the snapshot holds.
    Publishing,
    /// It has listed what is in the target, and removes what is staged.
    CleaningUp,
    /// It has listed what is left, and takes back what the snapshot has not got.
    TakingBack,
    /// It waits for the others.
    Listening,
    /// It connects to the others, until that time.
    Connecting(u64),
    Running,
    /// It waits for its end.
    Ending,
}

/// A job process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) pid: u32,
    pub(crate) host: usize,
    host_life: u64,
    /// It does nothing before this time.
    pub(crate) stopped_until: u64,
    inbox: VecDeque<(u64, ToJobProcess)>,
    outbox: VecDeque<FromJobProcess>,
    /// When the last message in either direction arrives.
    last: (u64, u64),
    /// When the taskmanager was last heard.
    heard: u64,
    pub(crate) is_alive: bool,
    /// How it has ended.
    pub(crate) how: &'static str,
    pub(crate) phase: Phase,
    preparation: Option<Box<Preparation>>,
    restored: Option<std::sync::Arc<Manifest>>,
    /// What was in the target when it was listed.
    listed: Vec<PieceId>,
    /// Nothing is reported any more but failures.
    is_aborted: bool,
    instructions: Instructions,
    workers: BTreeMap<Slot, Worker>,
    next_discovery: u64,
    /// What it has reported, to be sent again.
    reported: Vec<Report>,
}

impl Process {
    pub(crate) fn new(id: ProcessId, pid: u32, (host, host_life): (usize, u64), now: u64) -> Self {
        Self {
            id,
            pid,
            host,
            host_life,
            stopped_until: 0,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            last: (0, 0),
            heard: now,
            is_alive: true,
            how: "",
            phase: Phase::New,
            preparation: None,
            restored: None,
            listed: Vec::new(),
            is_aborted: false,
            instructions: Instructions::default(),
            workers: BTreeMap::new(),
            next_discovery: 0,
            reported: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> String {
        show::process(&self.id)
    }

    fn is_first(&self) -> bool {
        self.id.first == Slot(0)
    }
}

impl World {
    /// A process that lives.
    fn process(&mut self, pid: u32) -> Option<&mut Process> {
        self.processes.get_mut(&pid).filter(|process| process.is_alive)
    }

    pub(crate) fn tell_process(&mut self, pid: u32, message: ToJobProcess) {
        let at = self.now + self.random.below(3);
        let Some(process) = self.process(pid) else { return };
        let at = at.max(process.last.0);
        process.last.0 = at;
        process.inbox.push_back((at, message));
        self.queue.add(at, Event::ToProcess { pid });
    }

    pub(crate) fn arrives_at_process(&mut self, pid: u32) {
        let now = self.now;
        while let Some(process) = self.process(pid) {
            if process.inbox.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, message)) = process.inbox.pop_front() else { return };
            process.heard = now;
            self.process_takes(pid, message);
        }
    }

    fn process_takes(&mut self, pid: u32, message: ToJobProcess) {
        let Some(process) = self.process(pid) else { return };
        match message {
            ToJobProcess::Ping => self.process_sends(pid, FromJobProcess::Pong),
            ToJobProcess::Prepare(preparation) => self.prepares(pid, preparation),
            ToJobProcess::Begin(begin) if process.phase == Phase::Listening => self.connects(pid, &begin),
            ToJobProcess::Command(to) if to.attempt == process.id.attempt => self.obeys(pid, &to.command),
            _ => {}
        }
    }

    fn obeys(&mut self, pid: u32, command: &Command) {
        let Some(process) = self.process(pid) else { return };
        match (process.phase, command) {
            (Phase::Running, Command::Abort) => {
                process.is_aborted = true;
                process.phase = Phase::Ending;
                let takes = self.random.delay(50, 3_000, 100);
                self.after(takes, Event::ProcessEnds { pid });
            }
            (_, Command::Abort) => self.process_dies(pid, "has ended"),
            (Phase::Running, _) => {
                let is_news = process.instructions.take(command);
                if let (true, Command::Publish(epoch)) = (is_news, command) {
                    self.publishes(pid, *epoch);
                }
                self.polls(pid);
            }
            // It does not run yet: nothing else is expected.
            _ => {}
        }
    }

    pub(crate) fn process_sends(&mut self, pid: u32, message: FromJobProcess) {
        let at = self.now + self.random.below(3);
        let Some(process) = self.process(pid) else { return };
        let at = at.max(process.last.1);
        process.last.1 = at;
        process.outbox.push_back(message);
        self.queue.add(at, Event::FromProcess { pid });
    }

    pub(crate) fn arrives_from_process(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let (host, life, id) = (process.host, process.host_life, process.id);
        let Some(message) = process.outbox.pop_front() else { return };
        if self.hosts[host].life == life {
            self.host_event(host, Given::FromProcess(id, message));
        }
    }

    /// Reports something to the driver; after an abort only failures.
    fn reports(&mut self, pid: u32, report: Report) {
        let repeats = !self.is_healed && self.random.chance(self.config.repeats);
        let Some(process) = self.process(pid) else { return };
        if process.is_aborted && report.is_progress() {
            return;
        }
        let attempt = process.id.attempt;
        process.reported.push(report.clone());
        let reported = process.reported.clone();
        self.process_sends(pid, FromJobProcess::Report(ToDriver { attempt, report }));
        if let Some(report) = self.random.pick(&reported).filter(|_| repeats) {
            self.process_sends(pid, FromJobProcess::Report(ToDriver { attempt, report }));
        }
    }

    /// The process cannot go on. One that runs waits to be ended, one that does not ends itself.
    fn process_fails(&mut self, pid: u32, error: Error) {
        if error.kind() == ErrorKind::Internal {
            self.happened.push(Happening::Internal(error.to_string()));
        }
        let Some(process) = self.process(pid).filter(|process| !process.is_aborted) else { return };
        let (runs, name) = (process.phase == Phase::Running, process.name());
        self.note(format_args!("process {name} fails: {error}"));
        self.reports(pid, Report::Failed(error));
        if let Some(process) = self.process(pid) {
            process.is_aborted = true;
        }
        if !runs {
            self.after(5, Event::ProcessEnds { pid });
        }
    }

    /// A process ends, for this reason. Those that are connected to it notice.
    pub(crate) fn process_dies(&mut self, pid: u32, how: &'static str) {
        let noticed = self.random.delay(50, 3_000, 30);
        let Some(process) = self.process(pid) else { return };
        process.is_alive = false;
        process.how = how;
        let (host, life, id, last) = (process.host, process.host_life, process.id, process.last.1);
        self.note(format_args!("process {} (pid {pid}) {how}", show::process(&id)));
        let at = (self.now + noticed).max(last);
        self.queue.add(at, Event::ExitSeen { host, life, pid });
        let fabric = self.fabrics.get(&(id.job, id.attempt));
        let members: Vec<u32> = fabric.into_iter().flat_map(|f| f.members.iter().copied()).collect();
        if members.contains(&pid) {
            for other in members.into_iter().filter(|other| *other != pid) {
                let takes = self.random.between(1, 200);
                self.after(takes, Event::PeerGone { pid: other });
            }
        }
    }

    pub(crate) fn peer_gone(&mut self, pid: u32) {
        let Some(process) = self.process(pid) else { return };
        if !process.is_aborted {
            self.process_fails(
                pid,
                Error::environment("the connection to another process of the job is broken"),
            );
        }
    }

    pub(crate) fn process_tick(&mut self, pid: u32) {
        self.arrives_at_process(pid);
        let now = self.now;
        let Some(process) = self.process(pid) else { return };
        let silence = process.preparation.as_ref().map_or(u64::MAX, |preparation| preparation.silence_ms);
        if now - process.heard >= silence {
            return self.process_dies(pid, "has lost its taskmanager");
        }
        self.discovers(pid);
        self.polls(pid);
        let next = self.random.between(50, 150);
        self.after(next, Event::ProcessTick { pid });
    }
}
