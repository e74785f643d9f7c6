//! `make demo`: a local cluster runs a job; one of its two taskmanagers is killed with kill -9 half way, and the output is
//! checked row by row against an independent program's.

mod alerts;
mod cluster;
mod published;
mod screen;

use clap::Parser;
use cluster::Cluster;
use published::Published;
use screen::{Screen, grouped};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate_chaos::judge::{self, Tally, Verdict};
use tidegate_chaos::options::Options;
use tidegate_chaos::workbench::{Input, Workbench};
use tidegate_chaos::{Failure, Oracle, Result};

/// Runs the predictive-maintenance job on a local cluster, kills a taskmanager half way and checks every row.
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
    /// The executable of the cluster [default: tidegate beside this program]
    #[arg(long, value_name = "PATH")]
    tidegate: Option<PathBuf>,
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

/// A job that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(100);
/// How often a running job is looked at.
const GLANCE: Duration = Duration::from_millis(3);
/// The checkpoint interval of the job.
const INTERVAL: &str = "100ms";
/// The taskmanager is killed when so much of its output is published; a job too fast for that is tried again, sooner.
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
        println!("  all files are kept in {}, the logs in its directory cluster", bench.keep().display());
    }
    ExitCode::FAILURE
}

struct Demo {
    args: Args,
    generator: PathBuf,
    tidegate: PathBuf,
    job: PathBuf,
    model: PathBuf,
    bench: Workbench,
}

/// What happened to the job, timed.
struct Story {
    /// From the kill to the first newly published file.
    recovery: Duration,
    /// From the submission to the end of the job.
    running: Duration,
}

impl Demo {
    fn new(args: Args) -> Result<Demo> {
        let Args { bin, generator, model, .. } = &args;
        let (bin, generator, model) = (bin.clone(), generator.clone(), model.clone());
        let paths = Options { bin, generator, model, ..Options::default() };
        let job = paths.job()?;
        Ok(Demo {
            generator: paths.generator()?,
            tidegate: args.tidegate.clone().unwrap_or_else(|| job.with_file_name("tidegate")),
            job,
            model: paths.model()?,
            bench: Workbench::new(args.work.as_deref())?,
            args,
        })
    }

    fn play(&mut self, screen: &Screen) -> Result<()> {
        let started = Instant::now();
        screen.title("A taskmanager is killed while a job runs. Not a row may be lost, doubled or changed.");
        let oracle = self.prepare(screen)?;
        let cluster = self.start_cluster(screen)?;
        let story = self.kill_and_recover(screen, &cluster, &oracle)?;
        drop(cluster);
        let verdict = judge::judge(&oracle, &self.bench.output, &self.bench.dead_letters)?;
        print_verdict(screen, &verdict);
        alerts::print(screen, &self.bench.output)?;
        self.conclude(screen, &verdict, &story, started.elapsed())
    }

    fn start_cluster(&self, screen: &Screen) -> Result<Cluster> {
        let started = Instant::now();
        screen.live("cluster", "starting ...");
        let cluster = Cluster::up(&self.tidegate, &self.bench.checkpoints.with_file_name("cluster"))?;
        let text = format!("jobmanager at {}, 2 taskmanagers, 4 slots", cluster.address);
        screen.timed("cluster", &text, started.elapsed());
        Ok(cluster)
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
        let oracle = self.bench.oracle(None, &self.model, &counts)?;
        let windows = grouped(oracle.windows.len() as u64);
        screen.timed("expected", &format!("{windows} windows, by an independent program"), started.elapsed());
        Ok(oracle)
    }

    fn kill_and_recover(&self, screen: &Screen, cluster: &Cluster, oracle: &Oracle) -> Result<Story> {
        let mut published = Published::new(&self.bench, oracle.windows.len());
        for part in KILL_AT {
            self.bench.clear()?;
            published.forget();
            let began = Instant::now();
            let job = self.submit(screen, cluster)?;
            if let Some(recovery) = self.watch(screen, cluster, &job, (&mut published, part))? {
                return Ok(Story { recovery, running: began.elapsed() });
            }
        }
        Err(Failure::new("the job reached its end before a taskmanager could be killed: give it more --rows"))
    }

    fn submit(&self, screen: &Screen, cluster: &Cluster) -> Result<String> {
        let started = Instant::now();
        let text = |path: &PathBuf| path.display().to_string();
        let (input, output) = (text(&self.bench.input), text(&self.bench.output));
        let (dead_letters, model) = (text(&self.bench.dead_letters), text(&self.model));
        let arguments =
            ["--input", &input, "--output", &output, "--dead-letters", &dead_letters, "--model", &model];
        let job = cluster.submit(self.args.parallelism, INTERVAL, &self.job, &arguments)?;
        screen.timed("submitted", &format!("JobID {job}"), started.elapsed());
        Ok(job)
    }

    /// Kills a taskmanager when the part of the output is published, and waits for the end of the job. Returns the recovery
    /// time; None if the job was too fast.
    fn watch(
        &self,
        screen: &Screen,
        cluster: &Cluster,
        job: &str,
        (published, part): (&mut Published<'_>, f64),
    ) -> Result<Option<Duration>> {
        let until = Instant::now() + PATIENCE;
        while published.look()? < part {
            screen.bar("running", published.part(), "");
            wait(until, job)?;
        }
        let info = cluster.info(job)?;
        let Some(victim) = info.processes.first().filter(|_| info.state == "RUNNING") else {
            return Ok(None);
        };
        let before = published.files();
        cluster.kill(&victim.taskmanager)?;
        let clock = Instant::now();
        let done = published.look()?;
        screen.bar_done("running", done, &format!("kill -9 of taskmanager {}", victim.taskmanager));
        let mut recovery = None;
        while published.look()? < 1.0 {
            screen.bar("recovered", published.part(), "");
            if recovery.is_none() && published.files() > before && cluster.info(job)?.attempt > info.attempt {
                recovery = Some(clock.elapsed());
            }
            wait(until, job)?;
        }
        let recovery = recovery.unwrap_or_else(|| clock.elapsed());
        while cluster.info(job)?.state != "FINISHED" {
            wait(until, job)?;
        }
        let ms = grouped(recovery.as_millis() as u64);
        screen.bar_done("recovered", 1.0, &format!("published anew {ms} ms after the kill"));
        Ok(Some(recovery))
    }

    fn conclude(&self, screen: &Screen, verdict: &Verdict, story: &Story, all: Duration) -> Result<()> {
        if !verdict.is_complete() {
            let examples: String = verdict.examples().map(|e| format!("\n    {e}")).collect();
            return Err(Failure::new(format!("the output is not what it must be: {verdict}{examples}")));
        }
        let (rows, seconds) = (grouped(self.args.rows), story.running.as_secs_f64());
        let recovery = story.recovery.as_millis();
        println!(
            "\n  {} {rows} rows in {seconds:.1} s, kill and recovery included.",
            screen.green("Exactly once.")
        );
        println!("  Recovery {recovery} ms, all of this demo {:.1} s.", all.as_secs_f64());
        println!(
            "  {}",
            screen.dim(
                "Next: `tidegate cluster up`, and docs/cluster.md; README.md shows the job's ten lines."
            )
        );
        Ok(())
    }
}

/// Waits a moment, but not for ever.
fn wait(until: Instant, job: &str) -> Result<()> {
    if Instant::now() >= until {
        let seconds = PATIENCE.as_secs();
        return Err(Failure::new(format!("job {job} has not come to its end within {seconds} s")));
    }
    std::thread::sleep(GLANCE);
    Ok(())
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
