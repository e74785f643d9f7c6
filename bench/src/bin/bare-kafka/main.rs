//! The jobs of the Kafka measurements by hand: one thread and librdkafka's own, no engine, no checkpoints. The yardstick for
//! CPU, memory and rows a second.
//!
//! It reads a topic by librdkafka's batch consumer, and writes with a transactional producer: once a second it commits a
//! transaction with the offsets that it has read up to. The windows are in memory only: after a crash they would be lost.

mod producer;

use clap::{Parser, ValueEnum};
use producer::Producer;
use std::path::PathBuf;
use std::process::ExitCode;
use tidegate_bench::Result;
use tidegate_bench::by_hand::{Counts, DeadLetter, Windows};
use tidegate_bench::consumer::Consumer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is done with the messages.
#[derive(Clone, Copy, ValueEnum)]
enum Work {
    /// The predictive-maintenance job
    Maintenance,
    /// Every value is written as it is read
    Pass,
    /// They are counted, and nothing is written
    Count,
}

/// The jobs of the Kafka measurements as bare loops over librdkafka.
#[derive(Parser)]
#[command(name = "bare-kafka", version)]
struct Args {
    /// What is done with the messages
    #[arg(long, value_enum, default_value = "maintenance")]
    work: Work,
    /// The brokers
    #[arg(long, value_name = "HOST:PORT,...")]
    bootstrap: String,
    /// The topic that is read to its end
    #[arg(long, value_name = "TOPIC")]
    input: String,
    /// The topic of the output rows
    #[arg(long, value_name = "TOPIC")]
    output: String,
    /// The topic of the dead letters
    #[arg(long, value_name = "TOPIC")]
    dead_letters: String,
    /// The model
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.work {
        Work::Maintenance => maintenance(&args),
        Work::Pass => pass(&args),
        Work::Count => count(&args),
    };
    match done {
        Ok(counts) => {
            println!("{}", serde_json::json!(counts));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bare-kafka: {error}");
            ExitCode::FAILURE
        }
    }
}

fn maintenance(args: &Args) -> Result<Counts> {
    let mut consumer = Consumer::open(&args.bootstrap, &args.input)?;
    let mut producer = Producer::open(&args.bootstrap, &args.input)?;
    let mut windows = Windows::new(&args.model)?;
    let mut newest = vec![i64::MIN; consumer.partitions()];
    let names: Vec<_> = (0..newest.len()).map(|n| format!("{}-{n}", args.input)).collect();
    let mut row = Vec::new();
    while !consumer.ended() {
        consumer.batch(|partition, offset, value| {
            windows.counts.rows_in += 1;
            match serde_json::from_slice(value) {
                Ok(reading) => {
                    newest[partition] = newest[partition].max(windows.add(&reading));
                    Ok(())
                }
                Err(error) => {
                    windows.counts.malformed += 1;
                    row.clear();
                    let letter = DeadLetter::new(&names[partition], offset, &error, value);
                    serde_json::to_writer(&mut row, &letter).map_err(|e| e.to_string())?;
                    producer.send(&args.dead_letters, None, &row)
                }
            }
        })?;
        windows.advance(consumer.unfinished().map(|partition| newest[partition]));
        if consumer.ended() {
            windows.close();
        }
        windows.fire(|alert| {
            row.clear();
            serde_json::to_writer(&mut row, alert).map_err(|e| e.to_string())?;
            producer.send(&args.output, Some(alert.device_id.as_bytes()), &row)
        })?;
        producer.commit_if_due(&consumer)?;
    }
    producer.commit(&consumer)?;
    Ok(windows.counts)
}

fn pass(args: &Args) -> Result<Counts> {
    let mut consumer = Consumer::open(&args.bootstrap, &args.input)?;
    let mut producer = Producer::open(&args.bootstrap, &args.input)?;
    let mut counts = Counts::default();
    while !consumer.ended() {
        consumer.batch(|_, _, value| {
            counts.rows_in += 1;
            counts.rows_out += 1;
            producer.send(&args.output, None, value)
        })?;
        producer.commit_if_due(&consumer)?;
    }
    producer.commit(&consumer)?;
    Ok(counts)
}

fn count(args: &Args) -> Result<Counts> {
    let mut consumer = Consumer::open(&args.bootstrap, &args.input)?;
    let mut counts = Counts::default();
    while !consumer.ended() {
        consumer.batch(|_, _, _| {
            counts.rows_in += 1;
            Ok(())
        })?;
    }
    Ok(counts)
}
