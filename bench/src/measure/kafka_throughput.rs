//! CPU seconds a million rows, rows a second and peak memory from topic to topic: bare loops over librdkafka and jobs, run in
//! turn.
//!
//! CPU is that of the process, with librdkafka's threads, without the brokers'. Rows a second are those while it runs: what
//! the same program takes for an empty topic is left out.

use crate::Result;
use crate::process::{self, Usage};
use crate::setting::Setting;
use crate::table::Table;
use crate::topics::{Rows, Topics};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is done with the rows, by the bare loop and by a job.
struct Work {
    name: &'static str,
    flag: &'static str,
    writes: bool,
}

const WORKS: &[Work] = &[
    Work { name: "predictive-maintenance", flag: MAINTENANCE, writes: true },
    Work { name: "pass-through", flag: "pass", writes: true },
    Work { name: "source alone", flag: "count", writes: false },
];
const MAINTENANCE: &str = "maintenance";

/// Runs the bare loop and the job with each number of workers for each work, round by round, and takes the least of each figure.
pub fn take(setting: &Setting) -> Result<Table> {
    let mut why = String::new();
    let Some(topics) = Topics::start(&mut why)? else { return Ok(Table::skipped("kafka-throughput", &why)) };
    let input = topics.input(setting)?;
    let empty = topics.make("empty", setting.options.partitions)?;
    let comparison = Comparison { setting, topics: &topics, input, empty };
    let mut table = comparison.table();
    for work in WORKS {
        let mut best = vec![Best::default(); 1 + setting.options.workers.len()];
        for round in 1..=setting.options.rounds.max(1) {
            eprintln!("{}, round {round} of {}", work.name, setting.options.rounds);
            comparison.round(work, &mut best)?;
        }
        comparison.rows(work, &best, &mut table);
    }
    Ok(table)
}

/// The best of one program so far.
#[derive(Default, Clone)]
struct Best {
    usage: Option<Usage>,
    /// The time on the wall for an empty topic.
    start: Option<Duration>,
}

struct Comparison<'a> {
    setting: &'a Setting,
    topics: &'a Topics,
    input: String,
    empty: String,
}

/// The topics that a run writes.
struct Written {
    output: String,
    dead_letters: String,
}

impl Comparison<'_> {
    fn round(&self, work: &Work, best: &mut [Best]) -> Result<()> {
        let mut wanted = None;
        for (workers, best) in
            [None].into_iter().chain(self.setting.options.workers.iter().map(Some)).zip(best)
        {
            let run = |input: &str| -> Result<(Usage, Written)> {
                let written = self.written()?;
                let usage = self.run(work, workers.copied(), input, &written)?;
                Ok((usage, written))
            };
            let (usage, written) = run(&self.empty)?;
            best.start = Some(best.start.map_or(usage.wall, |start| start.min(usage.wall)));
            self.topics.delete(&[&written.output, &written.dead_letters]);
            let (usage, written) = run(&self.input)?;
            best.usage = Some(best.usage.map_or(usage, |before| before.best(usage)));
            // The bare loop explains errors in other words.
            let found = (self.topics.rows(&written.output)?, self.topics.rows(&written.dead_letters)?.count);
            self.topics.delete(&[&written.output, &written.dead_letters]);
            let wanted = *wanted.get_or_insert(found);
            if found != wanted || (work.writes && found.0.count == 0) {
                let told = |(rows, dead): (Rows, u64)| format!("{} rows and {dead} dead letters", rows.count);
                return Err(format!(
                    "{}: a job wrote {}, which are not those of the bare loop, {}: no figure holds",
                    work.name,
                    told(found),
                    told(wanted)
                ));
            }
        }
        Ok(())
    }

    fn written(&self) -> Result<Written> {
        let partitions = self.setting.options.partitions;
        Ok(Written {
            output: self.topics.make("output", partitions)?,
            dead_letters: self.topics.make("dead-letters", partitions)?,
        })
    }

    /// Runs the bare loop, or the job with so many workers.
    fn run(&self, work: &Work, workers: Option<usize>, input: &str, written: &Written) -> Result<Usage> {
        let Some(workers) = workers else { return process::run(&mut self.bare(work, input, written)?) };
        self.setting.clear()?;
        let mut command = self.job(work, input, written)?;
        self.setting.alone(&mut command, &self.setting.options.interval, workers);
        let usage = self.setting.run_logged(&mut command)?;
        self.setting.clear()?;
        Ok(usage)
    }

    fn bare(&self, work: &Work, input: &str, written: &Written) -> Result<Command> {
        let mut command = Command::new(self.setting.beside("bare-kafka")?);
        command.args(["--work", work.flag, "--bootstrap", self.topics.bootstrap(), "--input", input]);
        command.args(["--output", &written.output, "--dead-letters", &written.dead_letters]);
        command.arg("--model").arg(self.setting.model()).stdout(Stdio::null());
        Ok(command)
    }

    fn job(&self, work: &Work, input: &str, written: &Written) -> Result<Command> {
        let Written { output, dead_letters } = written;
        let mut command;
        if work.flag == MAINTENANCE {
            command = Command::new(self.setting.job_executable());
            for (flag, topic) in [("--input", input), ("--output", output), ("--dead-letters", dead_letters)]
            {
                command.arg(flag).arg(format!("kafka:{topic}"));
            }
            command.arg("--model").arg(self.setting.model());
        } else {
            command = Command::new(self.setting.beside("bench-kafka")?);
            command.args(["--work", work.flag, "--input", input, "--output", output]);
        }
        command.args(self.topics.flags());
        Ok(command)
    }

    fn table(&self) -> Table {
        let options = &self.setting.options;
        let title = format!(
            "Kafka to Kafka exactly once, {} M rows in {} partitions, {} checkpoints",
            millions(options.rows),
            options.partitions,
            options.interval
        );
        let head = ["run", "CPU s / M rows", "x bare", "M rows/s", "x bare", "peak MB"];
        let mut table = Table::new(title, &head);
        table.note(format!(
            "Best of {} rounds; the outputs of all runs of a work have the same rows. A job commits with its checkpoints, a bare loop \
             once a second. CPU is that of the process, without the brokers; rows a second are without the time for an empty topic.",
            options.rounds
        ));
        table.note(
            "Goals: CPU at most 1.3 times the bare loop's for predictive-maintenance, 1.6 times for pass-through; the source alone \
             with at least 0.9 times its rows a second; peak memory under 300 MB.",
        );
        table
    }

    fn rows(&self, work: &Work, best: &[Best], table: &mut Table) {
        let rows = millions(self.setting.options.rows);
        let figures = |best: &Best| {
            let (usage, start) = (best.usage?, best.start?);
            Some((usage, rows / usage.wall.saturating_sub(start).as_secs_f64().max(1e-3)))
        };
        let Some((bare, bare_rate)) = best.first().and_then(figures) else { return };
        let names = ["bare loop".to_owned()].into_iter().chain(self.setting.options.workers.iter().map(
            |n| match n {
                1 => "1 worker".to_owned(),
                n => format!("{n} workers"),
            },
        ));
        for (name, (usage, rate)) in names.zip(best.iter().filter_map(figures)) {
            let cpu = usage.cpu.as_secs_f64();
            table.row([
                format!("{}, {name}", work.name),
                format!("{:.3}", cpu / rows),
                format!("{:.2}", cpu / bare.cpu.as_secs_f64()),
                format!("{rate:.2}"),
                format!("{:.2}", rate / bare_rate),
                format!("{:.0}", usage.peak_bytes as f64 / 1e6),
            ]);
        }
    }
}

fn millions(rows: u64) -> f64 {
    rows as f64 / 1e6
}
