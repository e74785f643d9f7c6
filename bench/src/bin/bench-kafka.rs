//! Jobs for the Kafka measurements: what is read from a topic is written to another one as it is, or only counted.

use tidegate::{Job, Result};
use tidegate_connectors::kafka::DeliveryGuarantee;
use tidegate_connectors::{Kafka, KafkaSetting};

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// What is done with the messages.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Work {
    /// Every value is written as it is read
    Pass,
    /// They are read, and nothing is written
    Count,
}

#[derive(clap::Args, Clone)]
struct Args {
    /// What is done with the messages.
    #[arg(long, value_enum)]
    work: Work,
    /// The topic that is read.
    #[arg(long, value_name = "TOPIC")]
    input: String,
    /// The topic that is written.
    #[arg(long, value_name = "TOPIC")]
    output: String,
    /// A setting of the Kafka client.
    #[arg(long, value_name = "KEY=VALUE")]
    kafka: Vec<KafkaSetting>,
    /// What is guaranteed of output.
    #[arg(long, value_name = "GUARANTEE", default_value_t)]
    delivery: DeliveryGuarantee,
}

fn main() -> Result<()> {
    tidegate::main("bench-kafka", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let kafka = Kafka::new(args.kafka.clone()).delivery(args.delivery);
    let input = kafka.topic(&args.input);
    match args.work {
        Work::Pass => {
            let output = kafka.sink(&args.output).write_by(|value: &Vec<u8>, message| {
                message.value().extend_from_slice(value);
                Ok(())
            });
            job.source("messages", input.bytes()).sink("output", output);
        }
        Work::Count => {
            let output = kafka.sink(&args.output).json();
            let lengths = input.read_by(|message| Ok(message.value().map_or(0, <[u8]>::len) as u64));
            job.source("messages", lengths).filter(|length| *length == 0).sink("output", output);
        }
    }
    Ok(())
}
