//! A brain under random sequences of inputs of any kind, sensible or not: what must hold after every step, and that every
//! job comes to run or to end once the world behaves again.
//!
//! The world is that of the scenarios. It answers as taskmanagers and processes do that live: a worker acknowledges only
//! what it was told to write, and nothing after its last epoch.

#[path = "cluster_world/mod.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_control::cluster::{
    ClusterAction, ClusterInput, NotWritten, Record, Request, SnapshotRead, StoreAction,
};
use tidegate_protocol::link::{Command, Report, ToDriver};
use tidegate_protocol::manifest::SlotSnapshot;
use tidegate_protocol::process::{FromJobProcess, ToJobProcess};
use tidegate_protocol::taskmanager::{FromTaskManager, HowEnded, ProcessId, RunningProcess, ToTaskManager};
use tidegate_protocol::{Attempt, Epoch, Error, JobId, JobState, Slot, TaskManagerId};

use world::{Told, World, show};

/// The taskmanagers, with their slots.
const HOSTS: [(&str, u32); 3] = [("a", 2), ("b", 2), ("c", 1)];
/// So many steps let every job come to rest.
const STEPS_TO_REST: usize = 400;

/// A world whose steps are checked.
struct Checked {
    world: World,
    /// What has happened, for a failure's message.
    log: Vec<String>,
    launched: BTreeMap<JobId, Attempt>,
    triggered: BTreeMap<JobId, Epoch>,
    complete: BTreeSet<(JobId, Epoch)>,
    written: BTreeSet<(JobId, Attempt, Epoch)>,
    ended: BTreeSet<JobId>,
}

impl Checked {
    fn new() -> Self {
        let mut world = World::new();
        for (name, slots) in HOSTS {
            world.hosts.entry(TaskManagerId(name.to_owned())).or_default().slots = slots;
        }
        Self {
            world,
            log: Vec::new(),
            launched: BTreeMap::new(),
            triggered: BTreeMap::new(),
            complete: BTreeSet::new(),
            written: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    fn check(&mut self, what: &str, actions: Vec<ClusterAction>) -> Result<(), TestCaseError> {
        self.log.push(format!("{what} -> {}", show::actions(&actions)));
        let checked = self.check_step(&actions);
        checked.map_err(|why| TestCaseError::fail(format!("{why}\n{}", self.log.join("\n"))))
    }

    fn check_step(&mut self, actions: &[ClusterAction]) -> Result<(), String> {
        actions.iter().try_for_each(|action| self.check_action(action))?;
        let forgotten = self.world.step(ClusterInput::Tick);
        if !forgotten.is_empty() {
            return Err(format!("a tick brings more: {}", show::actions(&forgotten)));
        }
        let overlooked = self.world.brain.overlooked();
        if !overlooked.is_empty() {
            return Err(format!("jobs were not looked at that bring more: {}", show::actions(&overlooked)));
        }
        if self.world.brain.deadline().is_some_and(|at| at <= self.world.now.time) {
            return Err("the deadline is over".to_owned());
        }
        let mut taken: BTreeMap<TaskManagerId, usize> = BTreeMap::new();
        for job in self.world.brain.ledger().jobs.keys() {
            for process in self.world.brain.job(*job).into_iter().flat_map(|view| view.processes) {
                *taken.entry(process.taskmanager).or_default() += process.slots.len();
            }
        }
        match taken.iter().find(|(id, taken)| self.world.hosts[id].slots < **taken as u32) {
            Some((id, taken)) => Err(format!("{taken} slots of {id} are taken")),
            None => Ok(()),
        }
    }

    fn check_action(&mut self, action: &ClusterAction) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("{why}: {}", show::actions(std::slice::from_ref(action))));
        if job_of(action).is_some_and(|job| self.ended.contains(&job)) {
            return wrong("its job is over");
        }
        match action {
            ClusterAction::Send(_, ToTaskManager::Launch { preparation, .. }) => {
                let (job, attempt) = (preparation.job, preparation.attempt);
                let facts = &self.world.brain.ledger().jobs[&job];
                if self.launched.get(&job).is_some_and(|last| *last > attempt) || facts.attempt != attempt {
                    return wrong("its attempt goes back");
                }
                if preparation.restored != facts.newest() {
                    return wrong("it does not go on from the newest snapshot");
                }
                if preparation.first_epoch <= facts.last_epoch {
                    return wrong("a complete epoch comes again");
                }
                self.launched.insert(job, attempt);
            }
            ClusterAction::Send(_, ToTaskManager::ToProcess { process, message }) => {
                let ToJobProcess::Command(to) = &**message else { return Ok(()) };
                match to.command {
                    Command::Publish(epoch) | Command::Completed(epoch)
                        if !self.complete.contains(&(process.job, epoch)) =>
                    {
                        return wrong("it is not complete");
                    }
                    Command::Trigger { epoch, .. } => {
                        let last = self.triggered.insert(process.job, epoch).unwrap_or_default();
                        if last > epoch || self.complete.contains(&(process.job, epoch)) {
                            return wrong("an epoch comes again");
                        }
                    }
                    _ => {}
                }
            }
            ClusterAction::Propose(Record::Completed { job, attempt, epoch, .. })
                if !self.written.contains(&(*job, *attempt, *epoch)) =>
            {
                return wrong("its manifest is not written");
            }
            ClusterAction::Store(job, StoreAction::Collect { oldest }) => {
                let named = self.world.brain.ledger().jobs[job].snapshots.iter().min();
                let copied = self.world.saving.iter().filter(|it| it.0 == *job).map(|it| &it.2).min();
                if named.into_iter().chain(copied).any(|needed| needed < oldest) {
                    return wrong("it deletes what is needed");
                }
            }
            ClusterAction::Store(_, StoreAction::WriteManifest { manifest })
                if manifest.slots.len() != manifest.parallelism as usize =>
            {
                return wrong("a part is missing");
            }
            _ => {}
        }
        Ok(())
    }

    fn input(&mut self, what: &str, input: ClusterInput) -> Result<(), TestCaseError> {
        let actions = self.world.step(input);
        self.check(what, actions)
    }

    fn commit(&mut self) -> Result<(), TestCaseError> {
        let Some(record) = self.world.proposed.pop_front() else { return Ok(()) };
        let before = self.world.brain.ledger().jobs.get(&record.job()).map(|facts| facts.attempt);
        if let Record::Completed { job, attempt, epoch, .. } = &record
            && before == Some(*attempt)
        {
            self.complete.insert((*job, *epoch));
        }
        let actions = self.world.step(ClusterInput::Committed(record.clone()));
        let text = format!("committed {record:?}");
        self.check(&text[..text.len().min(60)], actions)?;
        if let Record::Ended { job, .. } = record {
            self.ended.insert(job);
        }
        Ok(())
    }

    fn read(&mut self, read: Option<SnapshotRead>) -> Result<(), TestCaseError> {
        let Some((job, epoch)) = self.world.reading.pop_front() else { return Ok(()) };
        let found = self.world.manifests.get(&(job, epoch)).cloned();
        let published = self.world.published.get(&job).copied().unwrap_or_default();
        let read = read.unwrap_or_else(|| match found {
            Some(manifest) => SnapshotRead::Read(manifest, published),
            None => SnapshotRead::Damaged("gone".to_owned()),
        });
        self.input("read", ClusterInput::SnapshotRead { job, epoch, read })
    }

    fn write(&mut self, result: Result<(), NotWritten>) -> Result<(), TestCaseError> {
        let Some((job, manifest)) = self.world.writing.pop_front() else { return Ok(()) };
        let (attempt, epoch) = (manifest.attempt, manifest.epoch);
        if result.is_ok() {
            self.written.insert((job, attempt, epoch));
            self.world.manifests.insert((job, epoch), manifest);
        }
        self.input("written", ClusterInput::ManifestWritten { job, epoch, result })
    }

    fn save(&mut self, result: Result<String, Error>) -> Result<(), TestCaseError> {
        let Some((job, operation, ..)) = self.world.saving.pop_front() else { return Ok(()) };
        self.input("saved", ClusterInput::SavepointWritten { job, operation, result })
    }

    fn describe(&mut self, result: Result<(), Error>) -> Result<(), TestCaseError> {
        let Some((id, request)) = self.world.describing.pop_front() else { return Ok(()) };
        let partitions = ["p0".to_owned(), "p1".to_owned()];
        let result = result.map(|()| Box::new(world::plan(&partitions)));
        let described = FromTaskManager::Described { request, result };
        self.input("described", ClusterInput::FromTaskManager(id, described))
    }

    fn say(&mut self, id: ProcessId, message: FromJobProcess) -> Result<(), TestCaseError> {
        let Some(host) = self.world.host_of(id) else { return Ok(()) };
        let connected = self.world.hosts[&host].connected;
        let running = self.world.hosts.get_mut(&host).and_then(|host| host.processes.get_mut(&id));
        if let (Some(running), FromJobProcess::Report(report)) = (running, &message) {
            match report.report {
                Report::Ready(slot) if !running.ready.contains(&slot) => running.ready.push(slot),
                Report::SourcesEnded(slot) if !running.ended.contains(&slot) => running.ended.push(slot),
                _ => {}
            }
        }
        if !connected {
            return Ok(());
        }
        let what = format!("{}{}[{}] {message:?}", show::name(id.job), id.attempt, id.first);
        let message = FromTaskManager::FromProcess { process: id, message: Box::new(message) };
        self.input(&what[..what.len().min(120)], ClusterInput::FromTaskManager(host, message))
    }

    fn report(&mut self, id: ProcessId, report: Report) -> Result<(), TestCaseError> {
        self.say(id, FromJobProcess::Report(ToDriver { attempt: id.attempt, report }))
    }

    fn exit(&mut self, id: ProcessId) -> Result<(), TestCaseError> {
        let Some(host) = self.world.host_of(id) else { return Ok(()) };
        let state = self.world.hosts.get_mut(&host).expect("it has the process");
        state.processes.remove(&id);
        if !state.connected {
            return Ok(());
        }
        let exited = FromTaskManager::Exited { process: id, how: HowEnded::from_outside("was killed") };
        self.input("exited", ClusterInput::FromTaskManager(host, exited))
    }

    fn all_processes(&self) -> Vec<(ProcessId, RunningProcess, Told)> {
        let of = |host: &world::Host| {
            let told = |id: &ProcessId| host.told.get(id).cloned().unwrap_or_default();
            host.processes.iter().map(|(id, it)| (*id, it.clone(), told(id))).collect::<Vec<_>>()
        };
        self.world.hosts.values().flat_map(of).collect()
    }

    /// What a process that lives does next; false if there is nothing.
    fn live(&mut self, id: ProcessId, running: &RunningProcess, told: &Told) -> Result<bool, TestCaseError> {
        let view = self.world.brain.job(id.job);
        let in_flight = view.as_ref().and_then(|view| view.in_flight.clone());
        let newest = view.as_ref().and_then(|view| view.last_epoch);
        let slots = || (id.first.0..id.first.0 + running.workers).map(Slot);
        if !told.begun {
            self.say(id, FromJobProcess::Listening { port: 1 })?;
            if id.first == Slot(0) {
                let partitions = ["p0".to_owned(), "p1".to_owned()].to_vec();
                let partitions = [("in".to_owned(), partitions)].into();
                self.say(id, FromJobProcess::Prepared { partitions })?;
            }
            let told = |host: &world::Host| host.told.get(&id).is_some_and(|told| told.begun);
            return Ok(self.world.hosts.values().any(told) || self.world.host_of(id).is_none());
        }
        if let Some(slot) = slots().find(|slot| !running.ready.contains(slot)) {
            self.report(id, Report::Ready(slot))?;
            return Ok(true);
        }
        if told.drain
            && let Some(slot) = slots().find(|slot| !running.ended.contains(slot))
        {
            self.report(id, Report::SourcesEnded(slot))?;
            return Ok(true);
        }
        if let Some((epoch, phase, _, missing)) = in_flight {
            let is_barrier = epoch <= running.triggered && told.last.is_none_or(|last| epoch <= last);
            let missing = slots().find(|slot| missing.contains(slot));
            if let ("pending", true, Some(slot)) = (phase.as_str(), is_barrier, missing) {
                let part = Box::new(SlotSnapshot::default());
                self.report(id, Report::Acked { slot, epoch, part })?;
                return Ok(true);
            }
        }
        if let Some(epoch) = told.publish.filter(|epoch| Some(*epoch) == newest) {
            for slot in slots() {
                self.report(id, Report::Published { slot, epoch })?;
            }
        }
        Ok(false)
    }

    /// The world does the next thing that it owes; false if there is none.
    fn helps(&mut self) -> Result<bool, TestCaseError> {
        let world = &self.world;
        if !world.proposed.is_empty() {
            self.commit()?;
        } else if !world.reading.is_empty() {
            self.read(None)?;
        } else if !world.writing.is_empty() {
            self.write(Ok(()))?;
        } else if !world.saving.is_empty() {
            self.save(Ok("/s".to_owned()))?;
        } else if !world.describing.is_empty() {
            self.describe(Ok(()))?;
        } else {
            for (id, running, told) in self.all_processes() {
                if self.live(id, &running, &told)? || !self.world.proposed.is_empty() {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn wait(&mut self, ms: Option<u64>) -> Result<(), TestCaseError> {
        let until = self.world.brain.deadline().map(|at| at.since_ms(self.world.now.time));
        let Some(ms) = ms.or(until) else { return Ok(()) };
        self.world.advance_time(ms);
        self.input(&format!("wait {ms}"), ClusterInput::Tick)
    }

    fn connect(&mut self, name: usize, empty: bool) -> Result<(), TestCaseError> {
        let id = TaskManagerId(HOSTS[name % HOSTS.len()].0.to_owned());
        if empty {
            self.world.hosts.get_mut(&id).expect("it is there").processes.clear();
        }
        let actions = self.world.connect(&id);
        self.check(&format!("connect {id}"), actions)
    }

    /// Everything works again: every job comes to run, to end, or to wait for slots that there are not.
    fn rest(&mut self) -> Result<(), TestCaseError> {
        for host in 0..HOSTS.len() {
            self.connect(host, false)?;
        }
        for _ in 0..STEPS_TO_REST {
            if self.helps()? {
                continue;
            }
            let restless = self.restless();
            if restless.is_none() {
                return Ok(());
            }
            self.wait(None)?;
        }
        let why = format!("it does not come to rest: {:?}", self.restless());
        Err(TestCaseError::fail(format!("{why}\n{}", self.log.join("\n"))))
    }

    fn restless(&self) -> Option<String> {
        let jobs = self.world.brain.ledger().jobs.keys();
        let views = jobs.filter_map(|job| self.world.brain.job(*job));
        let mut restless = views.filter(|view| {
            let waits = view.waits_for.as_deref().unwrap_or_default();
            let is_over = view.state.is_over();
            !is_over && view.state != JobState::Running && !waits.starts_with("slots:")
        });
        let operation = || {
            let mut all =
                self.world.brain.ledger().jobs.keys().flat_map(|job| (0..500).map(move |n| (*job, n)));
            all.find_map(|(job, number)| {
                let waits = show::operation(self.world.brain.operation(job, number));
                let can = self.world.brain.job(job).is_some_and(|view| view.state == JobState::Running);
                (can && waits.starts_with("in progress")).then_some(waits)
            })
        };
        restless.next().map(|view| show::job(&self.world.brain, view.job)).or_else(operation)
    }

    fn act(&mut self, (kind, a, b): (u8, usize, u64)) -> Result<(), TestCaseError> {
        let job = JobId([if b % 2 == 0 { b'J' } else { b'K' }; 16]);
        let processes = self.all_processes();
        let process = processes.get(a % processes.len().max(1)).map(|(id, ..)| *id);
        let slot = Slot(b as u32 % 4);
        let request = match kind {
            0..=39 => return self.helps().map(drop),
            40 | 41 => return self.connect(a, false),
            42 => return self.connect(a, true),
            43 => {
                let id = TaskManagerId(HOSTS[a % HOSTS.len()].0.to_owned());
                let actions = self.world.disconnect(&id);
                return self.check(&format!("disconnect {id}"), actions);
            }
            44..=46 => Request::Run(Box::new(world::run(job, Some(1 + a as u32 % 4)))),
            47 => return self.describe(if b > 2 { Ok(()) } else { Err(Error::job("no")) }),
            48..=52 => return self.commit(),
            53 => {
                let why = || "bits".to_owned();
                let read =
                    if b > 3 { SnapshotRead::Damaged(why()) } else { SnapshotRead::Unavailable(why()) };
                return self.read(Some(read));
            }
            54 => {
                let error = NotWritten { reason: "full".to_owned(), is_certain: a % 2 == 0 };
                return self.write(Err(error));
            }
            55 => {
                return self.save(if b > 4 { Ok("/s".to_owned()) } else { Err(Error::environment("full")) });
            }
            56 => Request::Savepoint { job, directory: "/s".to_owned() },
            57 => {
                let savepoint = (b > 3).then(|| "/s".to_owned());
                Request::Stop { job, drain: a % 2 == 0, savepoint }
            }
            58 if b > 6 => Request::Cancel(job),
            59 => Request::Rescale { job, parallelism: a as u32 % 7, auto: b > 5 },
            60..=62 => return self.wait(Some(50 * b)),
            63..=66 => return self.wait(None),
            67 | 68 => {
                self.world.restart();
                self.log.push("restart".to_owned());
                // A new brain knows of those that are complete, and of those of attempts that it adopts.
                self.triggered.clear();
                return Ok(());
            }
            69 => return process.map_or(Ok(()), |id| self.exit(id)),
            70 => {
                let error = if b > 5 { Error::job("no") } else { Error::environment("broken") };
                return process.map_or(Ok(()), |id| self.report(id, Report::Failed(error)));
            }
            _ => {
                let report = noise(kind, slot, Epoch(a as u64 % 9));
                return process.map_or(Ok(()), |id| match report {
                    Ok(report) => self.report(id, report),
                    Err(message) => self.say(id, message),
                });
            }
        };
        let what = format!("{request:?}");
        let actions = self.world.request(request);
        self.check(&what[..what.len().min(60)], actions)
    }
}

/// A message of a process that may come at a wrong time.
fn noise(kind: u8, slot: Slot, epoch: Epoch) -> Result<Report, FromJobProcess> {
    match kind % 10 {
        0 => Ok(Report::Acked { slot, epoch, part: Box::default() }),
        1 => Ok(Report::Declined { slot, epoch, reason: "full".to_owned() }),
        2 => Ok(Report::SourcesEnded(slot)),
        3 => Ok(Report::Partitions { source: "in".to_owned(), names: vec![format!("p{epoch}")] }),
        4 => Ok(Report::Done(slot)),
        5 => Err(FromJobProcess::Damaged { epoch, why: "bits".to_owned() }),
        6 => Err(FromJobProcess::Note { warning: true, text: "slow".to_owned() }),
        7 => Err(FromJobProcess::Pong),
        8 => Err(FromJobProcess::Listening { port: 2 }),
        _ => Ok(Report::Published { slot: Slot(9), epoch }),
    }
}

/// The job that an action changes something about.
fn job_of(action: &ClusterAction) -> Option<JobId> {
    match action {
        ClusterAction::Send(_, ToTaskManager::Launch { preparation, .. }) => Some(preparation.job),
        ClusterAction::Send(_, ToTaskManager::ToProcess { process, .. }) => Some(process.job),
        ClusterAction::Send(..) | ClusterAction::Answer(..) => None,
        // The first record about an end counts, and others may be on their way.
        ClusterAction::Propose(record) => Some(record.job()),
        ClusterAction::Store(job, _) | ClusterAction::Copy(job, _) | ClusterAction::Note { job, .. } => {
            Some(*job)
        }
    }
}

fn run(steps: Vec<(u8, usize, u64)>) -> Result<(), TestCaseError> {
    let mut checked = Checked::new();
    for step in steps {
        checked.act(step)?;
    }
    checked.rest()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold_and_jobs_come_to_rest(
        steps in proptest::collection::vec((0u8..81, 0usize..24, 0u64..10), 0..200),
    ) {
        run(steps)?;
    }
}

#[test]
fn an_input_takes_little_time_with_many_jobs() {
    let mut world = World::new();
    for i in 0..50 {
        let id = TaskManagerId(format!("tm-{i}"));
        world.hosts.entry(id.clone()).or_default().slots = 4;
        world.connect(&id);
    }
    let id = |i: u8| JobId([i; 16]);
    for job in 0..200 {
        world.request(Request::Run(Box::new(world::run(id(job), Some(if job < 100 { 1 } else { 2 })))));
        let (host, request) = world.describing.pop_front().expect("a plan is wanted");
        let result = Ok(Box::new(world::plan(&[])));
        world.step(ClusterInput::FromTaskManager(host, FromTaskManager::Described { request, result }));
        while let Some(record) = world.proposed.pop_front() {
            world.step(ClusterInput::Committed(record));
        }
    }
    let waiting =
        (0..200).filter_map(|job| world.brain.job(id(job))).filter(|view| view.processes.is_empty());
    assert_eq!(waiting.count(), 50);
    for _ in 0..2_000 {
        world.advance_time(1);
        world.step(ClusterInput::Tick);
    }
}
