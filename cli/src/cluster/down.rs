//! `tidegate cluster down`.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGKILL, SIGTERM};
use tidegate_protocol::{Error, Result};

use super::daemon::{INTERVAL, PATIENCE};
use super::pid_file::PidFile;
use crate::options::{DownOptions, Format};
use crate::output::{answer, answer_json};
use crate::progress::Progress;

/// How much longer than a daemon the command that watches it may take.
const MARGIN: Duration = Duration::from_secs(1);

/// Stops a cluster on this machine.
pub(crate) fn down(options: &DownOptions, format: Format) -> Result<()> {
    let directory = &options.data;
    if !directory.is_dir() {
        return Err(Error::environment(format!(
            "there is no cluster in {}: name its directory with --data DIR",
            directory.display()
        )));
    }
    let stopped = match PidFile::read(directory)? {
        Some(file) => stop(&file),
        None => 0,
    };
    PidFile::remove(directory);
    report(directory, stopped, format)
}

/// Stops all processes; returns how many there were.
fn stop(file: &PidFile) -> usize {
    let alive = file.alive().count();
    let progress = Progress::new();
    progress.hint("waiting until the daemons have ended");
    // The command that watches the daemons comes first, so that it does not take their end for a failure.
    file.processes.iter().for_each(|process| process.signal(SIGTERM));
    let asked = Instant::now();
    while file.alive().next().is_some() && asked.elapsed() < PATIENCE + MARGIN {
        thread::sleep(INTERVAL);
    }
    file.processes.iter().for_each(|process| process.signal(SIGKILL));
    alive
}

fn report(directory: &Path, stopped: usize, format: Format) -> Result<()> {
    if format == Format::Json {
        answer_json(&serde_json::json!({"processes": stopped}))?;
    } else if stopped == 0 {
        answer(format_args!("No cluster was running in {}.\n", directory.display()))?;
    } else {
        answer(format_args!("The cluster in {} is stopped; its data is kept.\n", directory.display()))?;
    }
    Ok(())
}
