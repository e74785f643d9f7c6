//! The one thread that has the brain: it takes inputs in the order in which they come, and carries out the actions.
//!
//! It never waits for a disk or a network: the ledger, the checkpoint store and every connection have threads or tasks of
//! their own, which report by further inputs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_access::Secret;
use tidegate_control::Time;
use tidegate_control::cluster::{
    Answer, Brain, ClusterAction, ClusterInput, ClusterSettings, Ledger, Now, Record, Request, RequestId,
};
use tidegate_protocol::process::ToJobProcess;
use tidegate_protocol::taskmanager::{FromTaskManager, ProcessId, Registration, ToTaskManager};
use tidegate_protocol::why::{PassedOn, ProcessAnswer, ProcessWhy};
use tidegate_protocol::{Attempt, Error, JobId, Result, TaskManagerId};
use tokio::sync::{mpsc, oneshot};

use crate::cluster_store::ClusterStore;
use crate::events;
use crate::ledger::Log;
use crate::questions::{Questions, Tell, refuse};
use crate::settings::Settings;
use crate::stores::Stores;

/// The longest time between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// How long a request may wait for the driver.
const BUSY: Duration = Duration::from_secs(30);

/// Something for the driver.
pub(crate) enum Message {
    Input(ClusterInput),
    /// A request of a user; its answer goes there.
    Request(Request, oneshot::Sender<Result<Answer>>),
    /// Somebody wants to look at the brain.
    Look(Box<dyn FnOnce(&Brain) + Send>),
    /// A taskmanager has connected by the connection of this number; messages to it go there.
    Connected(u64, Box<Registration>, mpsc::UnboundedSender<ToTaskManager>),
    /// It has sent a message.
    FromTaskManager(u64, TaskManagerId, FromTaskManager),
    /// The connection is over.
    Disconnected(u64, TaskManagerId),
    /// A process of this taskmanager is asked what holds its job back.
    Why(TaskManagerId, ProcessId, Tell<ProcessWhy>),
    /// A process has answered, by the connection of this number.
    Answered(u64, TaskManagerId, PassedOn),
    /// The log of a job is wanted from a taskmanager.
    Logs(LogsWanted, Tell<LogRead>),
}

/// A part of a log, and the position behind it.
pub(crate) type LogRead = (String, u64);

/// What part of a log is wanted.
pub(crate) struct LogsWanted {
    pub(crate) taskmanager: TaskManagerId,
    pub(crate) job: JobId,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) from: Option<u64>,
    pub(crate) bytes: u64,
}

/// The sending end.
#[derive(Clone)]
pub(crate) struct Driver(Sender<Message>);

impl Driver {
    pub(crate) fn send(&self, message: Message) {
        // Without its driver the process is about to end.
        let _ = self.0.send(message);
    }

    /// Looks at the brain.
    pub(crate) async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Brain) -> R + Send + 'static,
    ) -> Result<R> {
        let (tell, told) = oneshot::channel();
        // Who has asked may have gone.
        self.send(Message::Look(Box::new(move |brain| drop(tell.send(look(brain))))));
        answer_of(told).await
    }

    /// The same, for a thread that may wait. None if the brain was busy for too long.
    pub(crate) fn look_and_wait<R: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce(&Brain) -> R + Send + 'static,
    ) -> Option<R> {
        let (tell, told) = channel();
        self.send(Message::Look(Box::new(move |brain| drop(tell.send(look(brain))))));
        told.recv_timeout(patience).ok()
    }

    /// Asks a process what holds its job back. A process that hangs does not answer.
    pub(crate) fn why(
        &self,
        taskmanager: TaskManagerId,
        process: ProcessId,
    ) -> oneshot::Receiver<Result<ProcessWhy>> {
        let (tell, told) = oneshot::channel();
        self.send(Message::Why(taskmanager, process, tell));
        told
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Answer> {
        let (tell, told) = oneshot::channel();
        self.send(Message::Request(request, tell));
        told.await.map_err(|_| Error::environment("the jobmanager is about to end"))?
    }

    /// Asks a taskmanager for a part of a log. One that hangs does not answer.
    pub(crate) fn logs(&self, wanted: LogsWanted) -> oneshot::Receiver<Result<LogRead>> {
        let (tell, told) = oneshot::channel();
        self.send(Message::Logs(wanted, tell));
        told
    }
}

async fn answer_of<R>(told: oneshot::Receiver<R>) -> Result<R> {
    match tokio::time::timeout(BUSY, told).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Error::environment("there is no answer: who was asked is gone")),
        Err(_) => Err(Error::environment(format!("there was no answer for {} s", BUSY.as_secs()))),
    }
}

/// Starts the thread.
pub(crate) fn start(settings: &Settings, store: &ClusterStore, log: Log, ledger: Ledger) -> Result<Driver> {
    let (sender, inbox) = channel();
    let driver = Driver(sender);
    let report = driver.clone();
    let propose = log.start(move |record| report.send(Message::Input(ClusterInput::Committed(record))))?;
    let report = driver.clone();
    let stores = Stores::start(store, Arc::new(move |input| report.send(Message::Input(input))))?;
    let lease_ms = settings.lease.as_millis() as u64;
    let cluster = ClusterSettings {
        store: store.name(),
        reconnect_ms: 250,
        adoption_ms: lease_ms,
        start_timeout_ms: store.start_timeout_ms(),
        describe_timeout_ms: 30_000,
    };
    let began = Instant::now();
    let now = now(began);
    // Milliseconds of the wall clock, so that numbers of operations of an earlier jobmanager do not come again.
    let brain = Brain::new(cluster, ledger, now, now.wall_ms);
    let thread = Thread {
        brain,
        began,
        stores,
        propose,
        secret: settings.secret.clone(),
        connections: HashMap::new(),
        requests: HashMap::new(),
        logs: Questions::default(),
        whys: Questions::default(),
        next: 0,
    };
    std::thread::Builder::new().name("driver".to_owned()).spawn(move || thread.run(&inbox))?;
    Ok(driver)
}

fn now(began: Instant) -> Now {
    Now { time: Time(began.elapsed().as_millis() as u64), wall_ms: wall_ms() }
}

/// Milliseconds since the Unix epoch, for people.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

struct Thread {
    brain: Brain,
    began: Instant,
    stores: Stores,
    propose: Sender<Record>,
    secret: Secret,
    /// The connection of every taskmanager: its number, and where messages go.
    connections: HashMap<TaskManagerId, (u64, mpsc::UnboundedSender<ToTaskManager>)>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Answer>>>,
    /// Parts of logs that are wanted.
    logs: Questions<(), LogRead>,
    /// Processes that were asked what holds their jobs back.
    whys: Questions<ProcessId, ProcessWhy>,
    next: u64,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let (now, deadline) = (now(self.began).time, self.brain.deadline());
            if deadline.is_some_and(|at| at <= now) {
                // Also while one message follows the other, many of which the brain does not see.
                self.step(ClusterInput::Tick);
                continue;
            }
            let deadline = deadline.map(|at| Duration::from_millis(at.since_ms(now)));
            match inbox.recv_timeout(deadline.unwrap_or(TICK).min(TICK)) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => self.step(ClusterInput::Tick),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                events::log(&input, self.brain.ledger());
                self.step(input);
            }
            Message::Request(request, answer) => {
                let id = RequestId(self.number());
                self.requests.insert(id, answer);
                self.step(ClusterInput::Request(id, request));
            }
            Message::Look(look) => look(&self.brain),
            Message::Connected(number, registration, sender) => {
                self.forget_questions(&registration.id);
                self.connections.insert(registration.id.clone(), (number, sender));
                tracing::info!(
                    target: "tidegate",
                    "taskmanager {} at {} is connected, with {} slots and {} running processes",
                    registration.id, registration.address, registration.slots, registration.processes.len()
                );
                self.step(ClusterInput::Connected(registration));
            }
            Message::FromTaskManager(number, id, message) => {
                if self.is_current(number, &id) {
                    self.taskmanager_said(id, message);
                }
            }
            Message::Disconnected(number, id) => {
                if self.is_current(number, &id) {
                    self.connections.remove(&id);
                    self.forget_questions(&id);
                    tracing::warn!(target: "tidegate", "the connection to taskmanager {id} is over");
                    self.step(ClusterInput::Disconnected(id));
                }
            }
            Message::Why(taskmanager, process, tell) => self.ask_why(taskmanager, process, tell),
            Message::Answered(
                number,
                id,
                PassedOn { process, answer: ProcessAnswer::Why { request, why } },
            ) => {
                if self.is_current(number, &id) {
                    self.whys.answered(request, (&id, &process), *why);
                }
            }
            Message::Logs(wanted, tell) => self.ask_for_logs(wanted, tell),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// True for the newest connection of a taskmanager: messages of an older one may still be on their way.
    fn is_current(&self, number: u64, id: &TaskManagerId) -> bool {
        self.connections.get(id).is_some_and(|(current, _)| *current == number)
    }

    fn taskmanager_said(&mut self, id: TaskManagerId, message: FromTaskManager) {
        if let FromTaskManager::Logs { request, text, position } = message {
            return self.logs.answered(request, (&id, &()), (text, position));
        }
        self.step(ClusterInput::FromTaskManager(id, message));
    }

    fn ask_for_logs(&mut self, wanted: LogsWanted, tell: Tell<LogRead>) {
        let LogsWanted { taskmanager, job, attempt, from, bytes } = wanted;
        if !self.connections.contains_key(&taskmanager) {
            return refuse(tell);
        }
        let request = self.number();
        self.send(&taskmanager, ToTaskManager::Logs { request, job, attempt, from, bytes });
        self.logs.add(request, (taskmanager, ()), tell);
    }

    fn ask_why(&mut self, id: TaskManagerId, process: ProcessId, tell: Tell<ProcessWhy>) {
        if !self.connections.contains_key(&id) {
            return refuse(tell);
        }
        let request = self.number();
        let message = Box::new(ToJobProcess::Why { request });
        self.send(&id, ToTaskManager::ToProcess { process, message });
        self.whys.add(request, (id, process), tell);
    }

    /// The connection to a taskmanager is over, and with it the answers that were to come by it.
    fn forget_questions(&mut self, id: &TaskManagerId) {
        self.logs.disconnected(id);
        self.whys.disconnected(id);
    }

    fn step(&mut self, input: ClusterInput) {
        let mut actions = Vec::new();
        self.brain.step(now(self.began), input, &mut actions);
        actions.into_iter().for_each(|action| self.act(action));
    }

    fn act(&mut self, action: ClusterAction) {
        match action {
            ClusterAction::Propose(record) => {
                // The thread of the ledger lives as long as this sender.
                let _ = self.propose.send(record);
            }
            ClusterAction::Send(id, message) => self.send(&id, message),
            ClusterAction::Store(job, action) => self.stores.carry_out(job, action),
            ClusterAction::Copy(job, action) => self.stores.copy(job, action),
            ClusterAction::Answer(id, answer) => {
                if let Some(tell) = self.requests.remove(&id) {
                    // Who has asked may have gone.
                    let _ = tell.send(answer);
                }
            }
            ClusterAction::Note { job, warning: true, text } => {
                tracing::warn!(target: "tidegate", "job {job}: {text}");
            }
            ClusterAction::Note { job, text, .. } => tracing::info!(target: "tidegate", "job {job}: {text}"),
        }
    }

    fn send(&self, id: &TaskManagerId, mut message: ToTaskManager) {
        if let ToTaskManager::Launch { preparation, .. } = &mut message {
            let (job, attempt) = (preparation.job.0, preparation.attempt.0.to_le_bytes());
            let secret = self.secret.mac("secret of an attempt", &[&job, &attempt]);
            preparation.secret = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        if let Some((_, sender)) = self.connections.get(id) {
            // A connection that is over is reported as such.
            let _ = sender.send(message);
        }
    }
}
