//! `make demo`: a job is killed with kill -9 half way, started again, and its output is checked row by row
//! against an independent program's.

mod alerts;
mod published;
mod screen;

use clap::Parser;
use published::Published;
use screen::{Screen, grouped};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate_chaos::job::{Job, Run, was_killed};
use tidegate_chaos::judge::{self, Tally, Verdict};
use tidegate_chaos::options::Options;
use tidegate_chaos::workbench::{Input, Workbench};
use tidegate_chaos::{Failure, Oracle, Result, summary};

/// Runs the predictive-maintenance job, kills it half way, starts it again and checks every row.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Args {
    /// Rows of input
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    rows: u64,
    /// Devices in the input
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    devices: u64,
    /// Seed of the input
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 2)]
    parallelism: usize,
    /// The job's executable [default: predictive-maintenance beside this program]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// The generator's executable [default: sensor-data beside this program]
    #[arg(long, value_name = "PATH")]
    generator: Option<PathBuf>,
    /// The model [default: jobs/model/model.json of the source tree]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Keep input, output and checkpoints here, in place of a temporary directory; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(100);
/// The job is killed when so much of its output is published; a job too fast for that is tried again, sooner.
const KILL_AT: [f64; 3] = [0.5, 0.3, 0.1];

fn main() -> ExitCode {
    let screen = Screen::new();
    let mut demo = match Demo::new(Args::parse()) {
        Ok(demo) => demo,
        Err(failure) => return failed(&screen, &failure, None),
    };
    match demo.play(&screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&screen, &failure, Some(&mut demo.bench)),
    }
}

fn failed(screen: &Screen, failure: &Failure, bench: Option<&mut Workbench>) -> ExitCode {
    println!("\n  {} {failure}", screen.red("Failed:"));
    if let Some(bench) = bench {
        println!("  all files are kept in {}, what the job said is in job.log", bench.keep().display());
    }
    ExitCode::FAILURE
}

struct Demo {
    args: Args,
    generator: PathBuf,
    job: Job,
    bench: Workbench,
}

/// The two runs, timed.
struct Story {
    /// From the second start to the first newly published file.
    recovery: Duration,
    /// Both runs together.
    running: Duration,
}

impl Demo {
    fn new(args: Args) -> Result<Demo> {
        let Args { bin, generator, model, .. } = &args;
        let (bin, generator, model) = (bin.clone(), generator.clone(), model.clone());
        let paths = Options { bin, generator, model, ..Options::default() };
        Ok(Demo {
            generator: paths.generator()?,
            job: Job {
                bin: paths.job()?,
                model: paths.model()?,
                interval: "100ms".into(),
                extra: Vec::new(),
            },
            bench: Workbench::new(args.work.as_deref())?,
            args,
        })
    }

    fn play(&mut self, screen: &Screen) -> Result<()> {
        let started = Instant::now();
        screen.title("A job is killed half way. Not a row may be lost, doubled or changed.");
        let oracle = self.prepare(screen)?;
        let story = self.kill_and_recover(screen, &oracle)?;
        let verdict = judge::judge(&oracle, &self.bench.output, &self.bench.dead_letters)?;
        print_verdict(screen, &verdict);
        let totals = summary::check(&self.bench.summary, &oracle);
        print_totals(screen, &oracle, totals.is_ok());
        alerts::print(screen, &self.bench.output)?;
        self.conclude(screen, &verdict, totals, &story, started.elapsed())
    }

    /// Makes the input and computes what must come of it.
    fn prepare(&self, screen: &Screen) -> Result<Oracle> {
        let started = Instant::now();
        screen.live("input", "generating ...");
        let Args { rows, devices, seed, .. } = self.args;
        let counts =
            self.bench.generate(&Input { generator: &self.generator, rows, devices, partitions: 3, seed })?;
        let (rows, devices, mb) = (grouped(rows), grouped(devices), self.bench.input_bytes() / 1_000_000);
        screen.timed("input", &format!("{rows} readings of {devices} devices, {mb} MB"), started.elapsed());
        let started = Instant::now();
        screen.live("expected", "computing by an independent program ...");
        let oracle = self.bench.oracle(&self.job.model, &counts)?;
        let windows = grouped(oracle.windows.len() as u64);
        screen.timed("expected", &format!("{windows} windows, by an independent program"), started.elapsed());
        Ok(oracle)
    }

    fn kill_and_recover(&self, screen: &Screen, oracle: &Oracle) -> Result<Story> {
        let mut published = Published::new(&self.bench, oracle.windows.len());
        let first = self.first_run(screen, &mut published)?;
        let (recovery, second) = self.second_run(screen, &mut published)?;
        Ok(Story { recovery, running: first + second })
    }

    /// Starts the job and kills it; returns its age.
    fn first_run(&self, screen: &Screen, published: &mut Published<'_>) -> Result<Duration> {
        for part in KILL_AT {
            self.bench.clear()?;
            published.forget();
            let mut run = self.start()?;
            let ended = run.until(PATIENCE, || {
                screen.bar("first run", published.look()?, "");
                Ok(published.part() >= part)
            })?;
            if ended.is_none() && was_killed(run.kill()?) {
                let age = run.age();
                screen.bar_done(
                    "first run",
                    published.part(),
                    &format!("kill -9 after {:.2} s", age.as_secs_f64()),
                );
                return Ok(age);
            }
            run.ended()?.filter(|status| status.success()).ok_or_else(|| unexpected(&run))?;
        }
        Err(Failure::new("the job reached the end before it could be killed: give it more --rows"))
    }

    /// Starts the job again and lets it reach the end; returns the recovery time and its age.
    fn second_run(&self, screen: &Screen, published: &mut Published<'_>) -> Result<(Duration, Duration)> {
        // Between the last look and its end the first run may have published more.
        published.look()?;
        let (before, mut recovery) = (published.files(), None);
        let mut run = self.start()?;
        let clock = Instant::now();
        let ended = run.until(PATIENCE, || {
            screen.bar("second run", published.look()?, "");
            if published.files() > before {
                recovery.get_or_insert_with(|| clock.elapsed());
            }
            Ok(false)
        })?;
        let age = run.age();
        ended.filter(|status| status.success()).ok_or_else(|| unexpected(&run))?;
        let recovery = recovery.unwrap_or(age);
        let ms = format!("published anew {} ms after its start", grouped(recovery.as_millis() as u64));
        screen.bar_done("second run", published.look()?, &ms);
        Ok((recovery, age))
    }

    fn start(&self) -> Result<Run> {
        self.job.start(&self.bench, self.args.parallelism)
    }

    fn conclude(
        &self,
        screen: &Screen,
        verdict: &Verdict,
        totals: Result<()>,
        story: &Story,
        all: Duration,
    ) -> Result<()> {
        if !verdict.is_complete() {
            let examples: String = verdict.examples().map(|e| format!("\n    {e}")).collect();
            return Err(Failure::new(format!("the output is not what it must be: {verdict}{examples}")));
        }
        totals?;
        let (rows, seconds) = (grouped(self.args.rows), story.running.as_secs_f64());
        let recovery = story.recovery.as_millis();
        println!(
            "\n  {} {rows} rows in {seconds:.1} s, kill and restart included.",
            screen.green("Exactly once.")
        );
        println!("  Recovery {recovery} ms, all of this demo {:.1} s.", all.as_secs_f64());
        println!(
            "  {}",
            screen.dim("Next: `make chaos` kills it 500 times; README.md shows the job's ten lines.")
        );
        Ok(())
    }
}

fn unexpected(run: &Run) -> Failure {
    let said = run.voice().said();
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n    ");
    Failure::new(format!("the job did not reach the end by itself; it said last:\n    {last}"))
}

fn print_verdict(screen: &Screen, verdict: &Verdict) {
    let head = ["expected", "found", "missing", "duplicate", "wrong"].map(|h| format!("{h:>11}")).concat();
    println!("\n  {:<12}{}", "", screen.dim(&head));
    print_tally(screen, "windows", &verdict.windows);
    print_tally(screen, "dead letters", &verdict.dead_letters);
}

fn print_tally(screen: &Screen, name: &str, tally: &Tally) {
    let cell = |n: usize| format!("{:>11}", grouped(n as u64));
    let good = [tally.expected, tally.found].map(cell).concat();
    let bad = [tally.missing(), tally.duplicate, tally.wrong + tally.extra];
    let bad = bad.map(|n| if n == 0 { screen.green(&cell(n)) } else { screen.red(&cell(n)) }).concat();
    println!("  {name:<12}{good}{bad}");
}

fn print_totals(screen: &Screen, oracle: &Oracle, exact: bool) {
    let counts = &oracle.counts;
    let [rows, malformed, far, late] =
        [counts.rows, counts.malformed, counts.out_of_range, counts.late].map(grouped);
    let word = if exact { screen.green("exact") } else { screen.red("not what the job tells") };
    println!(
        "  {:<12}{rows:>11} rows, {malformed} malformed, {far} out of range, {late} late: {word}",
        "totals"
    );
}
