//! Runs of `bench-keys`: a job over synthetic updates, and what its sink notes an epoch.

use crate::Result;
use crate::child::Watched;
use crate::setting::Setting;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A run that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// One line of the sink's notes: one worker, one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// The epoch.
    pub epoch: u64,
    /// Records of the epoch.
    pub records: u64,
    /// Of them updates of keys that had been touched before.
    pub churn: u64,
    /// The longest time without a record.
    pub gap: Duration,
    /// Time since the start.
    pub age: Duration,
}

/// What one run needs.
pub struct Keys<'a> {
    setting: &'a Setting,
    flags: Vec<String>,
}

impl<'a> Keys<'a> {
    /// A run with these flags, in one string.
    pub fn new(setting: &'a Setting, flags: &str) -> Keys<'a> {
        Keys { setting, flags: flags.split_whitespace().map(String::from).collect() }
    }

    /// Where its checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.setting.path("keys-checkpoints")
    }

    /// Runs it from nothing to its end, and has `look` look at it meanwhile. Returns the notes in order of epochs.
    pub fn run(&self, look: impl FnMut(&Watched)) -> Result<Vec<Note>> {
        let notes = self.setting.path("keys-notes");
        let _ = fs::remove_file(&notes);
        let _ = fs::remove_dir_all(self.checkpoints());
        let log = fs::File::create(self.setting.path("job.log")).map_err(|e| e.to_string())?;
        let mut command = Command::new(self.setting.beside("bench-keys")?);
        command.arg("--probe").arg(&notes).arg("--checkpoint-dir").arg(self.checkpoints());
        command.args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let ended = Watched::start(&mut command)?.until_end(PATIENCE, look);
        ended.map_err(|e| format!("bench-keys {}: {e}", self.flags.join(" ")))?;
        let _ = fs::remove_dir_all(self.checkpoints());
        let text = fs::read_to_string(&notes).map_err(|e| format!("cannot read the notes: {e}"))?;
        let notes: Option<Vec<Note>> = text.lines().map(note).collect();
        let mut notes = notes.ok_or("the notes are not as bench-keys writes them")?;
        notes.sort_by_key(|n| n.epoch);
        Ok(notes)
    }
}

fn note(line: &str) -> Option<Note> {
    let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let &[epoch, _, records, churn, gap_us, age_ms] = numbers.as_slice() else { return None };
    let (gap, age) = (Duration::from_micros(gap_us), Duration::from_millis(age_ms));
    Some(Note { epoch, records, churn, gap, age })
}

/// Notes of epochs in which only known keys were updated, but for the first and the last of them, which are not whole.
pub fn churning(notes: &[Note]) -> Vec<Note> {
    let only = |n: &&Note| n.records > 0 && n.churn == n.records;
    let (first, last) = (notes.iter().find(only).map(|n| n.epoch), notes.iter().rfind(only).map(|n| n.epoch));
    let inner = |n: &&Note| Some(n.epoch) > first && Some(n.epoch) < last;
    notes.iter().filter(only).filter(inner).copied().collect()
}

/// Records a second over these notes.
pub fn rate(notes: &[Note]) -> f64 {
    let records: u64 = notes.iter().map(|n| n.records).sum();
    let ages = || notes.iter().map(|n| n.age);
    let first = ages().min().unwrap_or_default();
    let span = ages().max().unwrap_or_default() - first;
    let counted = records - notes.iter().filter(|n| n.age == first).map(|n| n.records).sum::<u64>();
    counted as f64 / span.as_secs_f64().max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_epochs_of_updates_count() {
        let lines =
            ["1 0 10 0 5 100", "2 0 10 5 5 200", "3 0 10 10 5 300", "4 0 10 10 7 400", "5 0 3 3 5 500"];
        let notes: Vec<Note> = lines.iter().filter_map(|l| note(l)).collect();
        let churning = churning(&notes);
        assert_eq!(churning.len(), 1);
        assert_eq!((churning[0].epoch, churning[0].gap), (4, Duration::from_micros(7)));
        assert_eq!(rate(&notes[..2]), 100.0);
    }
}
