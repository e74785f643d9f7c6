//! From producing a message to seeing what a job has made of it, as a reader of committed messages.
//!
//! The job passes every message on. Producer, reader and clock are in this process, which shares the cores with the job and the
//! brokers.

use crate::Result;
use crate::child::Watched;
use crate::quantile::Figures;
use crate::setting::Setting;
use crate::stamped::Stamped;
use crate::table::Table;
use crate::topics::Topics;
use std::process::Command;
use std::time::Duration;

const RATE: u64 = 20_000;
const PARTITIONS: u64 = 4;
/// So long the job runs before, and while latencies are taken.
const TIMES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
const PATIENCE: Duration = Duration::from_secs(60);

/// How the job delivers, and the goal for it.
struct Delivery {
    name: &'static str,
    guarantee: &'static str,
    interval: &'static str,
    goal: &'static str,
}

const DELIVERIES: &[Delivery] = &[
    Delivery {
        name: "exactly once, 100 ms",
        guarantee: "exactly-once",
        interval: "100ms",
        goal: "p50 70, p99 150",
    },
    Delivery { name: "exactly once, 20 ms", guarantee: "exactly-once", interval: "20ms", goal: "p99 60" },
    Delivery { name: "at least once, 1 s", guarantee: "at-least-once", interval: "1s", goal: "p99 10" },
];

/// Takes latencies without a job, then with each delivery and number of workers.
pub fn take(setting: &Setting) -> Result<Table> {
    let mut why = String::new();
    let Some(topics) = Topics::start(&mut why)? else { return Ok(Table::skipped("kafka-latency", &why)) };
    let head = ["checkpoints", "messages", "p50 ms", "p99", "most", "goal"];
    let mut table = Table::new(format!("From produced to visible, {RATE} messages/s"), &head);
    let [input, output] = [topics.make("direct", PARTITIONS)?, topics.make("passed", PARTITIONS)?];
    table.row(cells("no job, topic alone", &latencies(&topics, &input, &input, || Ok(()))?, "-"));
    for delivery in DELIVERIES {
        for workers in &setting.options.workers {
            let input = topics.make("stamped", PARTITIONS)?;
            setting.clear()?;
            let mut command = Command::new(setting.beside("bench-kafka")?);
            command
                .args(["--work", "pass", "--follow", "--input", &input, "--output", &output])
                .args(["--delivery", delivery.guarantee])
                .args(topics.flags());
            setting.alone(&mut command, delivery.interval, *workers);
            let mut job = Watched::start(&mut command)?;
            let is_alive = || if job.ended() { Err("the job has ended".to_owned()) } else { Ok(()) };
            let figures = latencies(&topics, &input, &output, is_alive)?;
            let name = format!("{}, {workers} worker{}", delivery.name, if *workers == 1 { "" } else { "s" });
            table.row(cells(&name, &figures, delivery.goal));
            job.kill();
            topics.delete(&[&input]);
        }
    }
    setting.clear()?;
    table.note(
        "A message is sent when it is due, twenty at a time, each millisecond to one partition. Everything shares the cores: the first \
         line says what the topic itself and the machine take.",
    );
    Ok(table)
}

fn latencies(
    topics: &Topics,
    input: &str,
    output: &str,
    mut is_alive: impl FnMut() -> Result<()>,
) -> Result<Figures> {
    let stamped = Stamped::start(topics.bootstrap(), input, output, PARTITIONS as i32, RATE)?;
    stamped.until_seen(PATIENCE, &mut is_alive)?;
    let [before, during] = TIMES;
    std::thread::sleep(before);
    drop(stamped.take());
    std::thread::sleep(during);
    is_alive()?;
    let seen = stamped.take();
    stamped.end()?;
    let wanted = RATE as f64 * during.as_secs_f64();
    if (seen.len() as f64) < 0.9 * wanted {
        return Err(format!(
            "{} of {wanted:.0} messages became visible in time: no figure holds",
            seen.len()
        ));
    }
    Ok(Figures::of(seen.iter().map(|message| (message.seen - message.produced).as_secs_f64() * 1e3)))
}

fn cells(name: &str, figures: &Figures, goal: &str) -> Vec<String> {
    [name.to_owned(), figures.len().to_string()]
        .into_iter()
        .chain(figures.cells())
        .chain([goal.to_owned()])
        .collect()
}
