//! A small world around a brain: taskmanagers and a checkpoint store that remember what they were told, and do nothing by
//! themselves. A script decides what happens when.

pub(crate) mod show;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidegate_control::Time;
use tidegate_control::cluster::{
    Brain, ClusterAction, ClusterInput, ClusterSettings, CopyAction, JobSettings, Ledger, Now, Record,
    Request, RequestId, RunJob, StoreAction,
};
use tidegate_protocol::link::Command;
use tidegate_protocol::manifest::{OperatorEntry, StateType};
use tidegate_protocol::plan::PLAN_VERSION;
use tidegate_protocol::process::ToJobProcess;
use tidegate_protocol::taskmanager::{ProcessId, Program, Registration, RunningProcess, ToTaskManager};
use tidegate_protocol::{Epoch, JobId, Manifest, Plan, SourcePlan, TaskManagerId};

/// A taskmanager.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) slots: u32,
    pub(crate) connected: bool,
    pub(crate) processes: BTreeMap<ProcessId, RunningProcess>,
    pub(crate) told: BTreeMap<ProcessId, Told>,
}

/// What a process was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) begun: bool,
    /// No barrier follows that of this epoch.
    pub(crate) last: Option<Epoch>,
    pub(crate) publish: Option<Epoch>,
    #[allow(dead_code, reason = "the scenarios show the message instead")]
    pub(crate) drain: bool,
}

/// A brain, and what is around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) brain: Brain,
    pub(crate) now: Now,
    pub(crate) hosts: BTreeMap<TaskManagerId, Host>,
    pub(crate) proposed: VecDeque<Record>,
    pub(crate) describing: VecDeque<(TaskManagerId, u64)>,
    pub(crate) importing: VecDeque<JobId>,
    pub(crate) reading: VecDeque<(JobId, Epoch)>,
    pub(crate) writing: VecDeque<(JobId, Arc<Manifest>)>,
    pub(crate) saving: VecDeque<(JobId, u64, Epoch, String)>,
    pub(crate) manifests: BTreeMap<(JobId, Epoch), Arc<Manifest>>,
    pub(crate) published: BTreeMap<JobId, Epoch>,
    requests: u64,
    brains: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = Now { time: Time(0), wall_ms: 0 };
        Self {
            brain: Brain::new(settings(), Ledger::default(), now, 0),
            now,
            hosts: BTreeMap::new(),
            proposed: VecDeque::new(),
            describing: VecDeque::new(),
            importing: VecDeque::new(),
            reading: VecDeque::new(),
            writing: VecDeque::new(),
            saving: VecDeque::new(),
            manifests: BTreeMap::new(),
            published: BTreeMap::new(),
            requests: 0,
            brains: 0,
        }
    }

    /// Gives the brain an input, and has the world take note of what follows.
    pub(crate) fn step(&mut self, input: ClusterInput) -> Vec<ClusterAction> {
        let mut actions = Vec::new();
        self.brain.step(self.now, input, &mut actions);
        actions.iter().for_each(|action| self.take(action));
        actions
    }

    pub(crate) fn request(&mut self, request: Request) -> Vec<ClusterAction> {
        self.requests += 1;
        self.step(ClusterInput::Request(RequestId(self.requests), request))
    }

    pub(crate) fn advance_time(&mut self, ms: u64) {
        self.now = Now { time: self.now.time.plus_ms(ms), wall_ms: self.now.wall_ms + ms };
    }

    /// The jobmanager is killed and started again: nobody is connected, and what was under way is lost.
    pub(crate) fn restart(&mut self) {
        for host in self.hosts.values_mut() {
            host.connected = false;
        }
        self.proposed.clear();
        self.describing.clear();
        self.importing.clear();
        self.reading.clear();
        self.writing.clear();
        self.saving.clear();
        self.brains += 1;
        self.brain = Brain::new(settings(), self.brain.ledger().clone(), self.now, 100 * self.brains);
    }

    /// A taskmanager connects, with the processes that it has.
    pub(crate) fn connect(&mut self, id: &TaskManagerId) -> Vec<ClusterAction> {
        let host = self.hosts.entry(id.clone()).or_default();
        host.connected = true;
        let registration = Registration {
            id: id.clone(),
            pid: 1,
            slots: host.slots,
            address: id.to_string(),
            processes: host.processes.values().cloned().collect(),
        };
        self.step(ClusterInput::Connected(Box::new(registration)))
    }

    pub(crate) fn disconnect(&mut self, id: &TaskManagerId) -> Vec<ClusterAction> {
        if let Some(host) = self.hosts.get_mut(id) {
            host.connected = false;
        }
        self.describing.retain(|(asked, _)| asked != id);
        self.step(ClusterInput::Disconnected(id.clone()))
    }

    /// The taskmanager that has a process.
    pub(crate) fn host_of(&self, process: ProcessId) -> Option<TaskManagerId> {
        let found = self.hosts.iter().find(|(_, host)| host.processes.contains_key(&process));
        found.map(|(id, _)| id.clone())
    }

    fn take(&mut self, action: &ClusterAction) {
        match action.clone() {
            ClusterAction::Propose(record) => self.proposed.push_back(record),
            ClusterAction::Send(id, message) => self.told(&id, message),
            ClusterAction::Store(job, StoreAction::ReadSnapshot { epoch }) => {
                self.reading.push_back((job, epoch))
            }
            ClusterAction::Store(job, StoreAction::WriteManifest { manifest }) => {
                self.writing.push_back((job, manifest))
            }
            ClusterAction::Store(job, StoreAction::NotePublished { epoch }) => {
                self.published.insert(job, epoch);
            }
            ClusterAction::Store(job, StoreAction::SetAside { epoch }) => {
                drop(self.manifests.remove(&(job, epoch)))
            }
            ClusterAction::Copy(job, CopyAction::WriteSavepoint { operation, epoch, directory }) => {
                self.saving.push_back((job, operation, epoch, directory));
            }
            ClusterAction::Copy(job, CopyAction::Import { .. }) => self.importing.push_back(job),
            ClusterAction::Store(
                _,
                StoreAction::RemoveLeftovers { .. }
                | StoreAction::Discard { .. }
                | StoreAction::Collect { .. },
            )
            | ClusterAction::Answer(..)
            | ClusterAction::Note { .. } => {}
        }
    }

    fn told(&mut self, id: &TaskManagerId, message: ToTaskManager) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.connected) else { return };
        match message {
            ToTaskManager::Describe { request, .. } => self.describing.push_back((id.clone(), request)),
            ToTaskManager::Launch { preparation, .. } => {
                let process = ProcessId {
                    job: preparation.job,
                    attempt: preparation.attempt,
                    first: preparation.first,
                };
                let running = RunningProcess {
                    process,
                    pid: 100 + preparation.first.0,
                    workers: preparation.workers,
                    ready: Vec::new(),
                    ended: Vec::new(),
                    triggered: Epoch(0),
                };
                host.processes
                    .retain(|other, _| other.job != process.job || other.attempt >= process.attempt);
                host.processes.insert(process, running);
                host.told.insert(process, Told { drain: preparation.drains, ..Told::default() });
            }
            ToTaskManager::Kill { job, attempt } => {
                host.processes.retain(|process, _| process.job != job || process.attempt > attempt);
            }
            ToTaskManager::ToProcess { process, message } => {
                let Some(running) = host.processes.get_mut(&process) else { return };
                let told = host.told.entry(process).or_default();
                match *message {
                    ToJobProcess::Begin(_) => told.begun = true,
                    ToJobProcess::Command(to) => match to.command {
                        Command::Abort => drop(host.processes.remove(&process)),
                        Command::Trigger { epoch, last } => {
                            running.triggered = epoch;
                            told.last = told.last.or(Some(epoch).filter(|_| last));
                        }
                        Command::Publish(epoch) => told.publish = Some(epoch),
                        _ => {}
                    },
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn settings() -> ClusterSettings {
    ClusterSettings {
        store: "/store".to_owned(),
        reconnect_ms: 250,
        adoption_ms: 5_000,
        start_timeout_ms: 60_000,
        describe_timeout_ms: 30_000,
    }
}

/// The job of all scripts: it counts what it reads, in memory, and writes that.
pub(crate) fn plan(partitions: &[String]) -> Plan {
    let operator = |kind: &str| OperatorEntry { kind: kind.to_owned(), ..OperatorEntry::default() };
    let state = StateType { name: "u64".to_owned(), fingerprint: "u64".to_owned() };
    let operators = [
        ("in".to_owned(), OperatorEntry { uri: Some("/in".to_owned()), ..operator("source") }),
        ("count".to_owned(), OperatorEntry { state: Some(state), ..operator("aggregate") }),
        ("out".to_owned(), OperatorEntry { uri: Some("/out".to_owned()), ..operator("sink") }),
    ];
    let source = SourcePlan { bounded: false, partitions: partitions.to_vec() };
    Plan {
        plan_version: PLAN_VERSION,
        job: "count".to_owned(),
        max_parallelism: 8,
        operators: operators.into(),
        sources: [("in".to_owned(), source)].into(),
        ..Plan::default()
    }
}

pub(crate) fn run(job: JobId, parallelism: Option<u32>) -> RunJob {
    RunJob {
        job,
        program: Program {
            name: "count".to_owned(),
            sha256: "0".repeat(64),
            path: "/store/executables/count".to_owned(),
            arguments: Vec::new(),
            directory: None,
        },
        parallelism,
        snapshot: None,
        allow_non_restored_state: false,
        name: None,
        interval_ms: None,
        retain: None,
        settings: JobSettings::default(),
    }
}
