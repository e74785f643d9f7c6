//! One job, from its start to its drained end: its input, its output, and what is waited for.

use crate::cluster::auditor::Auditor;
use crate::cluster::client::JobInfo;
use crate::cluster::endpoints::Endpoints;
use crate::cluster::feeder::Feeder;
use crate::cluster::members::Members;
use crate::cluster::options::{Programs, StormOptions};
use crate::cluster::processes::Pid;
use crate::failure::{Context, Failure, Result};
use crate::judge::Verdict;
use crate::oracle::Oracle;
use crate::topics::blocked::Blocked;
use crate::workbench::{Input, Workbench};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// After its time a round is fed at this share of the rate, until its last fault has healed.
const AFTER_TIME: u64 = 10;
/// How often what is visible is looked at while something is waited for.
const GLANCE: Duration = Duration::from_millis(50);
/// How often the cluster is asked whether the job has failed.
const ASK: Duration = Duration::from_secs(2);

/// A job under faults.
pub struct Round<'a> {
    /// The cluster.
    pub members: &'a mut Members,
    /// The judge of what is visible.
    pub auditor: Auditor,
    /// The job's id. It changes when the job is started from a savepoint.
    pub job: String,
    /// The job's workers.
    pub parallelism: u32,
    /// What the storm was asked for.
    pub options: &'a StormOptions,
    /// The job's directories.
    pub bench: Workbench,
    programs: &'a Programs,
    feeder: Feeder,
    endpoints: Endpoints,
    began: Instant,
    span: Duration,
}

/// How a round has ended.
pub struct Ended {
    /// Rows that were fed.
    pub rows: u64,
    /// What was published.
    pub verdict: Verdict,
    /// For how long readers were blocked, if there are transactions.
    pub blocked: Option<Blocked>,
}

impl<'a> Round<'a> {
    /// Generates an input, and starts a job over it for faults during `span`.
    pub fn begin(
        dir: &Path,
        (members, options, programs): (&'a mut Members, &'a StormOptions, &'a Programs),
        seed: u64,
        span: Duration,
    ) -> Result<Round<'a>> {
        let bench = Workbench::new(Some(dir))?;
        let overtime = options.patience * 3 + options.store_away + 60;
        let rows = options.rate * (span.as_secs() + 30 + overtime / AFTER_TIME);
        let StormOptions { devices, partitions, rate, .. } = *options;
        let generator = &programs.generator;
        let counts = bench.generate(&Input { generator, rows, devices, partitions, seed })?;
        let endpoints = Endpoints::new(dir, members.brokers.as_ref(), options)?;
        let oracle = bench.oracle(endpoints.topic(), &programs.model, &counts)?;
        let feeder = Feeder::start(&bench.input, &endpoints.inlet()?, rows, rate, seed)?;
        let mut auditor = Auditor::new(endpoints.published(&bench, feeder.fed())?, oracle);
        // A job that has just started may find the transactions of another one.
        auditor.disturbed(true);
        let began = Instant::now();
        let (job, parallelism) = (String::new(), options.parallelism);
        let mut round = Round {
            members,
            auditor,
            job,
            parallelism,
            options,
            bench,
            programs,
            feeder,
            endpoints,
            began,
            span,
        };
        let since = SystemTime::now();
        round.submit(None)?;
        round.recovered(since)?;
        round.auditor.disturbed(false);
        round.began = Instant::now();
        Ok(round)
    }

    /// Starts the job, from a snapshot if one is given.
    pub fn submit(&mut self, snapshot: Option<&str>) -> Result<()> {
        let parallelism = self.parallelism.to_string();
        let interval = format!("checkpoint.interval={}", self.options.interval);
        let mut words = vec!["run", "-d", "-p", &parallelism, "-D", &interval];
        if let Some(snapshot) = snapshot {
            words.extend(["-s", snapshot]);
        }
        let paths = [&self.programs.job, &self.programs.model];
        let [job, model] = paths.map(|path| path.to_string_lossy().into_owned());
        let arguments = self.endpoints.arguments(&self.bench);
        words.extend([&job, "--"]);
        words.extend(arguments.iter().map(String::as_str));
        words.extend(["--model", &model, "--follow"]);
        let said = self.members.client.run(&words, 2 * self.options.patience())?;
        let is_id = |word: &&str| word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
        let id = said.split_whitespace().find(is_id);
        self.job =
            id.ok_or_else(|| Failure::new(format!("tidegate run prints no JobID: {said}")))?.to_owned();
        Ok(())
    }

    /// True while faults may begin.
    pub fn is_on(&self) -> bool {
        self.began.elapsed() < self.span
    }

    /// Time passes, in which the auditor looks.
    pub fn hold(&mut self, span: Duration) -> Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.look()?;
            std::thread::sleep(GLANCE.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        if !self.is_on() {
            self.feeder.set_rate(self.options.rate / AFTER_TIME);
        }
        self.auditor.glance()
    }

    /// Waits until an epoch is published that has ended after `since`; returns how long that took from then on.
    pub fn recovered(&mut self, since: SystemTime) -> Result<Duration> {
        self.published(since, Round::look)
    }

    /// The same without a look at what is visible, for the time in which it may be taken back.
    pub fn recovered_unseen(&mut self, since: SystemTime) -> Result<Duration> {
        self.published(since, |_| Ok(()))
    }

    fn published(
        &mut self,
        since: SystemTime,
        mut look: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Duration> {
        let mut asked = Instant::now();
        self.auditor.await_epoch(since);
        loop {
            look(self)?;
            if let Some(took) = self.auditor.recovery()? {
                return Ok(took);
            }
            let took = since.elapsed().unwrap_or_default();
            if took > self.options.patience() {
                return Err(Failure::new(format!(
                    "nothing new is published after {} s",
                    self.options.patience
                )));
            }
            if asked.elapsed() > ASK {
                asked = Instant::now();
                self.is_not_over()?;
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn is_not_over(&self) -> Result<()> {
        match self.members.client.info(&self.job) {
            Some(info) if info.is_over() => Err(Failure::new(format!("the job is {}", info.state))),
            _ => Ok(()),
        }
    }

    /// What the cluster says of the job, as soon as it answers.
    pub fn info(&self) -> Result<JobInfo> {
        self.info_when(|_| true).ok_or_else(|| {
            Failure::new(format!("the cluster does not answer within {} s", self.options.patience))
        })
    }

    /// What it says as soon as that is as wanted; None if it never is.
    pub fn info_when(&self, wanted: impl Fn(&JobInfo) -> bool) -> Option<JobInfo> {
        let started = Instant::now();
        loop {
            if let Some(info) = self.members.client.info(&self.job).filter(|info| wanted(info)) {
                return Some(info);
            }
            if started.elapsed() > self.options.patience() {
                return None;
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// No process of a job is left but those that the cluster knows of.
    pub fn no_process_is_lost(&self) -> Result<()> {
        let known = |info: &JobInfo| info.processes.iter().map(|(_, pid)| *pid).collect::<Vec<Pid>>();
        let lost = |info: &JobInfo| {
            let mut all = self.members.job_processes();
            all.retain(|pid| !known(info).contains(pid));
            all
        };
        if self.info_when(|info| lost(info).is_empty()).is_some() {
            return Ok(());
        }
        let info = self.info()?;
        Err(Failure::new(format!(
            "job processes {:?} run, of which the cluster knows nothing (it knows {:?})",
            lost(&info),
            known(&info)
        )))
    }

    /// Drains the job, and sees that nothing is missing.
    pub fn end(mut self) -> Result<Ended> {
        self.feeder.end()?;
        let patience = 2 * self.options.patience();
        self.members.client.run(&["stop", "--drain", &self.job], patience)?;
        let info = self.members.client.info(&self.job);
        let state = info.map_or("unknown".to_owned(), |info| info.state);
        if state != "FINISHED" {
            return Err(Failure::new(format!("after stop --drain the job is {state}")));
        }
        let fed = self.endpoints.fed(&self.bench, patience)?;
        let fed = Oracle::of(&fed, self.endpoints.topic(), &self.programs.model)?;
        let rows = fed.counts.rows;
        self.auditor.audit_end(fed, patience)?;
        self.job_processes_end()?;
        let blocked = self.auditor.blocked();
        Ok(Ended { rows, verdict: std::mem::take(&mut self.auditor.last), blocked })
    }

    fn job_processes_end(&self) -> Result<()> {
        let ended = || self.members.job_processes().is_empty();
        if crate::cluster::processes::wait(self.options.patience(), ended) {
            return Ok(());
        }
        let left = self.members.job_processes();
        Err(Failure::new(format!("the job has finished, but its processes {left:?} run")))
    }

    /// Where savepoints are made.
    pub fn savepoints(&self) -> Result<PathBuf> {
        let dir = self.bench.output.with_file_name("savepoints");
        fs::create_dir_all(&dir).context(format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }
}
