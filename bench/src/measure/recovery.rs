//! What a failure costs on a cluster: the longest time without published output, beside the usual time from one publication
//! to the next.
//!
//! The job passes every record on. Its workers run on two taskmanagers, each of which has slots for all of them.

use crate::Result;
use crate::cluster::{Cluster, processes};
use crate::published::{self, Published};
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::table::Table;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const FLAGS: &str = "--kept nothing --keys 1000 --partitions 4 --rate 20000 --seconds 3600";
const INTERVAL: &str = "checkpoint.interval=100ms";
const WORKERS: u32 = 2;
/// So long the job runs undisturbed before each failure.
const CALM: Duration = Duration::from_millis(1_500);
/// Output must come again within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A failure, how often it is inflicted, and the goal for what it costs.
struct Failure {
    name: &'static str,
    times: u32,
    inflict: fn(&mut Running<'_>) -> Result<()>,
    goal: &'static str,
}

const FAILURES: &[Failure] = &[
    Failure { name: "kill -9 of a job process", times: 30, inflict: kill_process, goal: "300 beyond usual" },
    Failure { name: "kill -9 of a taskmanager", times: 15, inflict: kill_taskmanager, goal: "500" },
    Failure { name: "SIGSTOP of a host", times: 5, inflict: stop_host, goal: "3250 (lease) + 500" },
];

struct Running<'a> {
    cluster: &'a mut Cluster,
    job: String,
    output: PathBuf,
    /// The taskmanager that is next, and what is to go on when the measurement is taken.
    next: usize,
    stopped: Vec<u32>,
}

/// Inflicts every failure some times.
pub fn take(setting: &Setting) -> Result<Table> {
    let head = ["failure", "times", "gap p50 ms", "p99", "most", "goal"];
    let title =
        format!("Longest time without output, 20,000 records/s, {INTERVAL}, {WORKERS} workers on 2 hosts");
    let mut table = Table::new(title, &head);
    let mut cluster = Cluster::start(setting, 2, WORKERS)?;
    let output = setting.path("recovery-output");
    let flags = FLAGS.split_whitespace().map(str::to_owned);
    let arguments: Vec<String> =
        flags.chain(["--output".to_owned(), output.to_string_lossy().into_owned()]).collect();
    let more = ["-p", &WORKERS.to_string(), "-D", INTERVAL];
    let job = cluster.submit(&more, &setting.beside("bench-keys")?, &arguments)?;
    cluster.runs(&job, WORKERS)?;
    let mut running = Running { cluster: &mut cluster, job, output, next: 0, stopped: Vec::new() };
    let usual = running.undisturbed()?;
    table.row(cells("none", usual.len(), &usual, "-"));
    for failure in FAILURES {
        let gaps: Result<Vec<f64>> = (0..failure.times).map(|_| running.gap(failure)).collect();
        table.row(cells(failure.name, failure.times as usize, &Figures::of(gaps?), failure.goal));
    }
    table.note("A gap is from one published file to the next; without a failure, between any two publications in 10 s.");
    Ok(table)
}

fn cells(name: &str, times: usize, gaps: &Figures, goal: &str) -> Vec<String> {
    [name.to_owned(), times.to_string()].into_iter().chain(gaps.cells()).chain([goal.to_owned()]).collect()
}

impl Running<'_> {
    /// The times between publications when nothing fails.
    fn undisturbed(&self) -> Result<Figures> {
        let from = published::now();
        std::thread::sleep(Duration::from_secs(10));
        let gaps = Published::in_directory(&self.output)?.gaps(from, published::now());
        // The files of one epoch become visible together.
        Ok(Figures::of(gaps.into_iter().map(ms).filter(|gap| *gap > 20.0)))
    }

    /// The longest time without output because of a failure.
    fn gap(&mut self, failure: &Failure) -> Result<f64> {
        self.cluster.all_registered()?;
        self.cluster.runs(&self.job, WORKERS)?;
        std::thread::sleep(CALM);
        let attempt = self.cluster.info(&self.job)?["attempt"].clone();
        let from = published::now();
        (failure.inflict)(self)?;
        let inflicted = published::now();
        let began = Instant::now();
        let has_recovered = || -> Result<bool> {
            let info = self.cluster.info(&self.job)?;
            let runs = info["state"] == "RUNNING" && info["attempt"] != attempt;
            Ok(runs && Published::in_directory(&self.output)?.is_later_than(inflicted + CALM))
        };
        while !has_recovered()? {
            if began.elapsed() > PATIENCE {
                return Err(format!("{}: no output after {} s", failure.name, PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let longest = Published::in_directory(&self.output)?.longest(from, published::now());
        self.heal()?;
        Ok(ms(longest))
    }

    /// What was stopped goes on.
    fn heal(&mut self) -> Result<()> {
        self.stopped.drain(..).for_each(|pid| signal(pid, libc::SIGCONT));
        for number in 0..self.cluster.taskmanagers.len() {
            if self.cluster.taskmanagers[number].ended() {
                self.cluster.start_again(number)?;
            }
        }
        Ok(())
    }

    /// A taskmanager that runs processes of the job, with these.
    fn host(&mut self) -> Result<(usize, Vec<u32>)> {
        let pids = processes(&self.cluster.info(&self.job)?);
        for _ in 0..self.cluster.taskmanagers.len() {
            self.next = (self.next + 1) % self.cluster.taskmanagers.len();
            let parent = self.cluster.taskmanagers[self.next].pid();
            let ours: Vec<u32> = pids.iter().copied().filter(|pid| parent_of(*pid) == Some(parent)).collect();
            if !ours.is_empty() {
                return Ok((self.next, ours));
            }
        }
        Err("no taskmanager runs a process of the job".into())
    }
}

fn kill_process(running: &mut Running<'_>) -> Result<()> {
    let (_, pids) = running.host()?;
    signal(pids[0], libc::SIGKILL);
    Ok(())
}

fn kill_taskmanager(running: &mut Running<'_>) -> Result<()> {
    let (number, _) = running.host()?;
    running.cluster.taskmanagers[number].kill();
    Ok(())
}

/// A host that falls silent: nothing on it runs any more.
fn stop_host(running: &mut Running<'_>) -> Result<()> {
    let (number, mut pids) = running.host()?;
    pids.push(running.cluster.taskmanagers[number].pid());
    pids.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    running.stopped = pids;
    Ok(())
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill has no pointers. A process that has ended is no error here.
    let _ = unsafe { libc::kill(pid as libc::pid_t, signal) };
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
