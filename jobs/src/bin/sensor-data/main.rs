//! A seeded stream of sensor readings, as JSON lines over the partition files of an embedded log, or as messages of a topic.
//!
//! Each device has its own mean temperature, vibration and pressure; in one of ten 5-minute windows it is sick
//! and shakes. Mixed in, at the shares asked for, are rows that a job has to survive: malformed ones (every
//! kind that a gateway has been seen to send), temperatures out of range, rows that come too late, and rows out of
//! order, which come behind newer ones but not too late.
//!
//! A late row is late for every correct reader, however it is paced: its event time lies an hour before the
//! stream's start, and it comes only in the second half, when every partition has long emitted a watermark. A
//! malformed row is never a valid one by accident, and never an empty line, which the log would skip.
//!
//! The same options give the same bytes. The counts printed at the end are what a job must have counted.

mod habit;
mod pace;
mod partitions;
mod progress_line;
mod rng;
mod rows;
mod spoil;
#[cfg(test)]
mod tests;
mod topic;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use pace::Pace;
use partitions::{Partitions, last_timestamp, partition_files};
use progress_line::ProgressLine;
use rows::{Counts, Stream};
use tidegate_connectors::{Kafka, KafkaSetting, Location};
use topic::Topic;

/// The job's window, in milliseconds of event time: what `--rows-per-window` counts in.
const WINDOW_MS: u64 = 300_000;
/// How far before the stream's start a late row lies, at least.
const LATE_MS: u64 = 3_600_000;
/// The least time to start at: late rows lie before it.
const LEAST_START_MS: u64 = 3 * LATE_MS;
/// Where a stream starts, unless it is said.
const FIRST_MS: u64 = 1_700_000_000_000;
/// The last event time: up to here a number of JSON is exact for every reader.
const LAST_MS: u64 = 1 << 53;

/// Writes a seeded stream of sensor readings: JSON lines, one file a partition, or the messages of a topic.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Directory of the partition files part-0.jsonl, part-1.jsonl, ..., or kafka:TOPIC; created if missing
    #[arg(long, value_name = "DIR|kafka:TOPIC")]
    out: Location,
    /// A setting of the Kafka client, any number of times, bootstrap.servers among them. A secret is given as
    /// KEY=env:NAME or KEY=file:PATH
    #[arg(long, value_name = "KEY=VALUE")]
    kafka: Vec<KafkaSetting>,
    /// Rows to write, over all partitions
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: u64,
    /// Partitions
    #[arg(long, value_name = "P", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=4096))]
    partitions: u64,
    /// Devices, distributed over the partitions
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    devices: u64,
    /// Rows of one device in one 5-minute window, on average: how fast event time goes
    #[arg(long, value_name = "X", default_value_t = 30.0, value_parser = positive)]
    rows_per_window: f64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Rows a second, appended steadily and flushed every 20 ms [default: as fast as possible]
    #[arg(long, value_name = "ROWS_PER_SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Event time of the first row: milliseconds since 1970, or `now`
    /// [default: 1700000000000; with --append, where the files end; for a topic, so that the last row is of now]
    #[arg(long, value_name = "MS", value_parser = start_time)]
    start_time: Option<u64>,
    /// Share of malformed rows: cut short, wrong types, invalid UTF-8, empty values, garbage
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = share)]
    malformed: f64,
    /// Share of rows with a temperature outside 0 to 100
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, value_parser = share)]
    out_of_range: f64,
    /// Share of rows an hour and more before the start (in the second half of the stream only)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0005, value_parser = share)]
    late: f64,
    /// Share of rows that come out of order; the others are each the newest so far
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    out_of_order: f64,
    /// A row that is out of order is up to this much older than the newest one
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    out_of_order_ms: u64,
    /// Writes the counts to this file too
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// Adds to the partition files that are there
    #[arg(long, conflicts_with = "force")]
    append: bool,
    /// Deletes the partition files that are there, and nothing else
    #[arg(long)]
    force: bool,
    /// No progress line
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
A row: {\"device_id\":\"dev-00042\",\"timestamp\":1700000000123,\"temperature\":71.52,\"vibration\":0.0231,\"pressure\":101.3}
A device stays in one partition. The same options give the same bytes (into a topic, with --start-time). At the end the counts are printed
as JSON: rows, malformed, out_of_range, late, bytes.

Examples:
  sensor-data --out data --rows 2000000
  sensor-data --out live --rows 600000 --rate 10000 --start-time now
  sensor-data --out kafka:sensor-data --kafka bootstrap.servers=localhost:9092 --rate 10000
  sensor-data --out clean --malformed 0 --out-of-range 0 --late 0";

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite()).ok_or("must be a number above 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or("must be a share from 0 to 1".into())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

fn start_time(text: &str) -> Result<u64, String> {
    let ms =
        if text == "now" { now_ms() } else { text.parse().map_err(|_| "must be milliseconds or `now`")? };
    if ms >= LEAST_START_MS { Ok(ms) } else { Err(format!("must be at least {LEAST_START_MS}")) }
}

/// Milliseconds of event time from row to row.
fn step_ms(devices: u64, rows_per_window: f64) -> f64 {
    WINDOW_MS as f64 / (devices as f64 * rows_per_window)
}

/// Where rows go.
enum Target {
    Files(Partitions),
    Topic(Topic),
}

impl Target {
    fn write(&mut self, partition: usize, line: &[u8]) -> Result<(), String> {
        match self {
            Self::Files(files) => files.write(partition, line),
            Self::Topic(topic) => topic.write(partition, line),
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        match self {
            Self::Files(files) => files.flush(),
            Self::Topic(topic) => topic.flush(),
        }
    }
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sensor-data: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(&self) -> Result<(), String> {
        self.check()?;
        let start = match &self.out {
            Location::Directory(out) => self.prepare(out)?,
            Location::Topic(_) if self.append || self.force => {
                return Err("--append and --force are for files: a topic is always added to".into());
            }
            Location::Topic(_) => self.start_time.unwrap_or_else(|| self.start_that_ends_at(now_ms())),
        };
        self.check_times(start)?;
        let mut out = match &self.out {
            Location::Directory(out) => Target::Files(Partitions::open(out, self.partitions)?),
            Location::Topic(topic) => {
                let kafka = Kafka::new(self.kafka.clone());
                Target::Topic(Topic::open(&kafka, topic, self.partitions)?)
            }
        };
        let counts = self.generate(Stream::new(self, start), &mut out)?;
        self.report(&counts)
    }

    fn check(&self) -> Result<(), String> {
        if self.devices < self.partitions {
            let (d, p) = (self.devices, self.partitions);
            return Err(format!("{p} partitions need at least {p} devices, --devices is {d}"));
        }
        if self.malformed + self.out_of_range + self.late > 1.0 {
            return Err("--malformed, --out-of-range and --late together must not exceed 1".into());
        }
        Ok(())
    }

    /// What is computed with event times has to stay within them: nothing here may be less than 0, or more than a job takes.
    fn check_times(&self, start: u64) -> Result<(), String> {
        if !(LEAST_START_MS..=LAST_MS).contains(&start) {
            return Err(format!(
                "the rows would start at {start} ms; it must be from {LEAST_START_MS} to {LAST_MS}, use another --start-time"
            ));
        }
        if self.out_of_order_ms > start {
            return Err(format!("--out-of-order-ms must not be beyond the start, {start}"));
        }
        let end = start as f64 + self.rows as f64 * step_ms(self.devices, self.rows_per_window);
        if end > LAST_MS as f64 {
            return Err(format!(
                "event time would go up to {end:.0} ms, and must not go beyond {LAST_MS}; ask for fewer --rows, or for more \
                 --devices or --rows-per-window"
            ));
        }
        Ok(())
    }

    /// The start of a stream whose last row is of this time. Jobs write messages with event times into topics, and brokers delete
    /// messages of long ago and refuse those of the future.
    fn start_that_ends_at(&self, end_ms: u64) -> u64 {
        let span = self.rows as f64 * step_ms(self.devices, self.rows_per_window);
        end_ms.saturating_sub(span.ceil() as u64)
    }

    /// Makes the directory ready and says the event time to start at.
    fn prepare(&self, out: &Path) -> Result<u64, String> {
        fs::create_dir_all(out).map_err(|e| format!("cannot create {}: {e}", out.display()))?;
        let found = partition_files(out)?;
        if self.force {
            found
                .iter()
                .try_for_each(fs::remove_file)
                .map_err(|e| format!("cannot delete a partition: {e}"))?;
        } else if !found.is_empty() && !self.append {
            let (n, out) = (found.len(), out.display());
            return Err(format!(
                "{out} holds {n} partition files; add to them with --append, delete with --force"
            ));
        }
        let end = if self.append { last_timestamp(&found)? } else { None };
        Ok(self.start_time.or(end.map(|ms| ms.saturating_add(1))).unwrap_or(FIRST_MS))
    }

    fn generate(&self, mut stream: Stream, out: &mut Target) -> Result<Counts, String> {
        let (pace, mut progress) = (Pace::new(self.rate), ProgressLine::new(self.rows, self.quiet));
        while stream.counts.rows < self.rows {
            let due = pace.due(stream.counts.rows).min(self.rows);
            while stream.counts.rows < due {
                let partition = stream.next_row();
                out.write(partition, &stream.line)?;
            }
            if self.rate.is_some() {
                out.flush()?;
            }
            progress.show(due);
        }
        out.flush()?;
        progress.clear();
        Ok(stream.counts)
    }

    fn report(&self, counts: &Counts) -> Result<(), String> {
        let json = serde_json::to_string(counts).map_err(|e| e.to_string())?;
        if let Some(path) = &self.counts {
            fs::write(path, format!("{json}\n"))
                .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        // A closed pipe is no reason to fail: the rows are written.
        let _ = writeln!(io::stdout(), "{json}");
        Ok(())
    }
}
