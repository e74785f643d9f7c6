//! `make demo`: files in, files out. One of two taskmanagers is killed with kill -9 half way.

use crate::cluster::Cluster;
use crate::published::Published;
use crate::screen::{Screen, grouped};
use crate::stage::{Stage, wait};
use crate::{alerts, verdict};
use std::time::{Duration, Instant};
use tidegate_chaos::{Failure, Oracle, Result, judge, visible};

/// A job that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(100);
/// The checkpoint interval of the job.
const INTERVAL: &str = "100ms";
/// The taskmanager is killed when so much of its output is published; a job too fast for that is tried again, sooner.
const KILL_AT: [f64; 3] = [0.5, 0.3, 0.1];

/// What happened to the job, timed.
struct Story {
    /// From the kill to the first newly published file.
    recovery: Duration,
    /// From the submission to the end of the job.
    running: Duration,
}

/// All of the demo.
pub(crate) fn play(stage: &Stage, screen: &Screen) -> Result<()> {
    let started = Instant::now();
    screen.title("A taskmanager is killed while a job runs. Not a row may be lost, doubled or changed.");
    let oracle = stage.prepare(screen, None)?;
    let cluster = stage.start_cluster(screen)?;
    let story = kill_and_recover(stage, screen, &cluster, &oracle)?;
    drop(cluster);
    let verdict = judge::judge(&oracle, &stage.bench.output, &stage.bench.dead_letters)?;
    verdict::print(screen, &verdict);
    alerts::print(screen, &visible::files(&stage.bench.output)?);
    verdict::must_be_complete(&verdict)?;
    conclude(stage, screen, &story, started.elapsed());
    Ok(())
}

fn kill_and_recover(stage: &Stage, screen: &Screen, cluster: &Cluster, oracle: &Oracle) -> Result<Story> {
    let mut published = Published::new(&stage.bench, oracle.windows.len());
    for part in KILL_AT {
        stage.bench.clear()?;
        published.forget();
        let began = Instant::now();
        let bench = &stage.bench;
        let flags =
            [("--input", &bench.input), ("--output", &bench.output), ("--dead-letters", &bench.dead_letters)];
        let words = flags.map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).concat();
        let job = stage.submit(screen, cluster, INTERVAL, &words)?;
        if let Some(recovery) = watch(screen, cluster, &job, (&mut published, part))? {
            return Ok(Story { recovery, running: began.elapsed() });
        }
    }
    Err(Failure::new("the job reached its end before a taskmanager could be killed: give it more --rows"))
}

/// Kills a taskmanager when the part of the output is published, and waits for the end of the job. Returns the recovery
/// time; None if the job was too fast.
fn watch(
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

fn conclude(stage: &Stage, screen: &Screen, story: &Story, all: Duration) {
    let (rows, seconds) = (grouped(stage.rows), story.running.as_secs_f64());
    let recovery = story.recovery.as_millis();
    println!(
        "\n  {} {rows} rows in {seconds:.1} s, kill and recovery included.",
        screen.green("Exactly once.")
    );
    println!("  Recovery {recovery} ms, all of this demo {:.1} s.", all.as_secs_f64());
    println!(
        "  {}",
        screen.dim("Next: `tidegate cluster up`, and docs/cluster.md; README.md shows the job's ten lines.")
    );
}
