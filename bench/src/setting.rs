//! The programs, the input and the directories of one bench run.

use crate::Result;
use crate::process::{self, Usage};
use clap::Args;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The event time of the first row, for files and topics alike: the bounds of the measurements are those of one stream.
const START_TIME_MS: u64 = 1_700_000_000_000;

/// What can be chosen for all measurements.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Rows of input
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub rows: u64,
    /// Partitions of the input
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub partitions: u64,
    /// Devices in the input
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub devices: u64,
    /// Rows of one device in one window
    #[arg(long, value_name = "X", default_value_t = 30.0)]
    pub rows_per_window: f64,
    /// Seed of the input
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Rounds; the least of each figure is taken
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: u32,
    /// The job runs with each of these numbers of workers
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2")]
    pub workers: Vec<usize>,
    /// The job's checkpoint interval
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub interval: String,
    /// More flags for the job, in one string
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    pub extra: String,
    /// The job's executable [default: predictive-maintenance beside this program]
    #[arg(long, value_name = "PATH")]
    pub bin: Option<PathBuf>,
    /// The bare loop's executable [default: bare beside this program]
    #[arg(long, value_name = "PATH")]
    pub bare: Option<PathBuf>,
    /// The generator's executable [default: sensor-data beside this program]
    #[arg(long, value_name = "PATH")]
    pub generator: Option<PathBuf>,
    /// The model [default: jobs/model/model.json of the source tree]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Where the input and the output go [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
}

/// Everything that a measurement needs.
pub struct Setting {
    /// What was chosen.
    pub options: Options,
    job: PathBuf,
    bare: PathBuf,
    generator: PathBuf,
    model: PathBuf,
    /// Deleted in the end.
    root: TempDir,
}

impl Setting {
    /// Finds the programs and makes a directory to work in.
    pub fn new(options: Options) -> Result<Setting> {
        let model = options
            .model
            .clone()
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/model/model.json"));
        Ok(Setting {
            job: executable(options.bin.as_deref(), "predictive-maintenance")?,
            bare: executable(options.bare.as_deref(), "bare")?,
            generator: executable(options.generator.as_deref(), "sensor-data")?,
            model: model.canonicalize().map_err(|e| format!("no model at {}: {e}", model.display()))?,
            root: temporary(options.work.as_deref())?,
            options,
        })
    }

    /// A path in the directory that the run works in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The directory `name` with an input as the options say; `more` are options of the generator that come last.
    pub fn input(&self, name: &str, more: &[&str]) -> Result<PathBuf> {
        let dir = self.path(name);
        eprintln!("generating the input ...");
        self.generate(&["--force"], dir.as_os_str(), more)?;
        Ok(dir)
    }

    /// More rows for an input, which go on in time where it ends.
    pub fn append(&self, input: &Path, more: &[&str]) -> Result<()> {
        self.generate(&["--append"], input.as_os_str(), more)
    }

    /// The same input as the messages of a topic, which is made.
    pub fn input_topic(&self, bootstrap: &str, topic: &str) -> Result<()> {
        eprintln!("generating the input ...");
        let client = format!("bootstrap.servers={bootstrap}");
        self.generate(&["--kafka", &client], format!("kafka:{topic}").as_ref(), &[])
    }

    fn generate(&self, how: &[&str], out: &OsStr, more: &[&str]) -> Result<()> {
        let options = &self.options;
        let mut command = Command::new(&self.generator);
        command.args(how).arg("--out").arg(out).stdout(Stdio::null());
        let numbers = [
            ("--rows", options.rows.to_string()),
            ("--partitions", options.partitions.to_string()),
            ("--devices", options.devices.to_string()),
            ("--rows-per-window", options.rows_per_window.to_string()),
            ("--seed", options.seed.to_string()),
            ("--start-time", START_TIME_MS.to_string()),
        ];
        // An option that `more` gives too is the measurement's to choose.
        for (name, value) in numbers.iter().filter(|(name, _)| !more.contains(name)) {
            command.arg(name).arg(value);
        }
        process::run(command.args(more)).map(drop)
    }

    /// The bare loop over an input; it writes `bare.out` and `bare.dead`.
    pub fn bare(&self, input: &Path) -> Command {
        let mut command = Command::new(&self.bare);
        command.arg("--input").arg(input).arg("--output").arg(self.path("bare.out"));
        command.arg("--dead-letters").arg(self.path("bare.dead")).arg("--model").arg(&self.model);
        command.stdout(Stdio::null());
        command
    }

    /// The job over an input; it writes under `output`, `dead-letters` and `checkpoints`, and goes on from what is
    /// there.
    pub fn job(&self, input: &Path, workers: usize) -> Command {
        self.job_every(&self.options.interval, input, workers)
    }

    /// The same with another checkpoint interval.
    pub fn job_every(&self, interval: &str, input: &Path, workers: usize) -> Command {
        let mut command = Command::new(&self.job);
        command.args(self.job_arguments(input));
        self.alone(&mut command, interval, workers);
        command
    }

    /// Adds the flags of a job that runs alone, and has it write its log to a file.
    pub fn alone(&self, command: &mut Command, interval: &str, workers: usize) {
        command.arg("--checkpoint-dir").arg(self.path("checkpoints"));
        command.arg("--checkpoint-interval").arg(interval);
        command.arg("--parallelism").arg(workers.to_string());
        command.args(self.options.extra.split_whitespace());
        let log = fs::File::create(self.path("job.log")).map_or_else(|_| Stdio::null(), Stdio::from);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    }

    /// A program beside this one.
    pub fn beside(&self, name: &str) -> Result<PathBuf> {
        executable(None, name)
    }

    /// The model.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// The job's executable.
    pub fn job_executable(&self) -> &Path {
        &self.job
    }

    /// The arguments of the job over an input, without those that say how it runs.
    pub fn job_arguments(&self, input: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec!["--input".to_owned(), text(input), "--model".to_owned(), text(&self.model)];
        for name in ["output", "dead-letters"] {
            arguments.extend([format!("--{name}"), text(&self.path(name))]);
        }
        arguments
    }

    /// Runs the job to its end; where it fails, its last words are in the error.
    pub fn run_job(&self, input: &Path, workers: usize) -> Result<Usage> {
        self.run_logged(&mut self.job(input, workers))
    }

    /// The same for another job that runs alone.
    pub fn run_logged(&self, command: &mut Command) -> Result<Usage> {
        process::run(command).map_err(|error| {
            let said = fs::read_to_string(self.path("job.log")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            format!("{error}; it said: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
        })
    }

    /// Deletes what the job wrote.
    pub fn clear(&self) -> Result<()> {
        for name in ["output", "dead-letters", "checkpoints"] {
            match fs::remove_dir_all(self.path(name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(format!("cannot delete {name}: {e}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The visible files of a directory that the job writes.
    pub fn visible(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let visible = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && name.ends_with(".jsonl")
        };
        entries.map(|e| e.path()).filter(visible).collect()
    }
}

fn temporary(work: Option<&Path>) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tidegate-bench-");
    let made = match work {
        Some(dir) => fs::create_dir_all(dir).and_then(|()| builder.tempdir_in(dir)),
        None => builder.tempdir(),
    };
    made.map_err(|e| format!("cannot make a directory to work in: {e}"))
}

/// `given`, or the program of that name beside this one.
fn executable(given: Option<&Path>, name: &str) -> Result<PathBuf> {
    let beside = || std::env::current_exe().map(|this| this.with_file_name(name)).unwrap_or_default();
    let path = given.map_or_else(beside, Path::to_path_buf);
    path.canonicalize()
        .map_err(|_| format!("no {name} at {}: build with `cargo build --release`", path.display()))
}
