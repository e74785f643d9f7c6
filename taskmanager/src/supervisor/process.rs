//! What is known of one process.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_protocol::link::Report;
use tidegate_protocol::process::{FromJobProcess, Preparation};
use tidegate_protocol::taskmanager::{FromTaskManager, ProcessId, Program, RunningProcess};
use tidegate_protocol::{Attempt, Epoch, Slot};

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its executable is being fetched.
    Fetching,
    /// Processes of older attempts have not ended yet.
    Waiting,
    /// It is being started.
    Spawning,
    /// It runs, with this number.
    Running(u32),
}

/// What is known of one process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) program: Program,
    pub(super) phase: Phase,
    /// When the last message of it came.
    pub(super) heard: Duration,
    /// When it was sent the last ping.
    pub(super) pinged: Duration,
    /// When it is killed, unless it has ended by then.
    pub(super) killed_at: Option<Duration>,
    pub(super) is_killed: bool,
    pub(super) why_killed: Option<String>,
    /// The last epoch that it was told to end.
    pub(super) triggered: Epoch,
    /// Its first message, until it is sent.
    preparation: Option<Box<Preparation>>,
    /// Its slots.
    slots: std::ops::Range<u32>,
    ready: BTreeSet<Slot>,
    sources_ended: BTreeSet<Slot>,
    /// Messages that the jobmanager cannot do without and the process does not repeat, at most one of a kind.
    facts: Vec<FromJobProcess>,
}

impl Process {
    pub(super) fn new(program: Program, preparation: Box<Preparation>) -> Self {
        let first = preparation.first.0;
        Self {
            program,
            phase: Phase::Fetching,
            heard: Duration::ZERO,
            pinged: Duration::ZERO,
            killed_at: None,
            is_killed: false,
            why_killed: None,
            // Those before its first one are over: who triggers none of them need not know which one that is.
            triggered: Epoch(preparation.first_epoch.0.saturating_sub(1)),
            slots: first..first.saturating_add(preparation.workers),
            preparation: Some(preparation),
            ready: BTreeSet::new(),
            sources_ended: BTreeSet::new(),
            facts: Vec::new(),
        }
    }

    /// Notes that the process runs; returns its first message.
    pub(super) fn runs(&mut self, now: Duration, pid: u32) -> Option<Box<Preparation>> {
        self.phase = Phase::Running(pid);
        (self.heard, self.pinged) = (now, now);
        self.preparation.take()
    }

    /// The number of the process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Running(pid) => Some(pid),
            Phase::Fetching | Phase::Waiting | Phase::Spawning => None,
        }
    }

    /// Notes what a message of the process says.
    pub(super) fn hear(&mut self, now: Duration, attempt: Attempt, message: &FromJobProcess) {
        self.heard = now;
        let is_fact = match message {
            FromJobProcess::Listening { .. }
            | FromJobProcess::Prepared { .. }
            | FromJobProcess::Damaged { .. } => true,
            FromJobProcess::Report(report) if report.attempt == attempt => {
                match report.report {
                    Report::Ready(slot) if self.slots.contains(&slot.0) => drop(self.ready.insert(slot)),
                    Report::SourcesEnded(slot) if self.slots.contains(&slot.0) => {
                        self.sources_ended.insert(slot);
                    }
                    _ => {}
                }
                matches!(report.report, Report::Failed(_))
            }
            _ => false,
        };
        let kind = std::mem::discriminant(message);
        if is_fact && !self.facts.iter().any(|fact| std::mem::discriminant(fact) == kind) {
            self.facts.push(message.clone());
        }
    }

    /// For a registration. A process that does not run yet has the number 0.
    pub(super) fn describe(&self, process: ProcessId) -> RunningProcess {
        RunningProcess {
            process,
            pid: self.pid().unwrap_or(0),
            workers: self.slots.end - self.slots.start,
            ready: self.ready.iter().copied().collect(),
            ended: self.sources_ended.iter().copied().collect(),
            triggered: self.triggered,
        }
    }

    /// What the jobmanager is told after a registration.
    pub(super) fn facts(&self, process: ProcessId) -> impl Iterator<Item = FromTaskManager> {
        let started = self.pid().map(|pid| FromTaskManager::Started { process, pid });
        started.into_iter().chain(self.last_facts(process))
    }

    /// The same of a process that has ended.
    pub(super) fn last_facts(&self, process: ProcessId) -> Vec<FromTaskManager> {
        let from =
            |fact: &FromJobProcess| FromTaskManager::FromProcess { process, message: Box::new(fact.clone()) };
        self.facts.iter().map(from).collect()
    }
}
