//! The users: each submits a job, asks for savepoints, another parallelism, and sometimes the end; and looks what has become
//! of that. Whoever gets no answer, because the jobmanager has died, asks again.

use std::collections::BTreeMap;

use tidegate_control::cluster::{
    Answer, ClusterInput, JobSettings, OperationView, Request, RequestId, RunJob,
};
use tidegate_protocol::manifest::OperatorEntry;
use tidegate_protocol::plan::{PLAN_VERSION, PlanSettings};
use tidegate_protocol::taskmanager::Program;
use tidegate_protocol::{Error, Plan, SourcePlan};

use crate::config::JobConfig;
use crate::outside::Outside;
use crate::queue::Event;
use crate::world::World;

/// What a user can want of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Run,
    Savepoint,
    Rescale { parallelism: u32, auto: bool },
    Stop { drain: bool, savepoint: bool },
    Cancel,
}

/// How far a wish is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// To be asked for, at that time.
    Wanted(u64),
    /// Asked for, from the jobmanager of that life.
    Asked(u64),
    /// An operation goes on.
    Operation(u64),
    /// Nothing more is to come: the operation's end, or None for something without one.
    Done(Option<OperationView>),
    /// It was refused.
    Refused,
    /// The jobmanager that knew of it has died, and the next one does not know.
    Forgotten,
}

/// A user of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) wishes: Vec<(Want, Progress)>,
    /// What has no answer yet: the wish, and the life of the jobmanager that was asked.
    pub(crate) requests: BTreeMap<RequestId, (usize, u64)>,
}

impl User {
    /// Whether the job was asked to end.
    pub(crate) fn has_ended_it(&self) -> bool {
        let ends = |(want, progress): &&(Want, Progress)| {
            let accepted = !matches!(progress, Progress::Wanted(_));
            accepted && matches!(want, Want::Stop { .. } | Want::Cancel)
        };
        self.wishes.iter().any(|wish| ends(&wish))
    }

    pub(crate) fn is_submitted(&self) -> bool {
        self.wishes.iter().any(|(want, progress)| *want == Want::Run && matches!(progress, Progress::Done(_)))
    }
}

impl World {
    /// A user has an idea.
    pub(crate) fn user_acts(&mut self, job: usize) {
        if self.is_healed {
            return;
        }
        let now = self.now;
        let want = if self.users[job].wishes.is_empty() {
            Some(Want::Run)
        } else if self.users[job].is_submitted() && !self.users[job].has_ended_it() {
            self.idea(job)
        } else {
            None
        };
        self.users[job].wishes.extend(want.map(|want| (want, Progress::Wanted(now))));
        let next = self.random.between(100, 8_000);
        self.after(next, Event::UserActs { job });
        self.ask(job);
    }

    fn idea(&mut self, job: usize) -> Option<Want> {
        let config = &self.config.jobs[job];
        let (most, may_be_auto) = (config.parallelism_max, config.auto_parallelism);
        let savepoint = self.random.chance(500);
        Some(match self.random.below(100) {
            0..40 => Want::Savepoint,
            40..65 => Want::Rescale {
                parallelism: self.random.between(1, most.into()) as u32,
                auto: may_be_auto && self.random.chance(700),
            },
            65..71 => Want::Stop { drain: false, savepoint },
            71..77 => Want::Stop { drain: true, savepoint },
            77..80 => Want::Cancel,
            _ => return None,
        })
    }

    pub(crate) fn user_looks(&mut self, job: usize) {
        self.look_at_operations(job);
        self.ask(job);
        self.after(400, Event::UserLooks { job });
    }

    /// Asks for what was not asked for yet, or of a jobmanager that has died.
    fn ask(&mut self, job: usize) {
        let Some(life) = self.jobmanager.as_ref().map(|jobmanager| jobmanager.life) else { return };
        if self.jobmanager_stopped_until > self.now {
            return;
        }
        for wish in 0..self.users[job].wishes.len() {
            let is_impatient = !self.is_healed && self.random.chance(20);
            let is_due = match self.users[job].wishes[wish].1 {
                Progress::Wanted(at) => at <= self.now,
                Progress::Asked(of) => {
                    of != life || is_impatient && self.users[job].wishes[wish].0 == Want::Run
                }
                _ => false,
            };
            if is_due && let Some(request) = self.request(job, wish) {
                let id = RequestId(self.random.next());
                self.users[job].wishes[wish].1 = Progress::Asked(life);
                self.users[job].requests.insert(id, (wish, life));
                self.brain(ClusterInput::Request(id, request));
                if self.jobmanager.is_none() {
                    return;
                }
            }
        }
    }

    fn request(&mut self, number: usize, wish: usize) -> Option<Request> {
        let config = self.config.jobs[number].clone();
        let (job, directory) = (config.id, format!("savepoints/{}", number));
        Some(match self.users[number].wishes[wish].0.clone() {
            Want::Run => Request::Run(Box::new(self.run_job(number, &config)?)),
            Want::Savepoint => Request::Savepoint { job, directory },
            Want::Rescale { parallelism, auto } => Request::Rescale { job, parallelism, auto },
            Want::Stop { drain, savepoint } => {
                Request::Stop { job, drain, savepoint: savepoint.then_some(directory) }
            }
            Want::Cancel => Request::Cancel(job),
        })
    }

    /// The submission; None if the savepoint that the job is to go on from is not there yet.
    fn run_job(&self, number: usize, config: &JobConfig) -> Option<RunJob> {
        let of_first = |path: &&String| path.starts_with("savepoints/0/");
        let snapshot = self.store.savepoints.keys().filter(of_first).max().cloned();
        if config.imports && snapshot.is_none() && self.now < config.submitted_at + 15_000 {
            return None;
        }
        Some(RunJob {
            job: config.id,
            program: Program {
                name: "job".to_owned(),
                sha256: String::new(),
                path: number.to_string(),
                arguments: Vec::new(),
                directory: None,
            },
            parallelism: Some(config.parallelism),
            snapshot: snapshot.filter(|_| config.imports),
            allow_non_restored_state: false,
            name: None,
            interval_ms: Some(config.interval_ms),
            retain: Some(config.retain),
            settings: JobSettings {
                auto_parallelism: config.auto_parallelism,
                interval_ms: 0,
                retain: 0,
                ..JobSettings::default()
            },
        })
    }

    /// The brain answers.
    pub(crate) fn answered(&mut self, request: RequestId, answer: Result<Answer, Error>) {
        let now = self.now;
        for user in &mut self.users {
            let Some((wish, _)) = user.requests.remove(&request) else { continue };
            if answer.is_err() && user.requests.values().any(|(other, _)| *other == wish) {
                // Another request for the same is under way, which has taken its place.
                return;
            }
            let Some((want, progress)) = user.wishes.get_mut(wish) else { continue };
            *progress = match answer {
                Ok(Answer::Operation(number)) => Progress::Operation(number),
                Ok(_) => Progress::Done(None),
                // A snapshot of a finished job, or one that is gone, is no reason to ask again.
                Err(error) if *want != Want::Run || error.kind() == tidegate_protocol::ErrorKind::Job => {
                    Progress::Refused
                }
                Err(_) => Progress::Wanted(now + 500),
            };
            return;
        }
    }

    fn look_at_operations(&mut self, job: usize) {
        let (id, life) = (self.config.jobs[job].id, self.jobmanager_life);
        let Some(jobmanager) = &self.jobmanager else { return };
        let user = &mut self.users[job];
        for (_, progress) in &mut user.wishes {
            let Progress::Operation(number) = *progress else { continue };
            match jobmanager.brain.operation(id, number) {
                Some(OperationView::InProgress(_)) => {}
                Some(over) => *progress = Progress::Done(Some(over)),
                // Numbers begin anew with every jobmanager.
                None => *progress = Progress::Forgotten,
            }
        }
        user.requests.retain(|_, (_, of)| *of == life);
    }
}

/// The plan of a job.
pub(crate) fn plan(job: &JobConfig, now: u64) -> Plan {
    let outside = Outside::new(job.bounded, job.partitions);
    let operator = |kind: &str, uri: &str| OperatorEntry {
        kind: kind.to_owned(),
        uri: Some(uri.to_owned()),
        ..OperatorEntry::default()
    };
    let source = SourcePlan { bounded: job.bounded.is_some(), partitions: outside.partitions(now) };
    Plan {
        plan_version: PLAN_VERSION,
        job: "job".to_owned(),
        max_parallelism: 128,
        operators: [
            ("in".to_owned(), operator("source", "/in")),
            ("out".to_owned(), operator("sink", "/out")),
        ]
        .into(),
        sources: [("in".to_owned(), source)].into(),
        settings: PlanSettings::default(),
        ..Plan::default()
    }
}
