//! The loop: run, kill, look, damage, run again; then a run to the end, and one more that finds nothing to do.
//!
//! A round goes on from kill to kill over the same directories until the job reaches its end; then the next
//! round begins from nothing, until all kills are done. Looked at after every kill: nothing visible is wrong,
//! duplicate, torn, changed or gone. At the end of a round: nothing is missing either, and the job's own totals
//! are exact.

use crate::damage::{self, Damage, NOTICED};
use crate::failure::{Failure, Result};
use crate::full_disk;
use crate::job::{Job, Run, was_killed};
use crate::judge::{self, Verdict};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::plan::{self, Fate, Plan, Planner};
use crate::refused::{ABORTED, Refused};
use crate::report::Report;
use crate::summary;
use crate::watch::Watch;
use crate::workbench::{Input, Workbench};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Words of which a job says one that is started after its end.
const DONE_BEFORE: [&str; 4] = ["finished", "nothing to do", "already", "nothing left"];

/// Kills a job as its options say.
pub struct Driver {
    pub(crate) options: Options,
    pub(crate) bench: Workbench,
    oracle: Oracle,
    pub(crate) job: Job,
    pub(crate) planner: Planner,
    pub(crate) watch: Watch,
    pub(crate) tally: Report,
}

/// Flags of a job whose state is not to fit into memory.
const TIGHT: [&str; 2] = ["--memory", "1MB"];
/// The flag of a job whose batches travel as bytes.
const OVER_THE_WIRE: [&str; 1] = ["--over-the-wire"];

/// How a disturbed run ended.
enum Ended {
    Killed,
    Finished,
}

impl Driver {
    /// Does all that `options` ask for. A failure says how to repeat it, and keeps the files.
    pub fn run(options: Options) -> Result<Report> {
        let (started, command) = (Instant::now(), options.command());
        let mut driver =
            Driver::new(options).map_err(|f| Failure::new(format!("{f}\n  repeat: {command}")))?;
        match driver.all() {
            Ok(()) => {
                if driver.options.keep {
                    println!("kept: {}", driver.bench.keep().display());
                }
                Ok(Report { took: started.elapsed(), ..driver.tally })
            }
            Err(failure) => Err(driver.explained(&failure, &command)),
        }
    }

    fn new(options: Options) -> Result<Driver> {
        let bench = Workbench::new(options.work.as_deref())?;
        let job = Job {
            bin: options.job()?,
            model: options.model()?,
            interval: options.interval.clone(),
            extra: options.extra.split_whitespace().map(String::from).collect(),
        };
        let failpoints = plan::chosen(&options.failpoints, || job.failpoints())?;
        let Options { rows, devices, partitions, seed, .. } = options;
        let generator = options.generator()?;
        let counts = bench.generate(&Input { generator: &generator, rows, devices, partitions, seed })?;
        let oracle = bench.oracle(None, &job.model, &counts)?;
        println!("input: {counts:?}; windows {}; failpoints {}", oracle.windows.len(), failpoints.len());
        let watch = Watch::new(&[&bench.output, &bench.dead_letters]);
        let tally = Report::of(&failpoints);
        let planner = Planner::new(&options, failpoints);
        Ok(Driver { options, bench, oracle, job, planner, watch, tally })
    }

    fn explained(&mut self, failure: &Failure, command: &str) -> Failure {
        let log = std::fs::read_to_string(&self.bench.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(25).collect();
        let tail: String = tail.iter().rev().map(|line| format!("    {line}\n")).collect();
        let (seed, kept) = (self.options.seed, self.bench.keep().display());
        Failure::new(format!(
            "{failure}\n  the job said last:\n{tail}  seed: {seed}\n  repeat: {command}\n  kept: {kept}"
        ))
    }

    fn all(&mut self) -> Result<()> {
        self.rehearse()?;
        if self.options.full_disk {
            full_disk::run(self)?;
        }
        if self.options.slow_disk {
            self.slow_disk()?;
        }
        if self.options.damage {
            self.certain_damage()?;
        }
        while self.tally.kills < self.options.kills {
            self.round()?;
        }
        self.tally.covered(&self.options)
    }

    /// One undisturbed run: it must be right, and its time gives the scale of the instants.
    fn rehearse(&mut self) -> Result<()> {
        let parallelism = self.options.parallelism.first().copied().unwrap_or(1);
        let run = self.run_out(parallelism)?;
        let whole = run.age();
        println!("undisturbed, parallelism {parallelism}: {:.2} s", whole.as_secs_f64());
        self.planner.scale(whole);
        self.finished(&run, parallelism)
    }

    /// One run to the end in which every step sleeps. The rounds draw slow steps too, but a kill may come before them.
    fn slow_disk(&mut self) -> Result<()> {
        self.clear()?;
        let (parallelism, failpoints) = (self.planner.parallelism(), self.planner.all_slow()?);
        println!("  slow disk every step sleeps, parallelism {parallelism}");
        let mut run = self.job.start_with(&self.bench, parallelism, &failpoints, &[])?;
        self.await_end(&mut run)?;
        self.tally.slow_disks += 1;
        self.finished(&run, parallelism)
    }

    /// One run that is killed when it has a snapshot to lose and one to fall back to, and goes on from the damage to the
    /// end. The rounds damage snapshots too, but there may be none where chance asks for it.
    fn certain_damage(&mut self) -> Result<()> {
        self.clear()?;
        let parallelism = self.planner.parallelism();
        let mut run = self.job.start(&self.bench, parallelism)?;
        let (watch, checkpoints) = (&mut self.watch, &self.bench.checkpoints);
        run.until(self.options.patience(), || watch.glance().map(|_| damage::newest_epoch(checkpoints) > 1))?;
        if !was_killed(run.kill()?) {
            return Err(Failure::new("the job ended before it could be killed: give it more --rows"));
        }
        self.killed(&format!("with a second snapshot, parallelism {parallelism}"))?;
        if let Ended::Finished = self.damage()? {
            return Ok(());
        }
        let parallelism = self.planner.parallelism();
        let run = self.run_out(parallelism)?;
        self.finished(&run, parallelism)
    }

    fn round(&mut self) -> Result<()> {
        self.clear()?;
        while self.tally.kills < self.options.kills {
            let plan = self.planner.draw();
            if let Ended::Finished = self.disturb(&plan)? {
                return Ok(());
            }
            if self.options.damage
                && self.planner.rng().chance(33)
                && let Ended::Finished = self.damage()?
            {
                return Ok(());
            }
        }
        let parallelism = self.planner.parallelism();
        let run = self.run_out(parallelism)?;
        self.finished(&run, parallelism)
    }

    /// Begins from nothing.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.watch.forget();
        self.bench.clear()
    }

    // ------------------------------------------------------------ runs

    /// One run that ends as planned, or at the end of the input if that comes first.
    fn disturb(&mut self, plan: &Plan) -> Result<Ended> {
        let flags = flags(plan);
        let refused = Refused::next(&self.bench.checkpoints, plan.refused)?;
        let mut run = self.job.start_with(&self.bench, plan.parallelism, &plan.failpoints(), &flags)?;
        self.tally.over_the_wire += u32::from(plan.wire);
        let after = self.await_next_snapshot(&mut run, &refused)?;
        let status = match (&plan.fate, self.await_fate(&mut run, after, &plan.fate)?) {
            (_, Some(status)) => status,
            (Fate::At(_), None) => run.kill()?,
            (_, None) => return Err(hangs(&run)),
        };
        drop(refused);
        let aborted = plan.refused > 0 && run.voice().mentions(&ABORTED);
        self.tally.aborted += u32::from(aborted);
        match &plan.fate {
            Fate::Failpoint(name, _) if was_killed(status) => self.tally.died_at(name),
            Fate::Failpoint(name, _) => self.planner.again(name),
            Fate::Stop(_) if is_stop(&run, status, &self.bench.summary) => return self.stopped(plan),
            Fate::Stop(_) | Fate::At(_) => {}
        }
        if status.success() {
            self.finished(&run, plan.parallelism)?;
            return Ok(Ended::Finished);
        }
        // Where the last snapshot of all is refused, nothing is left but to end.
        let aborted_last = aborted && status.code() == Some(1);
        if !(was_killed(status) || aborted_last) {
            return Err(Failure::new(format!("the job failed by itself: {status} (planned: {plan})")));
        }
        self.killed(&plan.to_string())?;
        Ok(Ended::Killed)
    }

    /// Where snapshots are refused, waits for one that is not, which must hold what they would have held; returns the
    /// age at which there is one.
    fn await_next_snapshot(&mut self, run: &mut Run, refused: &Refused) -> Result<Duration> {
        let Some(last) = refused.last() else { return Ok(Duration::ZERO) };
        let (watch, checkpoints) = (&mut self.watch, &self.bench.checkpoints);
        let look = || watch.glance().map(|_| damage::newest_epoch(checkpoints) > last);
        run.until(self.options.patience(), look)?;
        Ok(run.age())
    }

    /// Lets the run come to its fate, which counts from the age `after`; its exit, if that came by itself or because
    /// it was asked to stop.
    fn await_fate(&mut self, run: &mut Run, after: Duration, fate: &Fate) -> Result<Option<ExitStatus>> {
        let patience = self.options.patience();
        let first = after + if let Fate::Failpoint(..) = fate { patience } else { fate.age() };
        let watch = &mut self.watch;
        let mut look = || watch.glance().map(|_| false);
        let early = run.until(first, &mut look)?;
        if early.is_none() && matches!(fate, Fate::Stop(_)) {
            run.ask_to_stop()?;
            return run.until(first + patience, look);
        }
        Ok(early)
    }

    /// After a stop on request: as after a kill, but the last snapshot was written and published.
    fn stopped(&mut self, plan: &Plan) -> Result<Ended> {
        self.tally.stops += 1;
        let verdict = self.sound()?;
        println!("  stopped   {plan}: {verdict}");
        Ok(Ended::Killed)
    }

    /// Damages the newest snapshot, if there is one, and sees the job notice.
    fn damage(&mut self) -> Result<Ended> {
        let staging = [self.bench.output.as_path(), self.bench.dead_letters.as_path()];
        let damage = Damage::newest(&self.bench.checkpoints, &staging, self.planner.rng())?;
        let Some(damage) = damage else { return Ok(Ended::Killed) };
        println!("  damage    {damage}");
        let parallelism = self.planner.parallelism();
        let mut run = self.job.start(&self.bench, parallelism)?;
        let (voice, patience) = (run.voice(), self.options.patience());
        run.until(patience, || Ok(voice.mentions(&NOTICED)))?;
        if !voice.mentions(&NOTICED) {
            return Err(Failure::new(format!("the job does not notice a damaged snapshot: {damage}")));
        }
        // Now it either refuses, or goes on to other snapshots.
        let before = damage::newest_snapshot(&self.bench.checkpoints);
        let moved_on = || Ok(damage::newest_snapshot(&self.bench.checkpoints) != before);
        match run.until(patience, moved_on)? {
            Some(status) if status.code().is_some_and(|code| code != 0) => {
                if damage.is_avoidable(&self.bench.checkpoints) {
                    return Err(Failure::new(format!(
                        "the job refuses to start ({status}) although an older snapshot is whole: {damage}"
                    )));
                }
                self.refused(&damage)
            }
            _ => self.fell_back(run, parallelism),
        }
    }

    fn refused(&mut self, damage: &Damage) -> Result<Ended> {
        println!("  refused   and the file is put back");
        self.tally.refused += 1;
        damage.repair()?;
        self.sound().map(|_| Ended::Killed)
    }

    /// The run goes on from an older snapshot: what was published after that may be replaced, once.
    fn fell_back(&mut self, mut run: Run, parallelism: usize) -> Result<Ended> {
        self.tally.fell_back += 1;
        let age = run.age() + self.planner.instant();
        run.until(age, || Ok(false))?;
        let status = run.kill()?;
        self.watch.forget();
        if status.success() {
            self.finished(&run, parallelism)?;
            return Ok(Ended::Finished);
        }
        if !was_killed(status) {
            return Err(Failure::new(format!(
                "the job fell back to an older snapshot, then failed: {status}"
            )));
        }
        self.killed(&format!("after falling back, parallelism {parallelism}"))?;
        Ok(Ended::Killed)
    }

    /// A run that is left alone, to exit code 0.
    pub(crate) fn run_out(&mut self, parallelism: usize) -> Result<Run> {
        let mut run = self.job.start(&self.bench, parallelism)?;
        self.await_end(&mut run)?;
        Ok(run)
    }

    fn await_end(&mut self, run: &mut Run) -> Result<()> {
        match run.until(self.options.patience(), || self.watch.glance().map(|_| false))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::new(format!("the job failed by itself: {status}"))),
            None => Err(hangs(run)),
        }
    }

    // ------------------------------------------------------------ findings

    /// After a kill: all that is visible must be right and unchanged.
    fn killed(&mut self, how: &str) -> Result<()> {
        self.tally.kills += 1;
        let verdict = self.sound()?;
        println!("  kill {:<4} {how}: {verdict}", self.tally.kills);
        Ok(())
    }

    /// Nothing visible is wrong, duplicate, extra, torn, changed or gone.
    pub(crate) fn sound(&mut self) -> Result<Verdict> {
        self.watch.inspect()?;
        let verdict = judge::judge(&self.oracle, &self.bench.output, &self.bench.dead_letters)?;
        if verdict.is_sound() { Ok(verdict) } else { Err(finding("wrong output", &verdict)) }
    }

    /// After the end of the input: all is there, the totals are exact, and another start does nothing.
    pub(crate) fn finished(&mut self, run: &Run, parallelism: usize) -> Result<()> {
        let verdict = self.sound()?;
        if !verdict.is_complete() {
            return Err(finding("output is missing", &verdict));
        }
        summary::check(&self.bench.summary, &self.oracle)?;
        self.tally.finished += 1;
        println!("  finished  after {:.2} s, parallelism {parallelism}: {verdict}", run.age().as_secs_f64());
        self.once_more(parallelism)
    }

    fn once_more(&mut self, parallelism: usize) -> Result<()> {
        let files = self.watch.files();
        let run = self.run_out(parallelism)?;
        self.watch.inspect()?;
        if self.watch.files() > files {
            return Err(Failure::new("started after its end, the job published something"));
        }
        if !run.voice().mentions(&DONE_BEFORE) {
            return Err(Failure::new(
                "started after its end, the job does not say that there is nothing to do",
            ));
        }
        Ok(())
    }
}

/// The flags with which a run is started.
fn flags(plan: &Plan) -> Vec<&'static str> {
    let tight = TIGHT.iter().filter(|_| plan.tight);
    tight.chain(OVER_THE_WIRE.iter().filter(|_| plan.wire)).copied().collect()
}

/// True if a run that was asked to stop did so before the end of its input: it exits with 0 and says that it has not
/// finished, or dies of the signal because it had not yet come so far as to catch it.
fn is_stop(run: &Run, status: ExitStatus, summary: &Path) -> bool {
    let unprepared = status.signal() == Some(libc::SIGTERM) && run.voice().said().is_empty();
    unprepared || (status.success() && !summary::says_finished(summary))
}

/// A run that took longer than there is patience.
pub(crate) fn hangs(run: &Run) -> Failure {
    Failure::new(format!("the job hangs: still running after {:.0} s", run.age().as_secs_f64()))
}

fn finding(what: &str, verdict: &Verdict) -> Failure {
    let examples: String = verdict.examples().map(|e| format!("\n    {e}")).collect();
    Failure::new(format!("{what}: {verdict}{examples}"))
}
