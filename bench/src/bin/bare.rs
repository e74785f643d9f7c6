//! The predictive-maintenance job by hand: one thread, no engine, no checkpoints. The yardstick for CPU and memory.
//!
//! It does the same work on the same rows: JSON by serde_json, windows in a table by device, the same model
//! evaluator, dead letters, JSON out. What the engine costs is what it takes beyond this.

use clap::Parser;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_models::XgboostModel;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WINDOW_MS: i64 = 300_000;
const DISORDER_MS: i64 = 2_000;
const CHUNK: usize = 256 << 10;

/// The predictive-maintenance job as a bare loop: the yardstick of the benchmarks.
#[derive(Parser)]
#[command(name = "bare", version)]
struct Args {
    /// Directory of part-*.jsonl
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// File of the output rows
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// File of the dead letters
    #[arg(long, value_name = "FILE")]
    dead_letters: PathBuf,
    /// The model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
}

#[derive(Deserialize)]
struct Reading<'a> {
    device_id: &'a str,
    timestamp: i64,
    temperature: f64,
    vibration: f64,
    pressure: f64,
}

#[derive(Serialize)]
struct Alert<'a> {
    device_id: &'a str,
    window_start: i64,
    window_end: i64,
    count: u64,
    temp_std: f64,
    vibration_mean: f64,
    pressure_mean: f64,
    probability: f32,
    alert: bool,
    model: &'a str,
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    source: &'a str,
    partition: &'a str,
    offset: usize,
    error: String,
    raw: Cow<'a, str>,
}

#[derive(Serialize, Default)]
struct Counts {
    rows_in: u64,
    malformed: u64,
    out_of_range: u64,
    late: u64,
    rows_out: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(counts) => {
            println!("{}", serde_json::json!(counts));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Counts, Box<dyn Error>> {
    let mut partitions = Partition::all(&args.input)?;
    let mut job = Job::new(args)?;
    while partitions.iter().any(|p| !p.ended) {
        for partition in partitions.iter_mut().filter(|p| !p.ended) {
            job.chunk(partition)?;
        }
        job.advance(&partitions);
        job.fire()?;
    }
    job.finish()
}

/// A partition file, read a chunk at a time.
struct Partition {
    name: String,
    file: File,
    /// Offset in the file of the buffer's first byte.
    offset: usize,
    buffer: Vec<u8>,
    /// What the buffer holds, whole lines first.
    filled: usize,
    whole: usize,
    ended: bool,
    newest: i64,
}

impl Partition {
    fn all(dir: &Path) -> Result<Vec<Partition>, Box<dyn Error>> {
        let mut paths: Vec<_> = fs::read_dir(dir)?.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "jsonl"));
        paths.sort();
        paths.iter().map(|path| Partition::open(path)).collect()
    }

    fn open(path: &Path) -> Result<Partition, Box<dyn Error>> {
        Ok(Partition {
            name: path.file_name().unwrap_or_default().to_string_lossy().into(),
            file: File::open(path)?,
            offset: 0,
            buffer: vec![0; 2 * CHUNK],
            filled: 0,
            whole: 0,
            ended: false,
            newest: i64::MIN,
        })
    }

    /// Drops the lines that were read and reads one more chunk behind the rest.
    fn fill(&mut self) -> std::io::Result<()> {
        self.offset += self.whole;
        self.buffer.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        if self.buffer.len() < self.filled + CHUNK {
            self.buffer.resize(self.filled + CHUNK, 0);
        }
        let read = self.file.read(&mut self.buffer[self.filled..self.filled + CHUNK])?;
        self.filled += read;
        self.ended = read == 0;
        let end = memchr::memrchr(b'\n', &self.buffer[..self.filled]).map_or(0, |p| p + 1);
        self.whole = if self.ended { self.filled } else { end };
        Ok(())
    }
}

/// A device's readings in one window: Welford's mean and sum of squares, and two plain sums.
#[derive(Clone, Copy, Default)]
struct Features {
    count: u64,
    mean: f64,
    squares: f64,
    vibration: f64,
    pressure: f64,
}

impl Features {
    fn add(&mut self, reading: &Reading<'_>) {
        self.count += 1;
        let distance = reading.temperature - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (reading.temperature - self.mean);
        self.vibration += reading.vibration;
        self.pressure += reading.pressure;
    }
}

/// All the state of the job: a table of features a window, indexed by device.
struct Job {
    numbers: FxHashMap<Box<str>, u32>,
    devices: Vec<Box<str>>,
    windows: BTreeMap<i64, Vec<Features>>,
    watermark: i64,
    counts: Counts,
    model: XgboostModel,
    output: BufWriter<File>,
    dead_letters: BufWriter<File>,
}

impl Job {
    fn new(args: &Args) -> Result<Job, Box<dyn Error>> {
        Ok(Job {
            numbers: FxHashMap::default(),
            devices: Vec::new(),
            windows: BTreeMap::new(),
            watermark: i64::MIN,
            counts: Counts::default(),
            model: XgboostModel::load(&args.model)?,
            output: BufWriter::with_capacity(CHUNK, File::create(&args.output)?),
            dead_letters: BufWriter::new(File::create(&args.dead_letters)?),
        })
    }

    fn chunk(&mut self, partition: &mut Partition) -> Result<(), Box<dyn Error>> {
        partition.fill()?;
        let mut start = 0;
        while start < partition.whole {
            let rest = &partition.buffer[start..partition.whole];
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            match serde_json::from_slice(&rest[..length]) {
                Ok(reading) => partition.newest = partition.newest.max(self.reading(&reading)),
                Err(error) => self.dead_letter(partition, start, &rest[..length], &error)?,
            }
            self.counts.rows_in += 1;
            start += length + 1;
        }
        Ok(())
    }

    /// Adds a reading to its window and returns its time.
    #[inline]
    fn reading(&mut self, reading: &Reading<'_>) -> i64 {
        let start = reading.timestamp - reading.timestamp.rem_euclid(WINDOW_MS);
        if !(0.0..=100.0).contains(&reading.temperature) {
            self.counts.out_of_range += 1;
        } else if start + WINDOW_MS - 1 <= self.watermark {
            self.counts.late += 1;
        } else {
            let device = self.device(reading.device_id);
            let table = self.windows.entry(start).or_default();
            if table.len() <= device {
                table.resize(device + 1, Features::default());
            }
            table[device].add(reading);
        }
        reading.timestamp
    }

    fn device(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number as usize;
        }
        let number = self.devices.len();
        self.devices.push(name.into());
        self.numbers.insert(name.into(), number as u32);
        number
    }

    fn dead_letter(
        &mut self,
        partition: &Partition,
        at: usize,
        line: &[u8],
        error: &serde_json::Error,
    ) -> Result<(), Box<dyn Error>> {
        self.counts.malformed += 1;
        let (error, raw) = (error.to_string(), String::from_utf8_lossy(line));
        let letter = DeadLetter {
            source: "readings",
            partition: &partition.name,
            offset: partition.offset + at,
            error,
            raw,
        };
        serde_json::to_writer(&mut self.dead_letters, &letter)?;
        Ok(self.dead_letters.write_all(b"\n")?)
    }

    /// The watermark follows the slowest partition; one that has ended holds nothing up.
    fn advance(&mut self, partitions: &[Partition]) {
        let slowest = partitions.iter().filter(|p| !p.ended).map(|p| p.newest).min();
        if let Some(newest) = slowest.filter(|t| *t > i64::MIN) {
            self.watermark = self.watermark.max(newest - DISORDER_MS - 1);
        }
    }

    /// Writes the windows that have closed.
    fn fire(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(first) = self.windows.first_entry() {
            if first.key().saturating_add(WINDOW_MS - 1) > self.watermark {
                break;
            }
            let (start, table) = first.remove_entry();
            for (device, features) in table.iter().enumerate().filter(|(_, f)| f.count > 0) {
                self.alert(device, start, features)?;
            }
        }
        Ok(())
    }

    fn alert(&mut self, device: usize, start: i64, features: &Features) -> Result<(), Box<dyn Error>> {
        let n = features.count as f64;
        let (temp_std, vibration_mean, pressure_mean) =
            ((features.squares / n).sqrt(), features.vibration / n, features.pressure / n);
        let probability = self.model.predict(&[temp_std as f32, vibration_mean as f32, pressure_mean as f32]);
        let row = Alert {
            device_id: &self.devices[device],
            window_start: start,
            window_end: start + WINDOW_MS,
            count: features.count,
            temp_std,
            vibration_mean,
            pressure_mean,
            probability,
            alert: probability > 0.8,
            model: self.model.id(),
        };
        serde_json::to_writer(&mut self.output, &row)?;
        self.counts.rows_out += 1;
        Ok(self.output.write_all(b"\n")?)
    }

    /// Closes all windows that are left.
    fn finish(mut self) -> Result<Counts, Box<dyn Error>> {
        self.watermark = i64::MAX;
        self.fire()?;
        self.output.flush()?;
        self.dead_letters.flush()?;
        Ok(self.counts)
    }
}
