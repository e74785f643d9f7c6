//! The predictive-maintenance job by hand: one thread, no engine, no checkpoints. The yardstick for CPU and memory.
//!
//! It does the same work on the same rows: JSON by serde_json, windows in a table by device, the same model
//! evaluator, dead letters, JSON out. What the engine costs is what it takes beyond this.

use clap::Parser;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_bench::by_hand::{Counts, DeadLetter, Windows};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        job.windows.advance(partitions.iter().filter(|p| !p.ended).map(|p| p.newest));
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

/// The windows, and where rows go.
struct Job {
    windows: Windows,
    output: BufWriter<File>,
    dead_letters: BufWriter<File>,
}

impl Job {
    fn new(args: &Args) -> Result<Job, Box<dyn Error>> {
        Ok(Job {
            windows: Windows::new(&args.model)?,
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
                Ok(reading) => partition.newest = partition.newest.max(self.windows.add(&reading)),
                Err(error) => self.dead_letter(partition, start, &rest[..length], &error)?,
            }
            self.windows.counts.rows_in += 1;
            start += length + 1;
        }
        Ok(())
    }

    fn dead_letter(
        &mut self,
        partition: &Partition,
        at: usize,
        line: &[u8],
        error: &serde_json::Error,
    ) -> Result<(), Box<dyn Error>> {
        self.windows.counts.malformed += 1;
        let offset = (partition.offset + at) as u64;
        let letter = DeadLetter::new(&partition.name, offset, error, line);
        serde_json::to_writer(&mut self.dead_letters, &letter)?;
        Ok(self.dead_letters.write_all(b"\n")?)
    }

    /// Writes the windows that have closed.
    fn fire(&mut self) -> Result<(), Box<dyn Error>> {
        let output = &mut self.output;
        self.windows.fire(|alert| {
            serde_json::to_writer(&mut *output, alert)?;
            Ok(output.write_all(b"\n")?)
        })
    }

    /// Closes all windows that are left.
    fn finish(mut self) -> Result<Counts, Box<dyn Error>> {
        self.windows.close();
        self.fire()?;
        self.output.flush()?;
        self.dead_letters.flush()?;
        Ok(self.windows.counts)
    }
}
