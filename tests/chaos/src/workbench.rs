//! The directories that a job under test works in.

use crate::failure::{Context, Failure, Result};
use crate::oracle::{Counts, Oracle};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// One directory with the input, everything that the job makes of it, and what it says.
pub struct Workbench {
    /// The partitions of the input.
    pub input: PathBuf,
    /// The job's output.
    pub output: PathBuf,
    /// Its dead letters.
    pub dead_letters: PathBuf,
    /// Its checkpoints.
    pub checkpoints: PathBuf,
    /// Its totals, at the end of a run.
    pub summary: PathBuf,
    /// All that the runs printed.
    pub log: PathBuf,
    root: PathBuf,
    temporary: Option<TempDir>,
}

/// What the generator is asked for.
pub struct Input<'a> {
    /// The generator's executable.
    pub generator: &'a Path,
    /// Rows in all.
    pub rows: u64,
    /// Devices.
    pub devices: u64,
    /// Partitions.
    pub partitions: u64,
    /// The seed.
    pub seed: u64,
}

impl Workbench {
    /// In `dir`, or in a temporary directory that is deleted in the end.
    pub fn new(dir: Option<&Path>) -> Result<Workbench> {
        let Some(dir) = dir else {
            let temporary = tempfile::Builder::new().prefix("tidegate-").tempdir();
            let temporary = temporary.context("cannot make a temporary directory")?;
            return Ok(Workbench::at(temporary.path().to_path_buf(), Some(temporary)));
        };
        fs::create_dir_all(dir).context(format!("cannot create {}", dir.display()))?;
        let root = dir.canonicalize().context(format!("cannot find {}", dir.display()))?;
        match fs::read_dir(&root).context(format!("cannot list {}", root.display()))?.next() {
            None => Ok(Workbench::at(root, None)),
            Some(_) => {
                Err(Failure::new(format!("{} is not empty: empty it or name another", root.display())))
            }
        }
    }

    fn at(root: PathBuf, temporary: Option<TempDir>) -> Workbench {
        Workbench {
            input: root.join("input"),
            output: root.join("output"),
            dead_letters: root.join("dead-letters"),
            checkpoints: root.join("checkpoints"),
            summary: root.join("summary.json"),
            log: root.join("job.log"),
            root,
            temporary,
        }
    }

    /// Writes the input, and returns the generator's own counts.
    pub fn generate(&self, input: &Input<'_>) -> Result<Counts> {
        let mut command = Command::new(input.generator);
        command.arg("--out").arg(&self.input).arg("--quiet");
        let numbers = [
            ("rows", input.rows),
            ("devices", input.devices),
            ("partitions", input.partitions),
            ("seed", input.seed),
        ];
        for (name, value) in numbers {
            command.arg(format!("--{name}")).arg(value.to_string());
        }
        let done = command.output().context(format!("cannot start {}", input.generator.display()))?;
        if !done.status.success() {
            return Err(Failure::new(format!(
                "the generator failed: {}",
                String::from_utf8_lossy(&done.stderr)
            )));
        }
        serde_json::from_slice(&done.stdout).context("cannot read the generator's counts")
    }

    /// Computes what must come out, of the files or of a topic with their lines, and holds it against what the generator counted.
    pub fn oracle(&self, topic: Option<&str>, model: &Path, generated: &Counts) -> Result<Oracle> {
        let oracle = Oracle::of(&self.input, topic, model)?;
        if oracle.counts != *generated {
            let counts = oracle.counts;
            return Err(Failure::new(format!("the generator counts {generated:?}, the oracle {counts:?}")));
        }
        Ok(oracle)
    }

    /// Deletes all that the job made; the input stays.
    pub fn clear(&self) -> Result<()> {
        for dir in [&self.output, &self.dead_letters, &self.checkpoints] {
            match fs::remove_dir_all(dir) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    Err(e).context(format!("cannot delete {}", dir.display()))?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Leaves the files where they are, and says where.
    pub fn keep(&mut self) -> &Path {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        &self.root
    }

    /// Bytes of the input.
    pub fn input_bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.input).into_iter().flatten().flatten();
        entries.filter_map(|e| Some(e.metadata().ok()?.len())).sum()
    }
}
