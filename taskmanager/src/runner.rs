//! The event loop: events come in over one channel, and what the supervisor decides is carried out.
//!
//! It runs on the thread that calls [`run`], which starts all processes and lives as long as they do. It never waits for a
//! process, a disk of another host or the network: if it did, processes would take the taskmanager for lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use tidegate_client::Client;
use tidegate_object_store::Stores;
use tidegate_protocol::taskmanager::{ProcessId, Program};
use tidegate_protocol::{Error, ErrorContext, JobId, Result};
use tidegate_transport::{Clients, Tls};

use crate::child::Child;
use crate::copies;
use crate::data_directory::DataDirectory;
use crate::describe::describe;
use crate::executables::Executables;
use crate::job_process::{JobProcess, spawn};
use crate::link::{self, Link, Outgoing};
use crate::log_file::{Limits, LogFile};
use crate::log_reader::LogReader;
use crate::metrics;
use crate::settings::Settings;
use crate::supervisor::{Effect, Event, Gathered, Identity, Supervisor};

/// Events that wait to be handled. Who has more waits: a process that floods its taskmanager, the jobmanager.
const QUEUE: usize = 1024;

/// What comes to the event loop.
pub(crate) enum Incoming {
    Event(Event),
    /// A jobmanager is connected; messages for it go here.
    Connected(Outgoing),
    /// That connection is broken.
    Disconnected,
    /// The metrics are wanted; they go here.
    Metrics(SyncSender<Gathered>),
}

/// Runs a taskmanager until it receives SIGTERM or SIGINT. Then it kills all its processes and returns.
///
/// # Errors
/// If it cannot start: the data directory cannot be written, or is used by another taskmanager; job processes would listen
/// at all addresses and it is not said at which they are reached.
pub fn run(settings: Settings) -> Result<()> {
    let address = settings.public_address()?;
    let tls = settings.tls.as_ref().map(Tls::load).transpose()?;
    let data = DataDirectory::open(&settings.data)?;
    let executables = Executables::new(data.executables.clone(), Stores::new(settings.s3.clone()));
    let cleaned = executables.remove_old();
    cleaned.context(|| format!("remove old executables in {}", data.executables.display()))?;
    let log_reader = LogReader::new(data.logs.clone());
    log_reader.remove_old(&BTreeSet::new());
    copies::remove_old(&data.copies, &BTreeSet::new());
    let identity = Identity {
        id: data.id.clone(),
        pid: std::process::id(),
        slots: settings.slots,
        address,
        listen: settings.listen.to_string(),
        tls: settings.tls,
        jobs: data.jobs.clone(),
        copies: data.copies.clone(),
        lease: settings.lease,
        away: settings.away,
    };
    let (events, incoming) = sync_channel(QUEUE);
    if let Some(address) = settings.metrics {
        let acceptor = tls.as_ref().map(|tls| tls.acceptor(Clients::Anybody)).transpose()?;
        metrics::serve(address, acceptor, events.clone())?;
    }
    let signals = stop_on_signals(events.clone())?;
    let client = Client::new(settings.jobmanagers, settings.secret)
        .with_timeout(settings.lease)
        .with_tls(tls.map(|tls| tls.connector().clone()));
    let link = Link::start(client, settings.lease, events.clone())?;
    tracing::info!(target: "tidegate", "taskmanager {} with {} slots", identity.id, identity.slots);
    let runner = Runner {
        supervisor: Supervisor::new(identity),
        started: Instant::now(),
        running: BTreeMap::new(),
        outgoing: None,
        link,
        limits: Limits { bytes: settings.log_bytes, files: settings.log_files as usize },
        helpers: Helpers {
            events,
            executables: Arc::new(executables),
            log_reader: Arc::new(log_reader),
            describing: Arc::default(),
        },
        describe_next: 0,
        scrapes: HashMap::new(),
        scrape_next: 0,
        variables: settings.s3.variables(),
        data,
    };
    runner.run(&incoming, settings.lease);
    signals.close();
    Ok(())
}

fn stop_on_signals(events: SyncSender<Incoming>) -> Result<signal_hook::iterator::Handle> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    spawn("signals", move || {
        for _ in signals.forever() {
            if events.send(Incoming::Event(Event::Stop)).is_err() {
                return;
            }
        }
    })?;
    Ok(handle)
}

struct Runner {
    supervisor: Supervisor,
    /// The time is counted from here.
    started: Instant,
    running: BTreeMap<ProcessId, JobProcess>,
    /// None while no jobmanager is connected.
    outgoing: Option<Outgoing>,
    link: Link,
    limits: Limits,
    helpers: Helpers,
    /// The number of the next directory for a description.
    describe_next: u64,
    /// Who waits for metrics, by the number of the request.
    scrapes: HashMap<u64, SyncSender<Gathered>>,
    scrape_next: u64,
    /// What the environment of job processes has beside that of this process.
    variables: Vec<(&'static str, OsString)>,
    data: DataDirectory,
}

/// What threads that work for the event loop need.
#[derive(Clone)]
struct Helpers {
    events: SyncSender<Incoming>,
    executables: Arc<Executables>,
    log_reader: Arc<LogReader>,
    /// Processes that describe their jobs.
    describing: Arc<Mutex<Vec<Weak<Child>>>>,
}

impl Runner {
    fn run(mut self, incoming: &Receiver<Incoming>, lease: Duration) {
        let every = (lease / 24).clamp(Duration::from_millis(5), Duration::from_millis(100));
        let mut next_tick = Instant::now() + every;
        while !self.supervisor.is_finished(self.started.elapsed()) {
            match incoming.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Incoming::Event(event)) => self.handle(event),
                Ok(Incoming::Connected(outgoing)) => {
                    self.outgoing = Some(outgoing);
                    self.handle(Event::Connected);
                }
                Ok(Incoming::Disconnected) => {
                    self.outgoing = None;
                    self.handle(Event::Disconnected);
                }
                Ok(Incoming::Metrics(answer)) => {
                    self.scrape_next += 1;
                    self.scrapes.insert(self.scrape_next, answer);
                    self.handle(Event::MetricsWanted { request: self.scrape_next });
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + every;
                self.handle(Event::Tick);
            }
        }
        let describing = self.helpers.describing.lock().unwrap_or_else(PoisonError::into_inner);
        describing.iter().filter_map(Weak::upgrade).for_each(|child| child.kill());
        if self.supervisor.ignored() > 0 {
            let count = self.supervisor.ignored();
            tracing::info!(target: "tidegate", "{count} messages were for processes that did not run");
        }
        drop(self.outgoing);
        self.link.leave();
    }

    /// Handles an event, and those that follow from it at once.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.note(&event);
            let effects = self.supervisor.handle(self.started.elapsed(), event);
            events.extend(effects.into_iter().filter_map(|effect| self.act(effect)));
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Spawned { process, result: Ok(pid) } => {
                tracing::info!(target: "tidegate", "{} was started (process {pid})", name(process));
            }
            Event::Exited { process, how } => {
                self.running.remove(process);
                tracing::info!(target: "tidegate", "{} {}", name(process), how.text);
            }
            _ => {}
        }
    }

    /// Carries an effect out; returns what has come of it, if that is known at once.
    fn act(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send(message) => self.send(&message),
            Effect::PassOn(passed_on) => self.send(&passed_on),
            Effect::Metrics { request, gathered } => {
                if let Some(answer) = self.scrapes.remove(&request) {
                    // Who has asked may have given up. The channel has room for the one answer.
                    let _ = answer.try_send(gathered);
                }
            }
            Effect::Disconnect => self.outgoing = None,
            Effect::Lease(lease) => self.link.set_lease(lease),
            Effect::Fetch { process, program } => {
                let fetched = move |result: Result<()>| Event::Fetched {
                    process,
                    result: result.map_err(|error| error.to_string()),
                };
                let active: BTreeSet<JobId> = self.supervisor.jobs().collect();
                let copies = self.data.copies.clone();
                return self.helpers.ask(fetched, move |helpers| {
                    helpers.log_reader.remove_old(&active);
                    copies::remove_old(&copies, &active);
                    helpers.executables.fetch(&program).map(drop)
                });
            }
            Effect::Spawn { process, program, working } => {
                let result = self.spawn(process, &program, &working).map_err(|error| error.to_string());
                return Some(Event::Spawned { process, result });
            }
            Effect::Tell(process, message) => {
                let is_sent = self.running.get(&process).is_none_or(|running| running.send(message));
                if !is_sent {
                    return Some(Event::Misbehaved(process, "does not read its messages".to_owned()));
                }
            }
            Effect::Kill(process) => {
                if let Some(running) = self.running.get(&process) {
                    running.kill();
                }
            }
            Effect::Describe { request, program } => {
                self.describe_next += 1;
                let working = self.data.jobs.join(format!("describe-{}", self.describe_next));
                let described = move |result| Event::Described { request, result };
                return self.helpers.ask(described, move |helpers| {
                    describe(&helpers.executables, &working, &program, |child| {
                        let mut all = helpers.describing.lock().unwrap_or_else(PoisonError::into_inner);
                        all.retain(|child| child.strong_count() > 0);
                        all.push(Arc::downgrade(child));
                    })
                });
            }
            Effect::ReadLogs { request, job, attempt, from, bytes } => {
                let read = move |result: Result<(String, u64)>| {
                    let (text, position) = result.unwrap_or((String::new(), from.unwrap_or(0)));
                    Event::LogsRead { request, text, position }
                };
                return self
                    .helpers
                    .ask(read, move |helpers| Ok(helpers.log_reader.read(job, attempt, from, bytes)));
            }
        }
        None
    }

    fn send(&mut self, message: &impl Serialize) {
        let Some(outgoing) = &self.outgoing else { return };
        let text = match serde_json::to_string(message) {
            Ok(text) if text.len() <= link::MESSAGE_BYTES_MAX => text,
            Ok(text) => {
                let bytes = text.len();
                return tracing::warn!(target: "tidegate", "a message of {bytes} bytes to the jobmanager is dropped");
            }
            Err(error) => {
                return tracing::warn!(target: "tidegate", "a message to the jobmanager has no JSON: {error}");
            }
        };
        // A jobmanager that does not read gets a new connection.
        if outgoing.try_send(text).is_err() {
            self.outgoing = None;
        }
    }

    fn spawn(&mut self, id: ProcessId, program: &Program, working: &Path) -> Result<u32> {
        let log = LogFile::open(&self.data.logs, id, self.limits);
        let executable = self.helpers.executables.path(program);
        let process = JobProcess::start(
            id,
            (&executable, program, &self.variables),
            working,
            log,
            &self.helpers.events,
        )?;
        let pid = process.pid();
        self.running.insert(id, process);
        Ok(pid)
    }
}

impl Helpers {
    /// Does something on a thread of its own, which sends the event. If there is no thread, the event is returned.
    fn ask<T>(
        &self,
        event: impl Fn(Result<T>) -> Event + Clone + Send + 'static,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Option<Event> {
        let (this, answer) = (self.clone(), event.clone());
        let run = move || {
            let answer = answer(work(&this));
            // Without a receiver the taskmanager is about to end.
            let _ = this.events.send(Incoming::Event(answer));
        };
        let spawned = spawn("helper", run);
        spawned.err().map(|error: Error| event(Err(error)))
    }
}

fn name(process: &ProcessId) -> String {
    let ProcessId { job, attempt, first } = process;
    format!("the process of worker {first} of attempt {attempt} of job {job}")
}
