//! What the kill of a job process costs a reader of committed messages: the longest time without one.
//!
//! The job passes every message on, from topic to topic. Its workers run on two taskmanagers, each of which has slots for all of
//! them.

use crate::Result;
use crate::cluster::{Cluster, processes};
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::stamped::Stamped;
use crate::table::Table;
use crate::topics::Topics;
use std::time::{Duration, Instant};

const RATE: u64 = 20_000;
const PARTITIONS: u64 = 4;
const INTERVAL: &str = "checkpoint.interval=100ms";
const WORKERS: u32 = 2;
const KILLS: usize = 30;
/// So long the job runs undisturbed before each kill, and output must have come again for as long.
const CALM: Duration = Duration::from_secs(2);
const UNDISTURBED: Duration = Duration::from_secs(10);
/// Output must come again within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between messages that become visible together there are shorter times.
const TOGETHER_MS: f64 = 20.0;

/// Kills a process some times.
pub fn take(setting: &Setting) -> Result<Table> {
    let mut why = String::new();
    let Some(topics) = Topics::start(&mut why)? else { return Ok(Table::skipped("kafka-gap", &why)) };
    let head = ["failure", "times", "gap p50 ms", "p99", "most", "goal"];
    let title = format!(
        "Longest time without a committed message, Kafka to Kafka, {RATE} messages/s, {INTERVAL}, {WORKERS} workers on 2 hosts"
    );
    let mut table = Table::new(title, &head);
    let [input, output] = [topics.make("gap-input", PARTITIONS)?, topics.make("gap-output", PARTITIONS)?];
    let cluster = Cluster::start(setting, 2, WORKERS)?;
    let words = ["--work", "pass", "--input", &input, "--output", &output, "--follow"].map(str::to_owned);
    let arguments: Vec<String> = words.into_iter().chain(topics.flags()).collect();
    let more = ["-p", &WORKERS.to_string(), "-D", INTERVAL];
    let job = cluster.submit(&more, &setting.beside("bench-kafka")?, &arguments)?;
    cluster.runs(&job, WORKERS)?;
    let stamped = Stamped::start(topics.bootstrap(), &input, &output, PARTITIONS as i32, RATE)?;
    stamped.until_seen(PATIENCE, || Ok(()))?;
    let running = Running { cluster, job, stamped };
    let usual = running.undisturbed();
    table.row(cells("none", usual.len(), &usual, "-"));
    let gaps: Result<Vec<f64>> = (0..KILLS).map(|number| running.gap(number)).collect();
    table.row(cells("kill -9 of a job process", KILLS, &Figures::of(gaps?), "800"));
    running.stamped.end()?;
    table.note(
        "A gap is from one message to the next that a reader of committed messages gets, of all partitions.",
    );
    Ok(table)
}

fn cells(name: &str, times: usize, gaps: &Figures, goal: &str) -> Vec<String> {
    [name.to_owned(), times.to_string()].into_iter().chain(gaps.cells()).chain([goal.to_owned()]).collect()
}

struct Running {
    cluster: Cluster,
    job: String,
    stamped: Stamped,
}

impl Running {
    /// The times without a message when nothing fails.
    fn undisturbed(&self) -> Figures {
        std::thread::sleep(CALM);
        drop(self.stamped.take());
        std::thread::sleep(UNDISTURBED);
        Figures::of(
            gaps(self.stamped.take().iter().map(|message| message.seen)).filter(|gap| *gap > TOGETHER_MS),
        )
    }

    /// The longest time without a message because of a kill.
    fn gap(&self, number: usize) -> Result<f64> {
        self.cluster.runs(&self.job, WORKERS)?;
        std::thread::sleep(CALM);
        let info = self.cluster.info(&self.job)?;
        let pids = processes(&info);
        let pid = pids.get(number % pids.len().max(1)).ok_or("the job has no process")?;
        // The gap begins with the last message before the kill.
        let mut seen: Vec<Duration> =
            self.stamped.take().last().map(|message| message.seen).into_iter().collect();
        // SAFETY: kill has no pointers.
        if unsafe { libc::kill(*pid as libc::pid_t, libc::SIGKILL) } != 0 {
            return Err(format!("process {pid} of the job has ended by itself"));
        }
        let (killed, began) = (self.stamped.now(), Instant::now());
        let has_recovered = |seen: &mut Vec<Duration>| -> Result<bool> {
            seen.extend(self.stamped.take().iter().map(|message| message.seen));
            let now = self.cluster.info(&self.job)?;
            let runs = now["state"] == "RUNNING" && now["attempt"] != info["attempt"];
            Ok(runs && seen.last().is_some_and(|last| *last > killed + CALM))
        };
        while !has_recovered(&mut seen)? {
            if began.elapsed() > PATIENCE {
                return Err(format!("no output {} s after a kill", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(gaps(seen.into_iter()).fold(0.0, f64::max))
    }
}

/// The times from one message to the next, in milliseconds.
fn gaps(seen: impl Iterator<Item = Duration> + Clone) -> impl Iterator<Item = f64> {
    seen.clone().zip(seen.skip(1)).map(|(one, next)| (next - one).as_secs_f64() * 1e3)
}
