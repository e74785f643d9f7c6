//! The loop: a job, faults one after the other, a look after each; then the next job.

use crate::cluster::daemon::last_lines;
use crate::cluster::facilities::Facilities;
use crate::cluster::fault::Fault;
use crate::cluster::inflict::{self, inflict};
use crate::cluster::members::Members;
use crate::cluster::options::{Programs, StormOptions};
use crate::cluster::report::StormReport;
use crate::cluster::round::Round;
use crate::cluster::schedule::{Draw, Schedule, Timeouts};
use crate::failure::{Context, Failure, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tidegate_kafka_tests::Brokers;

/// So many lines of each log are shown after a failure.
const LINES: usize = 20;
/// So many characters of each line.
const WIDTH: usize = 240;
/// So many log files of job processes are shown of each host.
const LOGS: usize = 3;

/// A storm under way.
pub struct Storm {
    options: StormOptions,
    programs: Programs,
    faults: Vec<Fault>,
    schedule: Schedule,
    report: StormReport,
    began: Instant,
}

impl Storm {
    /// Does all that `options` ask for, and prints what it does. The table is printed in any case.
    pub fn run(options: StormOptions) -> Result<String> {
        let (command, seed) = (options.command(), options.seed);
        println!("seed {seed}; the same again: {command}");
        let mut work = Work::new(options.work.as_deref())?;
        let storm = Storm::all(options, &mut work);
        storm.map_err(|failure| {
            let kept = work.keep().display();
            Failure::new(format!("{failure}\n  seed: {seed}\n  repeat: {command}\n  kept: {kept}"))
        })
    }

    fn all(options: StormOptions, work: &mut Work) -> Result<String> {
        let programs = options.programs()?;
        if options.kafka
            && let Some(verdict) = skipped_without_kafka()?
        {
            return Ok(verdict);
        }
        let facilities = Facilities::find(&work.root, &options)?;
        let asked_for =
            if options.faults.is_empty() { Fault::all_of(options.kafka) } else { options.faults.clone() };
        let (mut report, mut faults) = (StormReport::default(), Vec::new());
        for fault in &asked_for {
            match facilities.obstacle(*fault) {
                None => faults.push(*fault),
                Some(reason) => report.skipped.push((*fault, reason)),
            }
        }
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let layout = if facilities.namespaces.is_ok() { "a network namespace a host" } else { "loopback" };
        let brokers =
            if options.kafka { format!("{} of Apache Kafka", options.brokers) } else { "none".into() };
        println!("layout: {layout}; brokers: {brokers}; faults: {}", names.join(", "));
        for (fault, reason) in &report.skipped {
            println!("  skipped   {fault}: {reason}");
        }
        let timeouts =
            [options.away, options.store_away, options.transaction_timeout].map(Duration::from_secs);
        let [away, store_away, transaction] = timeouts;
        let timeouts = Timeouts { away, store_away, transaction };
        let schedule = Schedule::new(options.seed, faults.clone(), timeouts);
        let mut members = Members::start(&work.root, &programs, &options, &facilities)?;
        let keep = options.keep;
        let mut storm = Storm { options, programs, faults, schedule, report, began: Instant::now() };
        let mut done = storm.rounds(&work.root, &mut members);
        if done.is_err() {
            members.calm();
            let _ = members.store.preserve(&work.root.join("store-kept"));
        }
        done = done.and(members.end());
        storm.report.lines(&asked_for).iter().for_each(|line| println!("{line}"));
        done?;
        if keep {
            println!("kept: {}", work.keep().display());
        }
        Ok(storm.report.verdict())
    }

    /// Jobs, until the time is over.
    fn rounds(&mut self, root: &Path, members: &mut Members) -> Result<()> {
        let rounds = self.options.seconds.div_ceil(self.options.round.max(1)).max(1);
        let span = Duration::from_secs(self.options.seconds) / rounds as u32;
        for number in 0..rounds {
            let dir = root.join(format!("round-{number}"));
            self.round(&dir, members, self.options.seed.wrapping_add(number), span)?;
            if !self.options.keep {
                fs::remove_dir_all(&dir).context(format!("cannot delete {}", dir.display()))?;
            }
        }
        if self.report.faults() == 0 {
            return Err(Failure::new("no fault came: give the storm more --seconds"));
        }
        Ok(())
    }

    fn round(&mut self, dir: &Path, members: &mut Members, seed: u64, span: Duration) -> Result<()> {
        let (options, programs) = (self.options.clone(), self.programs.clone());
        let begun = Round::begin(dir, (&mut *members, &options, &programs), seed, span);
        let mut round = match begun {
            Ok(round) => round,
            Err(failure) => {
                let jobs = members.client.shown(&["list", "--all"]);
                let logs = logs(members, None);
                return Err(Failure::new(format!("a job does not start: {failure}\n{jobs}\n{logs}")));
            }
        };
        let stormed = self.storm(&mut round);
        if let Err(failure) = stormed {
            self.report.add(0, &round.auditor.last, false);
            self.report.add_blocked(round.auditor.blocked());
            return Err(explained(&mut round, &failure));
        }
        let job = round.job.clone();
        match round.end() {
            Ok(ended) => {
                println!("ok {:>4.0} s  drained: {}", self.began.elapsed().as_secs_f64(), ended.verdict);
                self.report.add(ended.rows, &ended.verdict, true);
                self.report.add_blocked(ended.blocked);
                self.report.jobs += 1;
                Ok(())
            }
            Err(failure) => {
                let about = about(members, &job);
                Err(Failure::new(format!("at the end of a job: {failure}\n{about}")))
            }
        }
    }

    fn storm(&mut self, round: &mut Round<'_>) -> Result<()> {
        while round.is_on() && !self.faults.is_empty() {
            let Some(draw) = self.schedule.draw() else { break };
            self.fault(round, &draw).map_err(|failure| {
                let at = self.began.elapsed().as_secs();
                Failure::new(format!("after {at} s, with the fault {}: {failure}\n  ({draw:?})", draw.fault))
            })?;
        }
        Ok(())
    }

    /// One fault, its recovery, and a look at everything.
    fn fault(&mut self, round: &mut Round<'_>, draw: &Draw) -> Result<()> {
        round.hold(draw.quiet)?;
        round.auditor.disturbed(true);
        let inflicted = inflict(round, draw)?;
        let named = |failure: Failure| Failure::new(format!("{}: {failure}", inflicted.what));
        let (mut since, mut on_top) = (inflicted.over, String::new());
        if let Some((delay, fault)) = draw.on_top {
            round.hold(delay).map_err(named)?;
            since = SystemTime::now();
            round.auditor.await_epoch(since);
            let killed = inflict::kill(round, fault, draw.dice[3], draw.down).map_err(named)?;
            on_top = format!("; {:.1} s later {killed}", delay.as_secs_f64());
        }
        let named = |failure: Failure| Failure::new(format!("{}{on_top}: {failure}", inflicted.what));
        let took = round.recovered(since).map_err(named)?;
        round.auditor.disturbed(false);
        let took = inflicted.recovered.unwrap_or(took);
        round.no_process_is_lost().map_err(named)?;
        round.auditor.audit().map_err(named)?;
        self.report.recovered(draw.fault, took);
        println!(
            "ok {:>4.0} s  {}: {}{on_top}; a new epoch after {:.2} s; {}",
            self.began.elapsed().as_secs_f64(),
            draw.fault,
            inflicted.what,
            took.as_secs_f64(),
            round.auditor.last
        );
        Ok(())
    }
}

/// The failure with what the cluster and its logs say.
fn explained(round: &mut Round<'_>, failure: &Failure) -> Failure {
    round.members.calm();
    Failure::new(format!("{failure}\n{}", about(round.members, &round.job)))
}

fn about(members: &Members, job: &str) -> String {
    let info = members.client.shown(&["info", job]);
    let taskmanagers = members.client.shown(&["taskmanagers"]);
    format!("  tidegate info {job}:\n{info}\n{taskmanagers}\n{}", logs(members, Some(job)))
}

fn logs(members: &Members, job: Option<&str>) -> String {
    let mut said = String::new();
    let mut add = |path: &Path| {
        said += &format!("  {} said last:\n", path.display());
        for line in last_lines(path, LINES) {
            said += &format!("    {}\n", line.chars().take(WIDTH).collect::<String>());
        }
    };
    members.hosts().for_each(|host| add(&host.daemon.log));
    for (host, job) in members.taskmanagers.iter().flat_map(|host| job.map(|job| (host, job))) {
        let logs = inflict::job_logs(host, job);
        logs[logs.len().saturating_sub(LOGS)..].iter().for_each(|path| add(path));
    }
    if let Some(brokers) = &members.brokers {
        let lines = brokers.last_lines(LINES);
        said += &format!("  the brokers said last:\n    {}\n", lines.join("\n    "));
    }
    said
}

/// How it went, if brokers cannot be started here at all. That is a failure where they are required.
fn skipped_without_kafka() -> Result<Option<String>> {
    let Some(reason) = Brokers::obstacle() else { return Ok(None) };
    let verdict = format!("skipped: the storm with Kafka: {reason}");
    let is_required = std::env::var("TIDEGATE_KAFKA").is_ok_and(|wanted| wanted == "required");
    if is_required { Err(Failure::new(verdict)) } else { Ok(Some(verdict)) }
}

/// The directory that a storm works in.
struct Work {
    root: PathBuf,
    temporary: Option<TempDir>,
}

impl Work {
    fn new(dir: Option<&Path>) -> Result<Work> {
        let Some(dir) = dir else {
            let temporary = tempfile::Builder::new().prefix("tidegate-storm-").tempdir();
            let temporary = temporary.context("cannot make a temporary directory")?;
            return Ok(Work { root: temporary.path().to_path_buf(), temporary: Some(temporary) });
        };
        fs::create_dir_all(dir).context(format!("cannot create {}", dir.display()))?;
        let root = dir.canonicalize().context(format!("cannot find {}", dir.display()))?;
        if fs::read_dir(&root).context(format!("cannot list {}", root.display()))?.next().is_some() {
            return Err(Failure::new(format!("{} is not empty: empty it or name another", root.display())));
        }
        Ok(Work { root, temporary: None })
    }

    /// Leaves the files where they are, and says where.
    fn keep(&mut self) -> &Path {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        &self.root
    }
}
