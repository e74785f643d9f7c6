//! The decisions of a taskmanager, without I/O: [`Supervisor::handle`] is given an event and the time, and returns effects.
//!
//! A process goes through these phases: its executable is *fetched*; it *waits* until all processes of older attempts of the
//! job have ended; it *runs*, and is told [`ToJobProcess::Prepare`]; it is *ended*, which is reported until the jobmanager
//! has surely received it. A process that is to end before it runs is forgotten at once.
//!
//! - `process`: what is known of one process.
//! - `scrapes`: requests for the metrics of all processes.
//! - `uplink`: what is sent to the jobmanager now, and what is sent again after a registration.
//!
//! Not here: threads, sockets, files and clocks (`runner.rs` and what it calls). The time is that since the start of the
//! taskmanager.

mod process;
mod scrapes;
#[cfg(test)]
mod tests;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tidegate_protocol::link::Command;
use tidegate_protocol::process::{FromJobProcess, Preparation, TlsFiles, ToJobProcess};
use tidegate_protocol::taskmanager::{
    FromTaskManager, HowEnded, ProcessId, Program, Registration, ToTaskManager,
};
use tidegate_protocol::why::{PassedOn, ProcessAnswer};
use tidegate_protocol::{Attempt, Error, JobId, Plan, TaskManagerId};

use process::{Phase, Process};
use scrapes::Scrapes;
pub use scrapes::{Gathered, Own};
use uplink::{Ended, Uplink};

/// How long a process may take to end after it was told to.
const ABORT: Duration = Duration::from_secs(5);
/// How long the taskmanager waits at its end for processes that were killed: one may wait for a broken disk for ever.
const LEAVE: Duration = Duration::from_secs(5);
/// Requests whose answers are made on threads of their own, at the same time.
const REQUESTS_MAX: usize = 16;
/// The shortest and the longest lease that a jobmanager can ask for.
const LEASE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A jobmanager is connected, and has proved that it has the secret.
    Connected,
    /// The connection is broken.
    Disconnected,
    /// A message of the jobmanager.
    Message(ToTaskManager),
    /// An executable is here, or cannot be fetched.
    Fetched {
        /// The process.
        process: ProcessId,
        /// Why it cannot be fetched, if it cannot.
        result: Result<(), String>,
    },
    /// A process was started, with this number, or cannot be.
    Spawned {
        /// The process.
        process: ProcessId,
        /// Its number in the operating system, or why it cannot be started.
        result: Result<u32, String>,
    },
    /// A message of a process.
    FromProcess(ProcessId, FromJobProcess),
    /// A process has answered the question of a user.
    Answered(ProcessId, ProcessAnswer),
    /// The metrics of all processes are wanted.
    MetricsWanted {
        /// The number of the request.
        request: u64,
    },
    /// A process has broken the rules of its socket, in this way.
    Misbehaved(ProcessId, String),
    /// A process has ended; the last event of a process.
    Exited {
        /// The process.
        process: ProcessId,
        /// How.
        how: HowEnded,
    },
    /// A job was described, or cannot be.
    Described {
        /// The number of the request.
        request: u64,
        /// The plan, or why there is none.
        result: Result<Box<Plan>, Error>,
    },
    /// Logs were read.
    LogsRead {
        /// The number of the request.
        request: u64,
        /// The lines.
        text: String,
        /// The position behind them.
        position: u64,
    },
    /// Time has passed.
    Tick,
    /// The taskmanager is to end.
    Stop,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Send a message to the jobmanager.
    Send(FromTaskManager),
    /// Pass an answer on to the jobmanager.
    PassOn(PassedOn),
    /// Answer a request for metrics.
    Metrics {
        /// The number of the request.
        request: u64,
        /// What is known of them.
        gathered: Gathered,
    },
    /// Close the connection to the jobmanager.
    Disconnect,
    /// A jobmanager counts as lost after this time without a message.
    Lease(Duration),
    /// Fetch an executable for a process.
    Fetch {
        /// The process.
        process: ProcessId,
        /// The executable.
        program: Program,
    },
    /// Start a process in this directory.
    Spawn {
        /// The process.
        process: ProcessId,
        /// The executable.
        program: Program,
        /// The directory.
        working: PathBuf,
    },
    /// Send a message to a process.
    Tell(ProcessId, ToJobProcess),
    /// Kill a process.
    Kill(ProcessId),
    /// Have a job described.
    Describe {
        /// The number of the request.
        request: u64,
        /// The executable.
        program: Program,
    },
    /// Read logs.
    ReadLogs {
        /// The number of the request.
        request: u64,
        /// The job.
        job: JobId,
        /// The attempt; None for the last one.
        attempt: Option<Attempt>,
        /// The position to go on from; None for the last lines.
        from: Option<u64>,
        /// The greatest number of bytes.
        bytes: u64,
    },
}

/// What does not change.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who it is.
    pub id: TaskManagerId,
    /// Its number in the operating system.
    pub pid: u32,
    /// The number of workers that there is room for.
    pub slots: u32,
    /// Where other hosts reach the processes.
    pub address: String,
    /// Where the processes listen.
    pub listen: String,
    /// The files of this host with which the processes connect to others; None for connections without TLS.
    pub tls: Option<TlsFiles>,
    /// The directory with the working directories.
    pub jobs: PathBuf,
    /// The directory with the copies of stored files, job by job.
    pub copies: PathBuf,
    /// After so long without a message a job process ends itself; one that has not answered for twice that time is killed.
    pub lease: Duration,
    /// After so long without a jobmanager all job processes are killed.
    pub away: Duration,
}

/// The processes of a host, and the connection to the jobmanager.
#[derive(Debug)]
pub struct Supervisor {
    identity: Identity,
    processes: BTreeMap<ProcessId, Process>,
    uplink: Uplink,
    /// Since when there has been no jobmanager.
    alone_since: Option<Duration>,
    last_tick: Duration,
    /// Requests that are being answered.
    requests: usize,
    /// Since when the taskmanager is to end.
    stops_since: Option<Duration>,
    /// Messages for processes that do not run.
    ignored: u64,
    /// Processes that were killed because they did not answer or did not end.
    killed: u64,
    scrapes: Scrapes,
    effects: Vec<Effect>,
}

impl Supervisor {
    /// One without processes or a jobmanager.
    pub fn new(identity: Identity) -> Self {
        Self {
            uplink: Uplink::new(identity.lease),
            identity,
            processes: BTreeMap::new(),
            alone_since: Some(Duration::ZERO),
            last_tick: Duration::ZERO,
            requests: 0,
            stops_since: None,
            ignored: 0,
            killed: 0,
            scrapes: Scrapes::default(),
            effects: Vec::new(),
        }
    }

    /// True if the taskmanager is to end and no process is left, or none that can be killed.
    pub fn is_finished(&self, now: Duration) -> bool {
        self.stops_since.is_some_and(|since| self.processes.is_empty() || now >= since + LEAVE)
    }

    /// Messages for processes that did not run.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The jobs that have processes.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.processes.keys().map(|process| process.job)
    }

    /// Decides what follows from an event.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Connected => {
                let registration = self.registration();
                self.uplink.connected(now, registration, &mut self.effects);
            }
            Event::Disconnected => {
                self.uplink.disconnected();
                self.alone_since.get_or_insert(now);
            }
            Event::Message(message) => self.receive(now, message),
            Event::Fetched { process, result } => self.fetched(now, process, result),
            Event::Spawned { process, result } => self.spawned(now, process, result),
            Event::FromProcess(id, message) => self.relay(now, id, message),
            Event::Answered(process, answer) => self.pass_on(now, process, answer),
            Event::MetricsWanted { request } => self.ask_for_metrics(now, request),
            Event::Misbehaved(id, how) => drop(self.kill(id, Some(format!("{how}, and was killed")))),
            Event::Exited { process, how } => {
                self.ended(now, process, how);
                self.spawn_next(process.job);
            }
            Event::Described { request, result } => {
                self.requests = self.requests.saturating_sub(1);
                self.send(FromTaskManager::Described { request, result });
            }
            Event::LogsRead { request, text, position } => {
                self.requests = self.requests.saturating_sub(1);
                self.send(FromTaskManager::Logs { request, text, position });
            }
            Event::Tick => self.tick(now),
            Event::Stop => {
                self.stops_since.get_or_insert(now);
                self.end(now, |_| true, None);
            }
        }
        self.answer_scrapes(now);
        std::mem::take(&mut self.effects)
    }

    fn ask_for_metrics(&mut self, now: Duration, request: u64) {
        let running = self.processes.iter().filter(|(_, process)| process.pid().is_some());
        let asked: BTreeSet<ProcessId> = running.map(|(id, _)| *id).collect();
        self.effects.extend(asked.iter().map(|id| Effect::Tell(*id, ToJobProcess::Metrics)));
        self.scrapes.begin(now, request, asked);
    }

    fn answer_scrapes(&mut self, now: Duration) {
        for (request, gathered) in self.scrapes.take_done(now) {
            let own = Own {
                slots: self.identity.slots,
                processes: self.processes.values().filter(|process| process.pid().is_some()).count(),
                killed: self.killed,
                ignored: self.ignored,
                is_connected: self.uplink.is_up(),
            };
            self.effects.push(Effect::Metrics { request, gathered: Gathered { own, ..gathered } });
        }
    }

    /// Passes an answer on. Without a jobmanager nobody waits for it any more.
    fn pass_on(&mut self, now: Duration, id: ProcessId, answer: ProcessAnswer) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.heard = now;
        if self.uplink.is_up() {
            self.effects.push(Effect::PassOn(PassedOn { process: id, answer }));
        }
    }

    fn registration(&self) -> Registration {
        let Identity { id, pid, slots, address, .. } = self.identity.clone();
        let processes = self.processes.iter().map(|(id, process)| process.describe(*id)).collect();
        Registration { id, pid, slots, address, processes }
    }

    fn send(&mut self, message: FromTaskManager) {
        self.uplink.send(message, &mut self.effects);
    }

    fn receive(&mut self, now: Duration, message: ToTaskManager) {
        match message {
            ToTaskManager::Registered { lease_ms } => {
                self.alone_since = None;
                let lease = Duration::from_millis(lease_ms).clamp(LEASE.0, LEASE.1);
                self.effects.push(Effect::Lease(lease));
                let facts = self.processes.iter().flat_map(|(id, process)| process.facts(*id));
                self.uplink.registered(now, lease, facts, &mut self.effects);
            }
            ToTaskManager::Describe { request, program } => {
                let busy =
                    || Err(Error::environment("the taskmanager answers too many requests at the moment"));
                if self.may_answer() {
                    self.effects.push(Effect::Describe { request, program });
                } else {
                    self.send(FromTaskManager::Described { request, result: busy() });
                }
            }
            ToTaskManager::Launch { program, preparation } => self.launch(now, program, preparation),
            ToTaskManager::ToProcess { process, message } => self.tell(now, process, *message),
            ToTaskManager::Kill { job, attempt } => {
                self.end(now, |process| process.job == job && process.attempt <= attempt, None);
            }
            ToTaskManager::Logs { request, job, attempt, from, bytes } => {
                if self.may_answer() {
                    self.effects.push(Effect::ReadLogs { request, job, attempt, from, bytes });
                } else {
                    let position = from.unwrap_or(0);
                    self.send(FromTaskManager::Logs { request, text: String::new(), position });
                }
            }
            ToTaskManager::Ping => self.uplink.pong(now, &mut self.effects),
        }
    }

    fn may_answer(&mut self) -> bool {
        let may = self.requests < REQUESTS_MAX;
        self.requests += usize::from(may);
        may
    }

    fn launch(&mut self, now: Duration, program: Program, preparation: Box<Preparation>) {
        let Preparation { job, attempt, first, .. } = *preparation;
        let id = ProcessId { job, attempt, first };
        if let Some(process) = self.processes.get(&id) {
            // Told twice. What there is to say of it was said, but may have been lost.
            let facts: Vec<_> = process.facts(id).collect();
            facts.into_iter().for_each(|fact| self.send(fact));
            return;
        }
        let newest = self.processes.keys().filter(|other| other.job == job).map(|other| other.attempt).max();
        let refusal = match newest {
            _ if self.stops_since.is_some() => {
                Some("was not started, because its taskmanager ends".to_owned())
            }
            Some(newest) if newest > attempt => {
                Some(format!("was not started, because attempt {newest} of the job was started"))
            }
            _ => None,
        };
        if let Some(how) = refusal {
            return self.uplink.ended(
                now,
                Ended::new(id, Vec::new(), HowEnded::from_outside(how)),
                &mut self.effects,
            );
        }
        self.end(now, |other| other.job == job && other.attempt < attempt, None);
        self.effects.push(Effect::Fetch { process: id, program: program.clone() });
        self.processes.insert(id, Process::new(program, preparation));
    }

    fn fetched(&mut self, now: Duration, id: ProcessId, result: Result<(), String>) {
        // It may have been ended meanwhile.
        let Some(process) = self.processes.get_mut(&id).filter(|p| p.phase == Phase::Fetching) else {
            return;
        };
        match result {
            Ok(()) => {
                process.phase = Phase::Waiting;
                self.spawn_next(id.job);
            }
            Err(why) => self.ended(now, id, HowEnded::from_outside(format!("was not started: {why}"))),
        }
    }

    /// Starts the processes of a job that wait and have no process of an older attempt beside them.
    fn spawn_next(&mut self, job: JobId) {
        let of_job = |id: &ProcessId| id.job == job;
        let Some(oldest) = self.processes.keys().filter(|id| of_job(id)).map(|id| id.attempt).min() else {
            return;
        };
        let mut spawned = Vec::new();
        for (id, process) in self.processes.iter_mut().filter(|(id, _)| of_job(id) && id.attempt == oldest) {
            if process.phase == Phase::Waiting {
                process.phase = Phase::Spawning;
                spawned.push((*id, process.program.clone()));
            }
        }
        for (process, program) in spawned {
            self.effects.push(Effect::Spawn { process, program, working: self.working(process) });
        }
    }

    /// The working directory of a process.
    fn working(&self, id: ProcessId) -> PathBuf {
        self.identity.jobs.join(id.job.to_string()).join(format!("{}-{}", id.attempt, id.first))
    }

    fn spawned(&mut self, now: Duration, id: ProcessId, result: Result<u32, String>) {
        let working = self.working(id);
        let Some(process) = self.processes.get_mut(&id).filter(|p| p.phase == Phase::Spawning) else {
            return;
        };
        match result {
            Ok(pid) => {
                let preparation = process.runs(now, pid).map(|preparation| Preparation {
                    working,
                    copies: self.identity.copies.join(id.job.to_string()),
                    listen: self.identity.listen.clone(),
                    tls: self.identity.tls.clone(),
                    silence_ms: u64::try_from(self.identity.lease.as_millis()).unwrap_or(u64::MAX),
                    ..*preparation
                });
                if let Some(preparation) = preparation {
                    self.effects.push(Effect::Tell(id, ToJobProcess::Prepare(Box::new(preparation))));
                }
                self.send(FromTaskManager::Started { process: id, pid });
            }
            Err(why) => {
                self.ended(now, id, HowEnded::from_outside(format!("was not started: {why}")));
                self.spawn_next(id.job);
            }
        }
    }

    fn tell(&mut self, now: Duration, id: ProcessId, message: ToJobProcess) {
        let Some(process) = self.processes.get_mut(&id) else {
            self.ignored += 1;
            return;
        };
        let command = match &message {
            ToJobProcess::Command(to) if to.attempt == id.attempt => Some(&to.command),
            _ => None,
        };
        if process.pid().is_none() {
            match command {
                Some(Command::Abort) => self.end(now, |other| *other == id, None),
                // Nothing else is for a process that has not told that it listens.
                _ => self.ignored += 1,
            }
            return;
        }
        match command {
            Some(Command::Abort) => drop(process.killed_at.get_or_insert(now + ABORT)),
            Some(Command::Trigger { epoch, .. }) => process.triggered = process.triggered.max(*epoch),
            _ => {}
        }
        self.effects.push(Effect::Tell(id, message));
    }

    fn relay(&mut self, now: Duration, id: ProcessId, message: FromJobProcess) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.hear(now, id.attempt, &message);
        match message {
            FromJobProcess::Pong => {}
            FromJobProcess::Metrics(text) => self.scrapes.answered(id, &text),
            message => self.send(FromTaskManager::FromProcess { process: id, message: Box::new(message) }),
        }
    }

    /// Ends processes: those that run are killed, the others forgotten.
    fn end(&mut self, now: Duration, which: impl Fn(&ProcessId) -> bool, why: Option<&str>) {
        let ids: Vec<ProcessId> = self.processes.keys().filter(|id| which(id)).copied().collect();
        for id in ids {
            let runs = self.processes.get(&id).is_some_and(|process| process.pid().is_some());
            if runs {
                self.kill(id, why.map(str::to_owned));
            } else {
                let why = why.unwrap_or("was ended before it was started");
                self.ended(now, id, HowEnded::from_outside(why));
            }
        }
    }

    /// Kills a process that runs, once; false if it was killed before. The reason takes the place of what the operating system
    /// says about its end.
    fn kill(&mut self, id: ProcessId, why: Option<String>) -> bool {
        let process = self.processes.get_mut(&id).filter(|process| process.pid().is_some());
        let Some(process) = process.filter(|process| !process.is_killed) else { return false };
        process.is_killed = true;
        process.why_killed = why;
        self.effects.push(Effect::Kill(id));
        true
    }

    fn ended(&mut self, now: Duration, id: ProcessId, how: HowEnded) {
        let Some(process) = self.processes.remove(&id) else { return };
        self.scrapes.ended(id);
        let how = process.why_killed.clone().map_or(how, HowEnded::from_outside);
        let ended = Ended::new(id, process.last_facts(id), how);
        self.uplink.ended(now, ended, &mut self.effects);
    }

    fn tick(&mut self, now: Duration) {
        let lease = self.identity.lease;
        // The taskmanager itself was paused: what the processes have answered meanwhile is still on its way.
        let was_paused = now.saturating_sub(self.last_tick) > lease;
        self.last_tick = now;
        let mut overdue = Vec::new();
        for (id, process) in self.processes.iter_mut().filter(|(_, process)| process.pid().is_some()) {
            if was_paused {
                process.heard = now;
            }
            if now.saturating_sub(process.heard) >= 2 * lease {
                let seconds = 2.0 * lease.as_secs_f64();
                overdue.push((*id, format!("has not answered for {seconds} s and was killed")));
            } else if process.killed_at.is_some_and(|at| now >= at) {
                let seconds = ABORT.as_secs();
                overdue
                    .push((*id, format!("had not ended {seconds} s after it was told to, and was killed")));
            }
            if now >= process.pinged + lease / 6 {
                process.pinged = now;
                self.effects.push(Effect::Tell(*id, ToJobProcess::Ping));
            }
        }
        for (id, why) in overdue {
            self.killed += u64::from(self.kill(id, Some(why)));
        }
        let away = self.identity.away;
        if self.alone_since.is_some_and(|since| now.saturating_sub(since) >= away) {
            let why = format!("was killed, because no jobmanager was reached for {} s", away.as_secs_f64());
            self.end(now, |_| true, Some(&why));
        }
        self.uplink.tick(now, &mut self.effects);
    }
}
