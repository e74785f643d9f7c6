//! Scenarios of a cluster as golden scripts: every file of `tests/cluster_scenarios` is what happens, a command each, then
//! `---`, then what the brain answered. `UPDATE_GOLDENFILES=1` writes the answers anew.
//!
//! A script names only what matters to it: a command that has to do with a job is about `J` unless it says `of=K`, and
//! about the newest attempt unless it says `attempt=1`; a report without slots is one of all workers. The records that are
//! proposed, the manifests that are to be written and so on wait until the script says what becomes of the oldest one.
//! `running`, `again` and `checkpoint` do many steps at once.
//!
//! After every step a tick at the same time must change nothing, and the deadline must lie in the future.

#[path = "cluster_world/mod.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use goldenscript::{Block, Context};
use tidegate_control::cluster::{ClusterAction, ClusterInput, NotWritten, Request, SnapshotRead};
use tidegate_protocol::link::{Report, ToDriver};
use tidegate_protocol::manifest::{FORMAT_VERSION, OperatorSnapshot, PartitionSnapshot, SlotSnapshot};
use tidegate_protocol::process::FromJobProcess;
use tidegate_protocol::taskmanager::{FromTaskManager, HowEnded, ProcessId};
use tidegate_protocol::{Attempt, Epoch, JobId, JobState, KeyGroups, Manifest, Plan, Slot, TaskManagerId};

use world::{World, show};

type Answer = Result<String, Box<dyn Error>>;

#[test]
fn cluster_scenarios_give_the_golden_answers() {
    let scripts = scripts();
    let run = |script: &PathBuf| {
        let ran = std::panic::catch_unwind(|| goldenscript::run(&mut Runner(World::new()), script));
        let failed = match ran {
            Ok(ran) => ran.err()?.to_string(),
            Err(_) => "it differs from what was expected".to_owned(),
        };
        Some(format!("{}: {failed}", script.display()))
    };
    let failed: Vec<String> = scripts.iter().filter_map(run).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(scripts.len() >= 40, "the scenarios are gone");
}

fn scripts() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new("tests/cluster_scenarios")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    scripts.sort();
    scripts
}

/// A job by its letter.
#[derive(Clone, Copy)]
struct Job(JobId);

impl Default for Job {
    fn default() -> Self {
        Self(JobId([b'J'; 16]))
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [letter] => Ok(Self(JobId([*letter; 16]))),
            _ => Err(format!("a job is a letter, and not {text}")),
        }
    }
}

/// Words with spaces in between.
#[derive(Clone, Default)]
struct Words(Vec<String>);

impl FromStr for Words {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }
}

/// A command of a script.
#[derive(goldenscript::Command)]
enum Command {
    // ---- many steps ----
    /// Taskmanagers connect, and a job is submitted and runs. Example: running J on="a=2 b=2" parallelism=4
    Running {
        job: Job,
        #[arg(key, optional)]
        on: Words,
        #[arg(key)]
        parallelism: Option<u32>,
        #[arg(key)]
        retain: Option<usize>,
        #[arg(key)]
        interval: Option<u64>,
        #[arg(key, optional)]
        partitions: Words,
    },
    /// Everything happens that is needed until the job runs.
    Again {
        #[arg(key, optional)]
        of: Job,
    },
    /// One checkpoint from its trigger to its end, or several.
    Checkpoint {
        #[arg(key, optional)]
        of: Job,
        #[arg(key)]
        times: Option<u32>,
    },

    // ---- taskmanagers ----
    /// A taskmanager connects, with the processes that it has; or without, if it is empty. Example: connect a slots=2
    Connect {
        taskmanager: String,
        #[arg(key)]
        slots: Option<u32>,
        #[arg(key, optional)]
        empty: bool,
    },
    Disconnect(String),
    /// The oldest request for a plan is answered.
    Described {
        #[arg(key)]
        error: Option<String>,
        #[arg(key, optional)]
        partitions: Words,
    },
    /// A process has ended. Example: exited 0 how="was killed by signal 9"
    Exited {
        first: u32,
        #[arg(key)]
        how: String,
        /// Its own code has ended it.
        #[arg(key, optional)]
        by_itself: bool,
        #[arg(key)]
        attempt: Option<u32>,
        #[arg(key, optional)]
        of: Job,
    },

    // ---- processes ----
    Started(u32),
    Listening {
        #[arg(optional)]
        firsts: Vec<u32>,
        #[arg(key)]
        attempt: Option<u32>,
        #[arg(key, optional)]
        of: Job,
    },
    Prepared {
        #[arg(key, optional)]
        partitions: Words,
        #[arg(key, optional)]
        of: Job,
    },
    Ready {
        #[arg(optional)]
        slots: Vec<u32>,
        #[arg(key)]
        attempt: Option<u32>,
        #[arg(key, optional)]
        of: Job,
    },
    /// Workers have written their part of the checkpoint in flight. Example: ack 0 epoch=1
    Ack {
        #[arg(optional)]
        slots: Vec<u32>,
        #[arg(key)]
        epoch: Option<u64>,
        #[arg(key)]
        attempt: Option<u32>,
        #[arg(key, optional)]
        of: Job,
        #[arg(key, optional)]
        partitions: Words,
    },
    Decline {
        slot: u32,
        #[arg(key)]
        because: String,
    },
    /// The workers have published the newest snapshot.
    Published {
        #[arg(optional)]
        slots: Vec<u32>,
        #[arg(key)]
        epoch: Option<u64>,
        #[arg(key)]
        attempt: Option<u32>,
        #[arg(key, optional)]
        of: Job,
    },
    /// The sources of workers have ended.
    Ended {
        #[arg(optional)]
        slots: Vec<u32>,
    },
    /// A source has these partitions now.
    Partitions(Vec<String>),
    /// A process reports an error; of the job, unless it says environment=true.
    Failed {
        first: u32,
        #[arg(key)]
        error: String,
        #[arg(key, optional)]
        environment: bool,
        #[arg(key)]
        attempt: Option<u32>,
    },
    /// A process cannot use the snapshot.
    Damaged {
        first: u32,
        #[arg(key)]
        epoch: u64,
    },

    // ---- the ledger and the checkpoint store ----
    /// The oldest proposed records are durable.
    Committed(Option<u32>),
    /// The oldest manifest is written, or not.
    Written {
        #[arg(key)]
        error: Option<String>,
        #[arg(key, optional)]
        perhaps: bool,
    },
    /// The oldest snapshot is read, or not.
    Read {
        #[arg(key)]
        damaged: Option<String>,
        #[arg(key)]
        away: Option<String>,
    },
    /// The oldest savepoint is made, or not.
    Saved {
        #[arg(key)]
        error: Option<String>,
    },
    Imported {
        #[arg(key)]
        epoch: u64,
        #[arg(key)]
        attempt: u32,
    },

    // ---- users ----
    Submit {
        job: Job,
        #[arg(key)]
        parallelism: Option<u32>,
        #[arg(key)]
        from: Option<String>,
        #[arg(key)]
        restarts: Option<u32>,
    },
    Savepoint(Job),
    /// Example: stop J drain=true savepoint=/s
    Stop {
        job: Job,
        #[arg(key, optional)]
        drain: bool,
        #[arg(key)]
        savepoint: Option<String>,
    },
    Cancel(Job),
    Rescale {
        job: Job,
        parallelism: u32,
        #[arg(key)]
        auto: Option<bool>,
    },
    Info(Job),
    Operation {
        job: Job,
        number: u64,
    },

    // ---- time ----
    /// Milliseconds pass; without a number, those until the deadline.
    Wait(Option<u64>),
    /// The jobmanager is killed and started again. Records that were proposed are lost.
    Restart,
}

/// A command, and how it is written.
struct Line {
    text: String,
    command: Command,
}

impl TryFrom<&goldenscript::Command> for Line {
    type Error = Box<dyn Error>;

    fn try_from(command: &goldenscript::Command) -> Result<Self, Self::Error> {
        Ok(Self { text: command.to_string(), command: command.try_into()? })
    }
}

struct Runner(World);

impl goldenscript::Runner for Runner {
    type Command = Line;

    fn run(&mut self, line: &Line, _: &Context) -> Answer {
        Ok(format!("{:<22} -> {}", line.text, self.answer(&line.command)?))
    }

    fn end_block(&mut self, _: &Block) -> Answer {
        let jobs = self.0.brain.ledger().jobs.keys();
        let jobs: Vec<String> = jobs.map(|job| show::job(&self.0.brain, *job)).collect();
        let deadline = self.0.brain.deadline().map(|at| at.since_ms(self.0.now.time));
        let deadline = deadline.map_or("no deadline".to_owned(), |ms| format!("deadline in {ms} ms"));
        let jobs = if jobs.is_empty() { "no job".to_owned() } else { jobs.join("; ") };
        Ok(format!("{:<22} -> {jobs}; {deadline}", "end"))
    }
}

impl Runner {
    fn answer(&mut self, command: &Command) -> Answer {
        match command {
            Command::Running { job, on, parallelism, retain, interval, partitions } => {
                for place in &on.0 {
                    let (id, slots) = place.split_once('=').ok_or("on=\"a=2 b=2\"")?;
                    self.host(id, Some(slots.parse()?), false);
                    self.0.connect(&TaskManagerId(id.to_owned()));
                }
                let mut run = world::run(job.0, *parallelism);
                (run.retain, run.interval_ms) = (*retain, *interval);
                self.0.request(Request::Run(Box::new(run)));
                self.described(&None, partitions)?;
                self.again(job.0)
            }
            Command::Again { of } => self.again(of.0),
            Command::Checkpoint { of, times } => {
                for _ in 0..times.unwrap_or(1) {
                    self.checkpoint(of.0)?;
                }
                Ok(show::job(&self.0.brain, of.0))
            }
            Command::Connect { taskmanager, slots, empty } => {
                self.host(taskmanager, *slots, *empty);
                let actions = self.0.connect(&TaskManagerId(taskmanager.clone()));
                self.checked(actions)
            }
            Command::Disconnect(taskmanager) => {
                let actions = self.0.disconnect(&TaskManagerId(taskmanager.clone()));
                self.checked(actions)
            }
            Command::Described { error, partitions } => self.described(error, partitions),
            Command::Imported { epoch, attempt } => {
                let job = self.0.importing.pop_front().ok_or("no import is under way")?;
                let manifest = Arc::new(manifest(&world::plan(&[]), Epoch(*epoch), Attempt(*attempt)));
                self.0.manifests.insert((job, Epoch(*epoch)), manifest.clone());
                self.step(ClusterInput::Imported { job, result: Ok(manifest) })
            }
            Command::Info(job) => Ok(show::job(&self.0.brain, job.0)),
            Command::Operation { job, number } => Ok(show::operation(self.0.brain.operation(job.0, *number))),
            Command::Wait(ms) => {
                let until = self.0.brain.deadline().map(|at| at.since_ms(self.0.now.time));
                self.0.advance_time(ms.or(until).ok_or("there is no deadline")?);
                self.step(ClusterInput::Tick)
            }
            Command::Restart => {
                self.0.restart();
                self.step(ClusterInput::Tick)
            }
            Command::Committed(count) => {
                let mut actions = Vec::new();
                for _ in 0..count.unwrap_or(1) {
                    let record = self.0.proposed.pop_front().ok_or("no record is proposed")?;
                    actions.extend(self.0.step(ClusterInput::Committed(record)));
                }
                self.checked(actions)
            }
            Command::Written { .. } | Command::Read { .. } | Command::Saved { .. } => self.store(command),
            Command::Submit { .. }
            | Command::Savepoint(_)
            | Command::Stop { .. }
            | Command::Cancel(_)
            | Command::Rescale { .. } => self.user(command),
            Command::Exited { .. }
            | Command::Started(_)
            | Command::Listening { .. }
            | Command::Prepared { .. }
            | Command::Ready { .. }
            | Command::Ack { .. }
            | Command::Decline { .. }
            | Command::Published { .. }
            | Command::Ended { .. }
            | Command::Partitions(_)
            | Command::Failed { .. }
            | Command::Damaged { .. } => self.process(command),
        }
    }

    fn host(&mut self, id: &str, slots: Option<u32>, empty: bool) {
        let host = self.0.hosts.entry(TaskManagerId(id.to_owned())).or_default();
        host.slots = slots.unwrap_or(host.slots);
        if empty {
            host.processes.clear();
        }
    }

    fn user(&mut self, command: &Command) -> Answer {
        let request = match command {
            Command::Submit { job, parallelism, from, restarts } => {
                let mut run = world::run(job.0, *parallelism);
                run.snapshot.clone_from(from);
                run.settings.restart_limit = restarts.unwrap_or(run.settings.restart_limit);
                Request::Run(Box::new(run))
            }
            Command::Savepoint(job) => Request::Savepoint { job: job.0, directory: "/s".to_owned() },
            Command::Stop { job, drain, savepoint } => {
                Request::Stop { job: job.0, drain: *drain, savepoint: savepoint.clone() }
            }
            Command::Cancel(job) => Request::Cancel(job.0),
            Command::Rescale { job, parallelism, auto } => {
                Request::Rescale { job: job.0, parallelism: *parallelism, auto: auto.unwrap_or(false) }
            }
            _ => return Err("not a request of a user".into()),
        };
        let actions = self.0.request(request);
        self.checked(actions)
    }

    fn store(&mut self, command: &Command) -> Answer {
        match command {
            Command::Written { error, perhaps } => {
                let (job, manifest) = self.0.writing.pop_front().ok_or("no manifest is to be written")?;
                let epoch = manifest.epoch;
                let result = match error {
                    None => {
                        self.0.manifests.insert((job, epoch), manifest);
                        Ok(())
                    }
                    Some(reason) => Err(NotWritten { reason: reason.clone(), is_certain: !perhaps }),
                };
                self.step(ClusterInput::ManifestWritten { job, epoch, result })
            }
            Command::Read { damaged, away } => {
                let (job, epoch) = self.0.reading.pop_front().ok_or("no snapshot is to be read")?;
                let published = self.0.published.get(&job).copied().unwrap_or_default();
                let read = match (damaged, away, self.0.manifests.get(&(job, epoch))) {
                    (Some(why), ..) => SnapshotRead::Damaged(why.clone()),
                    (None, Some(why), _) => SnapshotRead::Unavailable(why.clone()),
                    (None, None, Some(manifest)) => SnapshotRead::Read(manifest.clone(), published),
                    (None, None, None) => SnapshotRead::Damaged("it is gone".to_owned()),
                };
                self.step(ClusterInput::SnapshotRead { job, epoch, read })
            }
            Command::Saved { error } => {
                let (job, operation, epoch, to) =
                    self.0.saving.pop_front().ok_or("no savepoint is to be made")?;
                let result = match error {
                    None => Ok(format!("{to}/{epoch}")),
                    Some(error) => Err(tidegate_protocol::Error::environment(error.clone())),
                };
                self.step(ClusterInput::SavepointWritten { job, operation, result })
            }
            _ => Err("not an event of the store".into()),
        }
    }

    fn process(&mut self, command: &Command) -> Answer {
        let j = Job::default();
        match command {
            Command::Exited { first, how, by_itself, attempt, of } => {
                let (process, how) =
                    (self.id(*of, *attempt, *first), HowEnded { text: how.clone(), by_itself: *by_itself });
                let host = self.0.host_of(process).or_else(|| self.0.hosts.keys().next().cloned());
                let host = host.ok_or("there is no taskmanager")?;
                self.0.hosts.values_mut().for_each(|host| drop(host.processes.remove(&process)));
                let message = FromTaskManager::Exited { process, how };
                self.step(ClusterInput::FromTaskManager(host, message))
            }
            Command::Started(first) => {
                let process = self.id(j, None, *first);
                let host = self.0.host_of(process).ok_or("there is no such process")?;
                let message = FromTaskManager::Started { process, pid: 100 + first };
                self.step(ClusterInput::FromTaskManager(host, message))
            }
            Command::Listening { firsts, attempt, of } => {
                let all = self.processes(of.0, self.attempt(of.0, *attempt));
                let all =
                    all.iter().map(|id| id.first.0).filter(|it| firsts.is_empty() || firsts.contains(it));
                let port = |first: u32| FromJobProcess::Listening { port: 1_000 + first as u16 };
                let said = all.map(|first| (first, port(first))).collect();
                self.say(*of, *attempt, said)
            }
            Command::Prepared { partitions, of } => {
                let partitions = BTreeMap::from([("in".to_owned(), partitions_or(partitions))]);
                self.say(*of, None, vec![(0, FromJobProcess::Prepared { partitions })])
            }
            Command::Damaged { first, epoch } => {
                let why = "the checksum of a state file is wrong".to_owned();
                self.say(j, None, vec![(*first, FromJobProcess::Damaged { epoch: Epoch(*epoch), why })])
            }
            Command::Ready { slots, attempt, of } => self.report(*of, *attempt, slots, Report::Ready),
            Command::Ack { slots, epoch, attempt, of, partitions } => {
                let in_flight = self.0.brain.job(of.0).and_then(|job| job.in_flight);
                let epoch =
                    epoch.map(Epoch).or(in_flight.map(|it| it.0)).ok_or("no checkpoint is in flight")?;
                let part = part(&partitions.0);
                self.report(*of, *attempt, slots, |slot| Report::Acked {
                    slot,
                    epoch,
                    part: Box::new(part.clone()),
                })
            }
            Command::Decline { slot, because } => {
                let in_flight = self.0.brain.job(j.0).and_then(|job| job.in_flight);
                let epoch = in_flight.ok_or("no checkpoint is in flight")?.0;
                let reason = because.clone();
                self.report(j, None, &[*slot], |slot| Report::Declined {
                    slot,
                    epoch,
                    reason: reason.clone(),
                })
            }
            Command::Published { slots, epoch, attempt, of } => {
                let newest = self.0.brain.job(of.0).and_then(|job| job.last_epoch);
                let epoch = epoch.map(Epoch).or(newest).ok_or("there is no snapshot")?;
                self.report(*of, *attempt, slots, |slot| Report::Published { slot, epoch })
            }
            Command::Ended { slots } => self.report(j, None, slots, Report::SourcesEnded),
            Command::Partitions(names) => {
                let report = |_| Report::Partitions { source: "in".to_owned(), names: names.clone() };
                self.report(j, None, &[0], report)
            }
            Command::Failed { first, error, environment, attempt } => {
                let error = match environment {
                    true => tidegate_protocol::Error::environment(error.clone()),
                    false => tidegate_protocol::Error::job(error.clone()),
                };
                self.report(j, *attempt, &[*first], |_| Report::Failed(error.clone()))
            }
            _ => Err("not an event of a process".into()),
        }
    }

    /// The processes of an attempt that run.
    fn processes(&self, job: JobId, attempt: Attempt) -> Vec<ProcessId> {
        let all = self.0.hosts.values().flat_map(|host| host.processes.keys());
        let ours = all.filter(|id| id.job == job && id.attempt == attempt);
        ours.copied().collect::<BTreeSet<ProcessId>>().into_iter().collect()
    }

    fn attempt(&self, job: JobId, attempt: Option<u32>) -> Attempt {
        let current = self.0.brain.ledger().jobs.get(&job).map(|facts| facts.attempt);
        attempt.map(Attempt).or(current).unwrap_or_default()
    }

    fn id(&self, job: Job, attempt: Option<u32>, first: u32) -> ProcessId {
        ProcessId { job: job.0, attempt: self.attempt(job.0, attempt), first: Slot(first) }
    }

    /// Reports of workers; of all of them if none is named.
    fn report(
        &mut self,
        of: Job,
        attempt: Option<u32>,
        slots: &[u32],
        report: impl Fn(Slot) -> Report,
    ) -> Answer {
        let number = self.attempt(of.0, attempt);
        let mut said = Vec::new();
        for process in self.processes(of.0, number) {
            let host = self.0.host_of(process).and_then(|host| self.0.hosts.get_mut(&host));
            let running =
                host.and_then(|host| host.processes.get_mut(&process)).ok_or("a process is gone")?;
            let own = process.first.0..process.first.0 + running.workers;
            for slot in own.filter(|slot| slots.is_empty() || slots.contains(slot)).map(Slot) {
                let report = report(slot);
                match report {
                    Report::Ready(slot) => running.ready.push(slot),
                    Report::SourcesEnded(slot) => running.ended.push(slot),
                    _ => {}
                }
                said.push((process.first.0, FromJobProcess::Report(ToDriver { attempt: number, report })));
            }
        }
        // A zombie may run where the world has none.
        if said.is_empty() {
            let zombie = |slot: &u32| {
                (*slot, FromJobProcess::Report(ToDriver { attempt: number, report: report(Slot(*slot)) }))
            };
            said = slots.iter().map(zombie).collect();
        }
        self.say(of, attempt, said)
    }

    /// Messages of processes.
    fn say(&mut self, of: Job, attempt: Option<u32>, said: Vec<(u32, FromJobProcess)>) -> Answer {
        let mut actions = Vec::new();
        for (first, message) in said {
            let process = self.id(of, attempt, first);
            let host = self.0.host_of(process).or_else(|| self.0.hosts.keys().next().cloned());
            let host = host.ok_or("there is no taskmanager")?;
            if self.0.hosts.get(&host).is_some_and(|host| host.connected) {
                let message = FromTaskManager::FromProcess { process, message: Box::new(message) };
                actions.extend(self.0.step(ClusterInput::FromTaskManager(host, message)));
            }
        }
        self.checked(actions)
    }

    fn described(&mut self, error: &Option<String>, partitions: &Words) -> Answer {
        let (id, request) = self.0.describing.pop_front().ok_or("no plan is wanted")?;
        let result = match error {
            None => Ok(Box::new(world::plan(&partitions_or(partitions)))),
            Some(error) => Err(tidegate_protocol::Error::job(error.clone())),
        };
        self.step(ClusterInput::FromTaskManager(id, FromTaskManager::Described { request, result }))
    }

    /// Lets everything happen that is needed until the job runs.
    fn again(&mut self, job: JobId) -> Answer {
        let of = Job(job);
        let is_running =
            |world: &World| world.brain.job(job).is_some_and(|view| view.state == JobState::Running);
        for _ in 0..20 {
            if is_running(&self.0) {
                return Ok(show::job(&self.0.brain, job));
            }
            if !self.0.proposed.is_empty() {
                self.answer(&Command::Committed(None))?;
            } else if !self.0.reading.is_empty() {
                self.store(&Command::Read { damaged: None, away: None })?;
            } else if self.processes(job, self.attempt(job, None)).is_empty() {
                self.answer(&Command::Wait(None))?;
            } else {
                self.process(&Command::Listening { firsts: Vec::new(), attempt: None, of })?;
                self.process(&Command::Prepared { partitions: Words::default(), of })?;
                self.process(&Command::Ready { slots: Vec::new(), attempt: None, of })?;
            }
        }
        Err(format!("the job does not run: {}", show::job(&self.0.brain, job)).into())
    }

    fn checkpoint(&mut self, job: JobId) -> Answer {
        let of = Job(job);
        let in_flight = |world: &World| world.brain.job(job).and_then(|view| view.in_flight);
        for _ in 0..10 {
            if in_flight(&self.0).is_some() {
                break;
            }
            self.answer(&Command::Wait(None))?;
        }
        self.process(&Command::Ack {
            slots: vec![],
            epoch: None,
            attempt: None,
            of,
            partitions: Words::default(),
        })?;
        self.store(&Command::Written { error: None, perhaps: false })?;
        self.answer(&Command::Committed(None))?;
        self.process(&Command::Published { slots: vec![], epoch: None, attempt: None, of })
    }

    fn step(&mut self, input: ClusterInput) -> Answer {
        let actions = self.0.step(input);
        self.checked(actions)
    }

    /// What the brain wants done, after a check that it has forgotten nothing.
    fn checked(&mut self, actions: Vec<ClusterAction>) -> Answer {
        let forgotten = self.0.step(ClusterInput::Tick);
        if !forgotten.is_empty() {
            return Err(format!("a tick brings more: {}", show::actions(&forgotten)).into());
        }
        if self.0.brain.deadline().is_some_and(|at| at <= self.0.now.time) {
            return Err("the deadline is over".into());
        }
        Ok(show::actions(&actions))
    }
}

fn partitions_or(given: &Words) -> Vec<String> {
    if given.0.is_empty() { (0..4).map(|i| format!("p{i}")).collect() } else { given.0.clone() }
}

/// What a worker wrote, with these partitions.
fn part(partitions: &[String]) -> SlotSnapshot {
    let partitions = partitions.iter().map(|name| (name.clone(), PartitionSnapshot::default())).collect();
    let operator = OperatorSnapshot { partitions, ..OperatorSnapshot::default() };
    SlotSnapshot { store: BTreeMap::new(), operators: [("in".to_owned(), operator)].into() }
}

/// The manifest of a snapshot without files.
fn manifest(plan: &Plan, epoch: Epoch, attempt: Attempt) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        job: plan.job.clone(),
        attempt,
        epoch,
        finished: false,
        checkpoints: epoch.0,
        completed_at_ms: 0,
        parallelism: 1,
        key_groups: KeyGroups { count: plan.max_parallelism },
        arguments: BTreeMap::new(),
        operators: plan.operators.clone(),
        slots: BTreeMap::new(),
    }
}
