//! What a chaos run is asked to do, and the command that asks for it again.

use crate::failure::{Context, Failure, Result};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The choices of one chaos run.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "chaos",
    version,
    about = "Kills a job again and again, and holds what it publishes against an independent oracle",
    after_help = "Exit code 0: nothing lost, nothing twice, nothing wrong. A failure prints the command that repeats it."
)]
pub struct Options {
    /// Kills in all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub kills: u32,
    /// Seed of the input, of every instant and of every choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The job's executable [default: predictive-maintenance beside this program]
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// The generator's executable [default: sensor-data beside this program]
    #[arg(long, value_name = "PATH")]
    pub generator: Option<PathBuf>,
    /// The model [default: jobs/model/model.json of the source tree]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Rows of input
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    pub rows: u64,
    /// Devices in the input
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub devices: u64,
    /// Partitions of the input
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub partitions: u64,
    /// Each run takes one of these
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,3,4")]
    pub parallelism: Vec<usize>,
    /// The job's checkpoint interval
    #[arg(long, value_name = "TIME", default_value = "100ms")]
    pub interval: String,
    /// Kill at failpoints too: all, none, or names
    #[arg(long, value_name = "all|none|NAMES", value_delimiter = ',', default_value = "all")]
    pub failpoints: Vec<String>,
    /// Between runs, now and then, tear or flip a file of the newest snapshot
    #[arg(long)]
    pub damage: bool,
    /// In so many of a hundred runs the disk refuses some snapshots
    #[arg(long, value_name = "PERCENT", default_value_t = 15, value_parser = clap::value_parser!(u64).range(..=100))]
    pub refuse: u64,
    /// In so many of a hundred runs what goes from worker to worker travels as bytes, as between processes
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u64).range(..=100))]
    pub wire: u64,
    /// Now and then make a step of the checkpoint sleep
    #[arg(long)]
    pub slow_disk: bool,
    /// Fill the disk (a small tmpfs) under the checkpoints, then under the output; needs root
    #[arg(long)]
    pub full_disk: bool,
    /// A run that takes longer than this hangs
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub patience: u64,
    /// More flags for the job, in one string
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    pub extra: String,
    /// Work here, in place of a temporary directory; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Keep the files, even where all is well
    #[arg(long)]
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options::parse_from(["chaos"])
    }
}

impl Options {
    /// The job's executable.
    pub fn job(&self) -> Result<PathBuf> {
        executable(self.bin.as_deref(), "predictive-maintenance")
    }

    /// The generator's executable.
    pub fn generator(&self) -> Result<PathBuf> {
        executable(self.generator.as_deref(), "sensor-data")
    }

    /// The model's file.
    pub fn model(&self) -> Result<PathBuf> {
        let path = self.model.clone().unwrap_or_else(default_model);
        path.canonicalize().context(format!("no model at {}, name one with --model", path.display()))
    }

    /// How long a run may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// The command that draws the same schedule over the same input.
    pub fn command(&self) -> String {
        let list = |items: &[usize]| items.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut words = format!(
            "make build && $(make -s print-target-dir)/release/chaos --seed {} --kills {} --rows {} --devices {} --partitions {} --parallelism {} --interval {} \
             --failpoints {} --refuse {} --wire {} --patience {}",
            self.seed,
            self.kills,
            self.rows,
            self.devices,
            self.partitions,
            list(&self.parallelism),
            self.interval,
            self.failpoints.join(","),
            self.refuse,
            self.wire,
            self.patience,
        );
        self.push_paths(&mut words);
        self.push_switches(&mut words);
        words
    }

    fn push_paths(&self, words: &mut String) {
        let paths = [("bin", &self.bin), ("generator", &self.generator), ("model", &self.model)];
        for (name, path) in paths {
            if let Some(path) = path {
                *words += &format!(" --{name} {}", path.display());
            }
        }
        if !self.extra.is_empty() {
            *words += &format!(" --extra '{}'", self.extra);
        }
    }

    fn push_switches(&self, words: &mut String) {
        let switches =
            [("damage", self.damage), ("slow-disk", self.slow_disk), ("full-disk", self.full_disk)];
        for (name, _) in switches.iter().filter(|(_, on)| *on) {
            *words += &format!(" --{name}");
        }
    }
}

/// The model in the source tree that this program was built from.
pub fn default_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/model/model.json")
}

/// `given`, or the program of that name beside this one.
pub fn executable(given: Option<&Path>, name: &str) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => beside(name)?,
    };
    path.canonicalize().context(format!(
        "no {name} at {}, build it with `cargo build --release -p tidegate-jobs`",
        path.display()
    ))
}

/// Beside this program; a test's executable lies one directory deeper, in `deps`.
fn beside(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let dir = this.parent().ok_or_else(|| Failure::new("this program lies in no directory"))?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_asks_for_the_same_again() {
        let words = [
            "chaos",
            "--seed",
            "7",
            "--kills",
            "3",
            "--damage",
            "--parallelism",
            "2,4",
            "--extra",
            "--memory 1MB",
        ];
        let options = Options::parse_from(words);
        let command = options.command();
        let words = command.replace("'--memory 1MB'", "--memory_1MB");
        let again = Options::parse_from(words.split(' ').skip_while(|word| !word.ends_with("/chaos")));
        assert_eq!(again.command().replace('_', " "), command);
        assert!(again.damage && again.seed == 7 && again.parallelism == [2, 4]);
    }
}
