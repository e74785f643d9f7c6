//! The brain of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_protocol::taskmanager::{FromTaskManager, Program, Registration, ToTaskManager};
use tidegate_protocol::{Error, JobId, Manifest, Plan, TaskManagerId};

use super::action::{Answer, ClusterAction, CopyAction};
use super::attempt::Context;
use super::deadlines::Deadlines;
use super::input::{ClusterInput, Now, Request, RequestId, RunJob};
use super::job::{Happened, Job};
use super::ledger::{JobFacts, Ledger};
use super::placement::{Offer, Rank};
use super::record::Record;
use super::submission::{Fits, Submission, Submissions, spec};
use super::taskmanagers::{TaskManager, TaskManagers};
use super::view::{JobView, OperationView, ProcessView, TaskManagerView};
use crate::rules::changes;
use crate::time::Time;

/// What is set for a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The checkpoint store, as all hosts see it.
    pub store: String,
    /// For how long a taskmanager whose connection has broken is waited for, in milliseconds.
    pub reconnect_ms: u64,
    /// For how long the taskmanagers of running attempts are waited for after the brain has begun.
    pub adoption_ms: u64,
    /// How long an attempt may take until it runs.
    pub start_timeout_ms: u64,
    /// How long a submission waits for a taskmanager that describes the job.
    pub describe_timeout_ms: u64,
}

impl ClusterSettings {
    /// Where the snapshots of a job are.
    pub fn directory_of(&self, job: JobId) -> String {
        format!("{}/jobs/{job}", self.store)
    }
}

/// All jobs of a cluster, and the taskmanagers that run them.
#[derive(Clone, Debug)]
pub struct Brain {
    settings: ClusterSettings,
    ledger: Ledger,
    taskmanagers: TaskManagers,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs to which something has happened in this step.
    touched: BTreeSet<JobId>,
    deadlines: Deadlines,
    submissions: Submissions,
    /// When submissions that wait for a taskmanager expire.
    patience: BTreeMap<u64, Time>,
    /// Requests that are answered when their record is committed: if the jobmanager dies before, they are forgotten.
    unanswered: Vec<(Record, RequestId, Answer)>,
    next_number: u64,
    now: Now,
}

impl Brain {
    /// The brain that goes on from a ledger. Numbers of operations begin at `first_number`, which grows from brain to brain.
    pub fn new(settings: ClusterSettings, ledger: Ledger, now: Now, first_number: u64) -> Self {
        let jobs = ledger.jobs.iter().map(|(id, facts)| (*id, Job::new(*id, facts, now.time, &settings)));
        let jobs: BTreeMap<_, _> = jobs.collect();
        let mut deadlines = Deadlines::default();
        jobs.iter().for_each(|(id, job)| deadlines.set(*id, job.deadline(now.time, &settings)));
        Self {
            // The first step looks at all.
            touched: jobs.keys().copied().collect(),
            jobs,
            deadlines,
            settings,
            ledger,
            taskmanagers: TaskManagers::default(),
            submissions: Submissions::default(),
            patience: BTreeMap::new(),
            unanswered: Vec::new(),
            next_number: first_number,
            now,
        }
    }

    /// The facts that are committed.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes one input and appends the actions that follow from it, and from the time that has passed.
    pub fn step(&mut self, now: Now, input: ClusterInput, out: &mut Vec<ClusterAction>) {
        self.now = Now { time: self.now.time.max(now.time), wall_ms: now.wall_ms };
        match input {
            ClusterInput::Committed(record) => self.committed(&record, out),
            ClusterInput::Connected(registration) => self.connected(&registration, out),
            ClusterInput::Disconnected(id) => {
                self.taskmanagers.disconnect(&id, self.now.time.plus_ms(self.settings.reconnect_ms));
                self.submissions.forget_asked(&id);
                self.describe_waiting(out);
            }
            ClusterInput::FromTaskManager(id, message) => self.message(&id, message, out),
            ClusterInput::Request(id, request) => self.request(id, request, out),
            ClusterInput::SnapshotRead { job, epoch, read } => {
                self.with_job(job, out, |job, cx| job.snapshot_read(cx, epoch, read));
            }
            ClusterInput::ManifestWritten { job, epoch, result } => {
                self.with_job(job, out, |job, cx| job.manifest_written(cx, epoch, result));
            }
            ClusterInput::SavepointWritten { job, operation, result } => {
                self.with_job(job, out, |job, cx| job.savepoint_written(cx, operation, result));
            }
            ClusterInput::Imported { job, result } => self.imported(job, result, out),
            ClusterInput::Tick => {}
        }
        self.advance(out);
    }

    /// The time by which [`Brain::step`] has to be called again, if nothing else happens before.
    pub fn deadline(&self) -> Option<Time> {
        let patience = self.patience.values().copied();
        self.deadlines.first().into_iter().chain(self.taskmanagers.deadline()).chain(patience).min()
    }

    /// Runs something with a job and what it works with; None if there is no such job.
    fn with_job<R>(
        &mut self,
        id: JobId,
        out: &mut Vec<ClusterAction>,
        run: impl FnOnce(&mut Job, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let (job, facts) = (self.jobs.get_mut(&id)?, self.ledger.jobs.get(&id)?);
        self.touched.insert(id);
        let mut cx =
            Context { now: self.now, settings: &self.settings, taskmanagers: &self.taskmanagers, facts, out };
        Some(run(job, &mut cx))
    }

    fn advance(&mut self, out: &mut Vec<ClusterAction>) {
        for lost in self.taskmanagers.take_lost(self.now.time) {
            self.for_all_jobs(out, |job, cx| job.lost(cx, &lost));
        }
        self.expire_submissions(out);
        self.touched.extend(self.deadlines.due(self.now.time));
        for id in self.touched.clone() {
            self.with_job(id, out, Job::advance);
        }
        self.start_attempts(out);
        self.look_at_parallelism(out);
        for id in std::mem::take(&mut self.touched) {
            let deadline = self.jobs.get(&id).and_then(|job| job.deadline(self.now.time, &self.settings));
            self.deadlines.set(id, deadline);
        }
    }

    /// What would follow if all jobs were advanced, and not only those that a step has looked at: nothing.
    pub fn overlooked(&self) -> Vec<ClusterAction> {
        let (mut brain, mut out) = (self.clone(), Vec::new());
        brain.for_all_jobs(&mut out, Job::advance);
        out
    }

    /// Starts the attempts that are due, of jobs in the order of their submission, when all slots are free that become so.
    fn start_attempts(&mut self, out: &mut Vec<ClusterAction>) {
        let due = self.jobs.iter().filter(|(_, job)| job.is_due(self.now.time));
        let mut due: Vec<(u64, JobId)> =
            due.filter_map(|(id, _)| Some((self.ledger.jobs.get(id)?.spec.submitted_at_ms, *id))).collect();
        due.sort_unstable();
        let mut offers = None;
        for (_, id) in due {
            let free = offers.take().unwrap_or_else(|| self.offers());
            let has_taken = self.with_job(id, out, |job, cx| job.start_attempt(cx, &free));
            offers = Some(free).filter(|_| has_taken != Some(true));
        }
    }

    /// Looks at the jobs whose parallelism is automatic: slots may have come or gone, and partitions.
    fn look_at_parallelism(&mut self, out: &mut Vec<ClusterAction>) {
        let is_auto = |facts: &JobFacts| facts.auto_parallelism && facts.ended.is_none();
        let jobs = self.ledger.jobs.iter().filter(|(_, facts)| is_auto(facts));
        // What is proposed here is not committed yet, and is not to be promised twice.
        let mut promised = 0;
        for id in jobs.map(|(id, _)| *id).collect::<Vec<_>>() {
            let others = self.claimed_by_others(id) + self.awaited_by_others(id);
            let free = self.free().saturating_sub(others).saturating_sub(promised);
            promised += self.with_job(id, out, |job, cx| job.look_at_parallelism(cx, free)).unwrap_or(0);
        }
    }

    fn for_all_jobs(
        &mut self,
        out: &mut Vec<ClusterAction>,
        mut run: impl FnMut(&mut Job, &mut Context<'_>),
    ) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.with_job(id, out, &mut run);
        }
    }

    /// The free slots of all connected taskmanagers.
    fn offers(&self) -> Vec<Offer> {
        let used = self.used();
        let offer = |(id, taskmanager): (&TaskManagerId, &TaskManager)| Offer {
            taskmanager: id.clone(),
            free: taskmanager.slots.saturating_sub(used.get(id).copied().unwrap_or(0)),
            rank: Rank::Other,
        };
        self.taskmanagers.all_connected().map(offer).collect()
    }

    /// The number of free slots.
    fn free(&self) -> u32 {
        self.offers().iter().map(|offer| offer.free).sum()
    }

    /// The slots that other jobs, which run, are about to take for another parallelism.
    fn claimed_by_others(&self, job: JobId) -> u32 {
        let others = self.jobs.iter().filter(|(id, other)| **id != job && other.active().is_some());
        let claimed = others.filter_map(|(id, other)| {
            let (run, facts) = (other.active()?, self.ledger.jobs.get(id)?);
            Some(facts.parallelism.saturating_sub(run.parallelism))
        });
        claimed.sum()
    }

    /// The slots that other jobs wait for, if this one runs: it does not take them away from those that have none.
    fn awaited_by_others(&self, job: JobId) -> u32 {
        if self.jobs.get(&job).is_none_or(Job::is_waiting) {
            return 0;
        }
        let waits = |id: &JobId, other: &Job| *id != job && other.is_waiting();
        let others = self.jobs.iter().filter(|(id, other)| waits(id, other));
        let facts =
            others.filter_map(|(id, _)| self.ledger.jobs.get(id)).filter(|facts| facts.ended.is_none());
        facts.map(|facts| facts.parallelism).sum()
    }

    /// The slots of every taskmanager that jobs have taken.
    fn used(&self) -> BTreeMap<&TaskManagerId, u32> {
        let mut used = BTreeMap::new();
        for (id, job) in &self.jobs {
            let taken = self.ledger.jobs.get(id).map(|facts| job.taken(facts)).unwrap_or_default();
            taken.into_iter().for_each(|(taskmanager, slots)| *used.entry(taskmanager).or_default() += slots);
        }
        used
    }

    fn committed(&mut self, record: &Record, out: &mut Vec<ClusterAction>) {
        self.ledger.apply(record);
        let id = record.job();
        if let (Record::Submitted { .. }, Some(facts)) = (record, self.ledger.jobs.get(&id)) {
            let (now, settings) = (self.now.time, &self.settings);
            self.jobs.entry(id).or_insert_with(|| Job::new(id, facts, now, settings));
            if let Some(Submission::Proposed { request }) = self.submissions.jobs.remove(&id) {
                out.push(ClusterAction::Answer(request, Ok(Answer::Submitted(id))));
            }
        }
        self.with_job(id, out, |job, cx| job.committed(cx, record));
        if matches!(record, Record::Ended { .. }) {
            self.jobs.retain(|id, _| self.ledger.jobs.contains_key(id));
        }
        let answered = self.unanswered.extract_if(.., |(proposed, ..)| proposed == record);
        out.extend(answered.map(|(_, request, answer)| ClusterAction::Answer(request, Ok(answer))));
    }

    fn connected(&mut self, registration: &Registration, out: &mut Vec<ClusterAction>) {
        self.taskmanagers.connect(registration);
        self.for_all_jobs(out, |job, cx| job.connected(cx, registration));
        for running in &registration.processes {
            let (job, attempt) = (running.process.job, running.process.attempt);
            if !self.jobs.contains_key(&job) {
                out.push(ClusterAction::Send(registration.id.clone(), ToTaskManager::Kill { job, attempt }));
            }
        }
        self.submissions.forget_asked(&registration.id);
        self.describe_waiting(out);
    }

    fn message(&mut self, id: &TaskManagerId, message: FromTaskManager, out: &mut Vec<ClusterAction>) {
        let (process, happened) = match message {
            FromTaskManager::Started { process, pid } => (process, Happened::Started(pid)),
            FromTaskManager::Exited { process, how } => (process, Happened::Exited(how)),
            FromTaskManager::FromProcess { process, message } => (process, Happened::Message(message)),
            FromTaskManager::Described { request, result } => return self.described(request, result, out),
            FromTaskManager::Register(_) | FromTaskManager::Logs { .. } | FromTaskManager::Pong => return,
        };
        self.with_job(process.job, out, |job, cx| job.process(cx, (id, process), happened));
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn request(&mut self, id: RequestId, request: Request, out: &mut Vec<ClusterAction>) {
        let job = match &request {
            Request::Describe(program) => return self.describe(id, program.clone(), None, out),
            Request::Run(run) => return self.run(id, run.clone(), out),
            Request::Cancel(job)
            | Request::Stop { job, .. }
            | Request::Savepoint { job, .. }
            | Request::Rescale { job, .. } => *job,
        };
        let (number, before) = (self.number(), out.len());
        let free = self.free().saturating_sub(self.claimed_by_others(job));
        let answer = self.with_job(job, out, |job, cx| match request {
            Request::Describe(_) | Request::Run(_) => Ok(Answer::Done),
            Request::Cancel(_) => job.request_cancel(cx),
            Request::Stop { drain, savepoint, .. } => job.request_stop(cx, number, drain, savepoint),
            Request::Savepoint { directory, .. } => job.request_savepoint(cx, number, directory),
            Request::Rescale { parallelism, auto, .. } => job.request_rescale(cx, (parallelism, auto), free),
        });
        let answer = answer.unwrap_or_else(|| Err(Error::job(format!("there is no job {job}"))));
        let proposed = out[before..].iter().find_map(|action| match action {
            ClusterAction::Propose(record) => Some(record.clone()),
            _ => None,
        });
        match (proposed, answer) {
            (Some(record), Ok(answer)) => self.unanswered.push((record, id, answer)),
            (_, answer) => out.push(ClusterAction::Answer(id, answer)),
        }
    }

    fn run(&mut self, id: RequestId, run: Box<RunJob>, out: &mut Vec<ClusterAction>) {
        if self.ledger.jobs.contains_key(&run.job) {
            // The answer to an earlier request was lost.
            return out.push(ClusterAction::Answer(id, Ok(Answer::Submitted(run.job))));
        }
        if let Some(earlier) = self.submissions.take_over(run.job, id) {
            let text = "the job was submitted again meanwhile, and that request is answered";
            return out.push(ClusterAction::Answer(earlier, Err(Error::environment(text))));
        }
        self.describe(id, run.program.clone(), Some(run), out);
    }

    fn describe(
        &mut self,
        request: RequestId,
        program: Program,
        run: Option<Box<RunJob>>,
        out: &mut Vec<ClusterAction>,
    ) {
        let number = self.number();
        let submission = Submission::Describing { request, program, run, asked: None };
        self.submissions.describing.insert(number, submission);
        self.patience.insert(number, self.now.time.plus_ms(self.settings.describe_timeout_ms));
        self.describe_waiting(out);
    }

    /// Asks a connected taskmanager for the plans that none has been asked for, or one that is gone.
    fn describe_waiting(&mut self, out: &mut Vec<ClusterAction>) {
        let connected: Vec<TaskManagerId> =
            self.taskmanagers.all_connected().map(|(id, _)| id.clone()).collect();
        for (number, submission) in &mut self.submissions.describing {
            let Submission::Describing { program, asked, .. } = submission else { continue };
            if asked.as_ref().is_some_and(|asked| connected.contains(asked)) {
                continue;
            }
            let Some(id) = connected.get(*number as usize % connected.len().max(1)) else { return };
            let describe = ToTaskManager::Describe { request: *number, program: program.clone() };
            out.push(ClusterAction::Send(id.clone(), describe));
            *asked = Some(id.clone());
        }
    }

    fn expire_submissions(&mut self, out: &mut Vec<ClusterAction>) {
        let late: Vec<u64> = self
            .patience
            .iter()
            .filter(|(_, until)| **until <= self.now.time)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.patience.remove(&number);
            if let Some(Submission::Describing { request, asked, .. }) =
                self.submissions.describing.remove(&number)
            {
                let seconds = self.settings.describe_timeout_ms / 1_000;
                let what = match asked {
                    Some(asked) => {
                        format!(
                            "the executable was run with --plan on the taskmanager {asked}, and has not said what the job \
                             consists of after {seconds} s"
                        )
                    }
                    None => format!(
                        "no taskmanager has connected for {seconds} s, and one is needed to describe the job; start one with \
                         'tidegate taskmanager'"
                    ),
                };
                out.push(ClusterAction::Answer(request, Err(Error::environment(what))));
            }
        }
    }

    fn described(&mut self, number: u64, result: Result<Box<Plan>, Error>, out: &mut Vec<ClusterAction>) {
        self.patience.remove(&number);
        let Some(Submission::Describing { request, run, .. }) = self.submissions.describing.remove(&number)
        else {
            return;
        };
        match (result, run) {
            (Err(error), _) => out.push(ClusterAction::Answer(request, Err(error))),
            (Ok(plan), None) => out.push(ClusterAction::Answer(request, Ok(Answer::Plan(plan)))),
            (Ok(plan), Some(run)) => match run.snapshot.clone() {
                Some(from) => {
                    let (job, fits) = (run.job, Box::new(Fits::new(&run, &plan)));
                    self.submissions.jobs.insert(job, Submission::Importing { request, run, plan });
                    out.push(ClusterAction::Copy(job, CopyAction::Import { from, fits }));
                }
                None => self.submit(request, *run, *plan, None, out),
            },
        }
    }

    fn imported(&mut self, job: JobId, result: Result<Arc<Manifest>, Error>, out: &mut Vec<ClusterAction>) {
        let Some(Submission::Importing { request, run, plan }) = self.submissions.jobs.remove(&job) else {
            return;
        };
        match result {
            Ok(manifest) => {
                for text in changes(&plan, &manifest) {
                    out.push(ClusterAction::Note { job, warning: false, text });
                }
                self.submit(request, *run, *plan, Some(&manifest), out);
            }
            Err(error) => out.push(ClusterAction::Answer(request, Err(error))),
        }
    }

    fn submit(
        &mut self,
        request: RequestId,
        run: RunJob,
        plan: Plan,
        snapshot: Option<&Arc<Manifest>>,
        out: &mut Vec<ClusterAction>,
    ) {
        let job = run.job;
        let slots = self.free();
        match spec(run, plan, snapshot, slots, self.now.wall_ms) {
            Ok(spec) => {
                self.submissions.jobs.insert(job, Submission::Proposed { request });
                out.push(ClusterAction::Propose(Record::Submitted { job, spec: Box::new(spec) }));
            }
            Err(error) => out.push(ClusterAction::Answer(request, Err(error))),
        }
    }

    // ---- what people are shown ----

    /// A job, as it is now.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        let (job, facts) = (self.jobs.get(&id)?, self.ledger.jobs.get(&id)?);
        let active = job.active();
        let last = active.or(job.last_attempt.as_ref());
        let processes =
            active.into_iter().flat_map(|run| &run.processes).map(|(first, process)| ProcessView {
                taskmanager: process.taskmanager.clone(),
                pid: process.pid,
                slots: (first.0..first.0 + process.workers).map(tidegate_protocol::Slot).collect(),
            });
        let in_flight = active.and_then(|run| {
            let (epoch, triggered_at, missing) = run.control().in_flight_since()?;
            let ms = self.now.time.since_ms(triggered_at);
            Some((epoch, run.control().phase()?.to_string(), ms, missing))
        });
        Some(JobView {
            job: id,
            state: job.state(facts),
            restarts: facts.restarts(),
            attempt: facts.attempt,
            parallelism: active.map_or(facts.parallelism, |run| run.parallelism),
            last_pause_ms: job.pause.last_ms,
            waits_for: job.waits_for(self.now.time, facts, || self.free()),
            failures: job.history.clone(),
            processes: processes.collect(),
            completed: job.snapshot.as_ref().map_or(facts.done.checkpoints, |manifest| manifest.checkpoints),
            snapshot: job.snapshot.clone(),
            aborted: last.map_or(0, |run| run.aborted),
            last_epoch: facts.newest(),
            in_flight,
            checkpoints: last.map(|run| run.checkpoints.clone()).unwrap_or_default(),
        })
    }

    /// How far an operation of a job is.
    pub fn operation(&self, job: JobId, number: u64) -> Option<OperationView> {
        let (job, facts) = (self.jobs.get(&job)?, self.ledger.jobs.get(&job)?);
        let free = || self.free();
        let known =
            job.operations.view(number, facts.drains(), || job.hindrances(self.now.time, facts, free));
        // Of those of an earlier brain only the stop is known.
        let stop = facts.stop.as_ref().filter(|stop| stop.operation == number);
        known.or_else(|| {
            let ((ending, _), stop) = (facts.ended.as_ref()?, stop?);
            Some(OperationView::of_stop(ending, stop.savepoint.is_some()))
        })
    }

    /// All taskmanagers that have been connected.
    pub fn taskmanagers(&self) -> Vec<TaskManagerView> {
        let used = self.used();
        let used = |id: &TaskManagerId| used.get(id).copied().unwrap_or(0);
        let view = |id: &TaskManagerId, pid, address: &str, slots: u32, connected| TaskManagerView {
            id: id.clone(),
            pid,
            address: address.to_owned(),
            slots,
            free: if connected { slots.saturating_sub(used(id)) } else { 0 },
            connected,
        };
        let all = self.taskmanagers.0.iter();
        all.map(|(id, t)| view(id, t.pid, &t.address, t.slots, t.lost_at.is_none())).collect()
    }
}
