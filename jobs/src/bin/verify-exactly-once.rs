//! The job of `tidegate verify exactly-once`: counts rows by key, and writes every row with its count, exactly once.
//!
//! A row that is read twice would have the next one's count, so that the output shows whether state counts every row once, too. The
//! counts say nothing else: `tidegate verify` compares the two topics.

use serde::{Deserialize, Serialize};
use tidegate::{Job, Result};
use tidegate_connectors::{Kafka, KafkaSetting};

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// Counts rows by key; 'tidegate verify exactly-once' runs it
#[derive(clap::Args)]
struct Args {
    /// The topic with the rows, which is followed.
    #[arg(long, value_name = "TOPIC")]
    input: String,
    /// The topic for the rows with their counts.
    #[arg(long, value_name = "TOPIC")]
    output: String,
    /// A setting of the Kafka client, any number of times, bootstrap.servers among them. A secret is given as KEY=env:NAME
    /// or KEY=file:PATH.
    #[arg(long, value_name = "KEY=VALUE", required = true)]
    kafka: Vec<KafkaSetting>,
}

/// A row, of which there is one with its number.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    key: String,
    number: u64,
}

/// A row, and the how manieth of its key it is, from 1.
#[derive(Serialize)]
struct Counted {
    key: String,
    number: u64,
    count: u64,
}

fn main() -> Result<()> {
    tidegate::main("verify-exactly-once", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let kafka = Kafka::new(args.kafka.clone());
    job.source("rows", kafka.topic(&args.input).follow(true).json::<Row>())
        .key_by(|row| &row.key)
        .map_with_state("count", |count: &mut u64, Row { key, number }| {
            *count += 1;
            Counted { key, number, count: *count }
        })
        .sink("counted", kafka.sink(&args.output).json_by_key(|counted: &Counted| &counted.key));
    Ok(())
}
