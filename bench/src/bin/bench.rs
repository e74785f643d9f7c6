//! Takes the measurements and prints them as Markdown, with the machine they were taken on.

use clap::Parser;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_bench::setting::{Options, Setting};
use tidegate_bench::{Result, machine, measure};

/// The one of our jobs: codecs allocate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Speed and memory of the job beside the bare loop of the same work, in one run on one machine.
#[derive(Parser)]
#[command(name = "bench", version, after_help = list())]
struct Args {
    /// Measurements to take [default: all]
    #[arg(value_name = "MEASUREMENT")]
    measurements: Vec<String>,
    #[command(flatten)]
    options: Options,
    /// Adds the tables to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn list() -> String {
    let lines = measure::ALL.iter().map(|m| format!("  {:<16} {}", m.name, m.about));
    format!("Measurements:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let chosen = measure::chosen(&args.measurements)?;
    let setting = Setting::new(args.options)?;
    tell(args.out.as_deref(), &format!("Measured on: {}.\n", machine::describe()))?;
    for measurement in chosen {
        eprintln!("{}: {}", measurement.name, measurement.about);
        let table = (measurement.take)(&setting)?;
        tell(args.out.as_deref(), &format!("\n{table}"))?;
    }
    Ok(())
}

fn tell(file: Option<&Path>, text: &str) -> Result<()> {
    print!("{text}");
    let Some(path) = file else { return Ok(()) };
    let opened = OpenOptions::new().create(true).append(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| format!("cannot write {}: {e}", path.display()))
}
