//! The jobmanager: the brain, and a driver that carries its actions out.
//!
//! When it dies, everything is lost but the ledger on disk and the checkpoint store.
//!
//! - `ledger`: the thread that makes records durable.
//! - `stores`: the threads that read and write the checkpoint store.
//! - `server`: the connections of taskmanagers.

mod ledger;
mod server;
mod stores;

use std::collections::{BTreeMap, VecDeque};

use tidegate_control::Time;
use tidegate_control::cluster::{
    Brain, ClusterAction, ClusterInput, ClusterSettings, Now, Record, StoreAction,
};
use tidegate_protocol::link::Command;
use tidegate_protocol::process::ToJobProcess;
use tidegate_protocol::taskmanager::ToTaskManager;
use tidegate_protocol::{JobId, TaskManagerId};

use crate::happening::Happening;
use crate::queue::Event;
use crate::show;
use crate::world::World;
use stores::Copying;

/// Milliseconds since the Unix epoch when the simulation begins.
const WALL_MS: u64 = 1_700_000_000_000;
/// After so long without a message a side of a connection takes the other for lost.
pub(crate) const LEASE_MS: u64 = 3_000;

/// A jobmanager that runs.
pub(crate) struct JobManager {
    pub(crate) life: u64,
    began: u64,
    pub(crate) brain: Brain,
    /// The newest connection of every taskmanager.
    connections: BTreeMap<TaskManagerId, u64>,
    /// Records that wait to be written.
    proposed: VecDeque<Record>,
    /// Records that are being written.
    writing: Vec<Record>,
    /// What is to be done in the checkpoint store, in the order for every job.
    actions: BTreeMap<JobId, VecDeque<StoreAction>>,
    copies: BTreeMap<u64, Copying>,
    next_copy: u64,
    tick_version: u64,
}

impl World {
    pub(crate) fn jobmanager_starts(&mut self) {
        if self.jobmanager.is_some() {
            return;
        }
        self.jobmanager_life += 1;
        let settings = ClusterSettings {
            store: "/store".to_owned(),
            reconnect_ms: 250,
            adoption_ms: LEASE_MS,
            start_timeout_ms: 60_000,
            describe_timeout_ms: 30_000,
        };
        let now = Now { time: Time(0), wall_ms: WALL_MS + self.now };
        let brain = Brain::new(settings, self.ledger.clone(), now, now.wall_ms);
        self.jobmanager = Some(JobManager {
            life: self.jobmanager_life,
            began: self.now,
            brain,
            connections: BTreeMap::new(),
            proposed: VecDeque::new(),
            writing: Vec::new(),
            actions: BTreeMap::new(),
            copies: BTreeMap::new(),
            next_copy: self.jobmanager_life * 1_000,
            tick_version: 0,
        });
        self.jobmanager_stopped_until = 0;
        let life = self.jobmanager_life;
        self.note(format_args!("the jobmanager starts, for the {life}. time"));
        self.happened.push(Happening::JobManagerBegan);
        self.brain(ClusterInput::Tick);
    }

    /// The jobmanager is killed. What a thread was about to do may have been done.
    pub(crate) fn jobmanager_dies(&mut self) {
        let Some(jobmanager) = self.jobmanager.take() else { return };
        self.note(format_args!("the jobmanager dies"));
        self.jobmanager_stopped_until = 0;
        for (job, actions) in jobmanager.actions {
            if let Some(action) = actions.front().filter(|_| self.random.chance(400)) {
                self.note(format_args!("  this was done nevertheless: {}", show::store_action(action)));
                self.carry_out(job, action);
            }
        }
        let ended = jobmanager.copies.into_keys().map(|copy| Happening::SavepointEnded { copy });
        self.happened.extend(ended);
        let ours = self.network.connections.iter().filter(|(_, c)| c.server_life == jobmanager.life);
        let ours: Vec<u64> = ours.map(|(number, _)| *number).collect();
        ours.into_iter().for_each(|connection| self.break_connection(connection));
        let down = self.random.delay(300, 8_000, 300);
        self.after(down, Event::JobManagerStarts);
    }

    /// True if the jobmanager dies at this durable write.
    fn dies_at_write(&mut self) -> bool {
        let dies = !self.is_healed && self.random.chance(self.config.dies_at_writes);
        if dies {
            self.jobmanager_dies();
        }
        dies
    }

    fn is_life(&self, life: u64) -> bool {
        self.jobmanager.as_ref().is_some_and(|jobmanager| jobmanager.life == life)
    }

    /// Gives the brain an input, and carries out what it decides.
    pub(crate) fn brain(&mut self, input: ClusterInput) {
        let Some(jobmanager) = &mut self.jobmanager else { return };
        let now = Now { time: Time(self.now - jobmanager.began), wall_ms: WALL_MS + self.now };
        let shown = show::input(&input);
        let mut actions = Vec::new();
        jobmanager.brain.step(now, input, &mut actions);
        if !shown.is_empty() {
            self.note(format_args!("brain <- {shown}"));
        }
        actions.into_iter().for_each(|action| self.act(action));
        self.schedule_tick();
    }

    fn schedule_tick(&mut self) {
        let Some(jobmanager) = &mut self.jobmanager else { return };
        jobmanager.tick_version += 1;
        let (life, version) = (jobmanager.life, jobmanager.tick_version);
        let now = Time(self.now - jobmanager.began);
        let wait = jobmanager.brain.deadline().map_or(1_000, |at| at.since_ms(now).clamp(1, 1_000));
        self.after(wait, Event::BrainTick { life, version });
    }

    pub(crate) fn brain_tick(&mut self, life: u64, version: u64) {
        if self.jobmanager.as_ref().is_some_and(|j| j.life == life && j.tick_version == version) {
            self.brain(ClusterInput::Tick);
        }
    }

    fn act(&mut self, action: ClusterAction) {
        self.note(format_args!("brain -> {}", show::action(&action)));
        if let ClusterAction::Store(job, StoreAction::NotePublished { epoch }) = action {
            self.happened.push(Happening::AllPublished { job, epoch });
        }
        match action {
            ClusterAction::Propose(record) => self.propose(record),
            ClusterAction::Send(id, message) => self.send_to_host(&id, message),
            ClusterAction::Store(job, action) => self.add_store_action(job, action),
            ClusterAction::Copy(job, action) => self.begin_copy(job, action),
            ClusterAction::Answer(request, answer) => self.answered(request, answer),
            ClusterAction::Note { .. } => {}
        }
    }

    fn send_to_host(&mut self, id: &TaskManagerId, message: ToTaskManager) {
        self.witness(id, &message);
        let connection = self.jobmanager.as_ref().and_then(|j| j.connections.get(id).copied());
        if let Some(connection) = connection {
            self.push_to_host(connection, message);
        }
    }

    /// Notes what the invariants have to know of what the brain commands.
    fn witness(&mut self, taskmanager: &TaskManagerId, message: &ToTaskManager) {
        let happening = match message {
            ToTaskManager::Launch { preparation, .. } => Happening::Launched {
                job: preparation.job,
                attempt: preparation.attempt,
                first: preparation.first,
                taskmanager: taskmanager.clone(),
                restored: preparation.restored,
            },
            ToTaskManager::ToProcess { process, message } => {
                let ToJobProcess::Command(to) = &**message else { return };
                let (job, attempt) = (process.job, process.attempt);
                match to.command {
                    Command::Trigger { epoch, .. } => Happening::Triggered { job, epoch },
                    Command::Publish(epoch) => Happening::PublishCommanded { job, attempt, epoch },
                    _ => return,
                }
            }
            _ => return,
        };
        self.happened.push(happening);
    }
}
