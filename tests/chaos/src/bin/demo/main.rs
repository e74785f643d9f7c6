//! `make demo` and `make demo-kafka`: a local cluster runs a job, processes are killed with kill -9, and the output is checked row by
//! row against an independent program's.

mod alerts;
mod cluster;
mod files;
mod kafka;
mod published;
mod screen;
mod stage;
mod verdict;

use clap::Parser;
use screen::Screen;
use stage::Stage;
use std::path::PathBuf;
use std::process::ExitCode;
use tidegate_chaos::Failure;
use tidegate_chaos::workbench::Workbench;

/// Runs the predictive-maintenance job on a local cluster, kills what it runs on and checks every row.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Args {
    /// From topic to topic of Apache Kafka, which is started, too, and killed
    #[arg(long)]
    kafka: bool,
    /// Rows of input [default: 2000000, with --kafka 1200000]
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Devices in the input [default: 2000, with --kafka 500]
    #[arg(long, value_name = "N")]
    devices: Option<u64>,
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

fn main() -> ExitCode {
    let (screen, args) = (Screen::new(), Args::parse());
    let mut stage = match Stage::new(&args) {
        Ok(stage) => stage,
        Err(failure) => return failed(&screen, &failure, None),
    };
    let play = if args.kafka { kafka::play } else { files::play };
    match play(&stage, &screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&screen, &failure, Some(&mut stage.bench)),
    }
}

fn failed(screen: &Screen, failure: &Failure, bench: Option<&mut Workbench>) -> ExitCode {
    println!("\n  {} {failure}", screen.red("Failed:"));
    if let Some(bench) = bench {
        println!("  all files are kept in {}, the logs in its directory cluster", bench.keep().display());
    }
    ExitCode::FAILURE
}
