//! What a storm is asked to do, and the command that asks for it again.

use crate::cluster::fault::Fault;
use crate::failure::{Context, Result};
use crate::options::{default_model, executable};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The choices of one storm.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "cluster-storm",
    version,
    about = "Kills, pauses and cuts off the processes of a cluster under load, and holds what it publishes against an independent oracle",
    after_help = "Exit code 0: nothing lost, nothing twice, nothing wrong, every fault healed. A failure prints the command that repeats it."
)]
pub struct StormOptions {
    /// How long faults come, over all rounds; the last one is still waited for
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub seconds: u64,
    /// Seed of the input and of every choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Only these faults [default: all that can be done here]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub faults: Vec<Fault>,
    /// Hosts with a taskmanager
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub taskmanagers: u32,
    /// Slots of each taskmanager
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub slots: u32,
    /// Workers of the job, until it is rescaled
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub parallelism: u32,
    /// Rows of input a second
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub rate: u64,
    /// Devices in the input
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub devices: u64,
    /// Partitions of the input
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub partitions: u64,
    /// The job's checkpoint interval
    #[arg(long, value_name = "TIME", default_value = "200ms")]
    pub interval: String,
    /// A fault that has not healed after so long fails the storm
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
    /// Faults come to one job for so long; then it is drained, and the next one begins
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub round: u64,
    /// The cluster's setting timeouts.away, its longest timeout: a long pause is longer than that
    #[arg(long, value_name = "SECONDS", default_value_t = 9)]
    pub away: u64,
    /// How long the checkpoint store is away
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub store_away: u64,
    /// The job reads a topic and writes topics, of brokers that have faults, too
    #[arg(long)]
    pub kafka: bool,
    /// Brokers of a storm with --kafka
    #[arg(long, value_name = "1|3", default_value_t = 1, value_parser = one_or_three)]
    pub brokers: u32,
    /// The setting transaction.timeout.ms of the job with --kafka, in seconds: a long fault of the brokers is longer than that
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=900))]
    pub transaction_timeout: u64,
    /// How hosts are made
    #[arg(long, value_name = "LAYOUT", default_value = "auto")]
    pub layout: LayoutChoice,
    /// The cluster's executable [default: tidegate beside this program]
    #[arg(long, value_name = "PATH")]
    pub tidegate: Option<PathBuf>,
    /// The job's executable [default: predictive-maintenance beside this program]
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// The generator's executable [default: sensor-data beside this program]
    #[arg(long, value_name = "PATH")]
    pub generator: Option<PathBuf>,
    /// The model [default: jobs/model/model.json of the source tree]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Work here, in place of a temporary directory; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Keep the files, even where all is well
    #[arg(long)]
    pub keep: bool,
}

/// Two brokers have no majority without one.
fn one_or_three(text: &str) -> std::result::Result<u32, String> {
    text.parse().ok().filter(|count| [1, 3].contains(count)).ok_or_else(|| "must be 1 or 3".to_owned())
}

/// How hosts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayoutChoice {
    /// Namespaces where they can be made, else loopback
    Auto,
    /// A network namespace a host
    Namespaces,
    /// Plain processes on the loopback interface
    Loopback,
}

/// The programs that a storm runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The cluster's.
    pub tidegate: PathBuf,
    /// The job's.
    pub job: PathBuf,
    /// The generator's.
    pub generator: PathBuf,
    /// The model's file.
    pub model: PathBuf,
}

impl StormOptions {
    /// Where the programs are.
    pub fn programs(&self) -> Result<Programs> {
        let model = self.model.clone().unwrap_or_else(default_model);
        let model = model
            .canonicalize()
            .context(format!("no model at {}, name one with --model", model.display()))?;
        Ok(Programs {
            tidegate: executable(self.tidegate.as_deref(), "tidegate")?,
            job: executable(self.bin.as_deref(), "predictive-maintenance")?,
            generator: executable(self.generator.as_deref(), "sensor-data")?,
            model,
        })
    }

    /// How long a fault may take to heal.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// The slots of the whole cluster.
    pub fn slots_total(&self) -> u32 {
        self.slots * self.taskmanagers
    }

    /// The command that draws the same faults over the same input.
    pub fn command(&self) -> String {
        let mut words = format!(
            "make build && $(make -s print-target-dir)/release/cluster-storm --seconds {} --seed {} --taskmanagers {} --slots {} \
             --parallelism {} --rate {} --devices {} --partitions {} --interval {} --patience {} --round {} --away {} \
             --store-away {} --layout {}",
            self.seconds,
            self.seed,
            self.taskmanagers,
            self.slots,
            self.parallelism,
            self.rate,
            self.devices,
            self.partitions,
            self.interval,
            self.patience,
            self.round,
            self.away,
            self.store_away,
            self.layout.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default(),
        );
        if self.kafka {
            let (brokers, timeout) = (self.brokers, self.transaction_timeout);
            words += &format!(" --kafka --brokers {brokers} --transaction-timeout {timeout}");
        }
        if !self.faults.is_empty() {
            let names: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
            words += &format!(" --faults {}", names.join(","));
        }
        let paths = [
            ("tidegate", &self.tidegate),
            ("bin", &self.bin),
            ("generator", &self.generator),
            ("model", &self.model),
        ];
        for (name, path) in paths {
            if let Some(path) = path {
                words += &format!(" --{name} {}", path.display());
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_asks_for_the_same_again() {
        let words = [
            "cluster-storm",
            "--seed",
            "7",
            "--faults",
            "kill-process,outage",
            "--layout",
            "loopback",
            "--kafka",
        ];
        let options = StormOptions::parse_from(words);
        let command = options.command();
        let words = command.split(' ').skip_while(|word| !word.ends_with("/cluster-storm"));
        let again = StormOptions::parse_from(words);
        assert_eq!(again.command(), command);
        assert_eq!(again.faults, [Fault::KillProcess, Fault::Outage]);
        assert_eq!((again.seed, again.layout, again.kafka), (7, LayoutChoice::Loopback, true));
    }
}
