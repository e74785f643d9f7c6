//! A reader of the published output, who looks all the time and holds it against the oracle.
//!
//! While faults come, the oracle is that of the whole input, of which the job has seen a part: what is published comes from
//! windows that are closed. At the end it is that of the part that was fed, and nothing may be missing.

use crate::failure::{Failure, Result};
use crate::judge::{self, Verdict};
use crate::oracle::Oracle;
use crate::visible;
use crate::watch::Watch;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Holds the output of one job against what must come out.
pub struct Auditor {
    output: PathBuf,
    dead_letters: PathBuf,
    oracle: Oracle,
    watch: Watch,
    /// Files that are too old to tell of a recovery.
    old: HashSet<PathBuf>,
    /// The recovery that is awaited.
    awaited: Option<Awaited>,
    /// What was found last.
    pub last: Verdict,
}

/// A recovery: when it began, and how long it took, if it is over.
struct Awaited {
    since: SystemTime,
    took: Option<Duration>,
}

impl Auditor {
    /// With the oracle of the whole input.
    pub fn new(output: &Path, dead_letters: &Path, oracle: Oracle) -> Auditor {
        Auditor {
            output: output.to_path_buf(),
            dead_letters: dead_letters.to_path_buf(),
            oracle,
            watch: Watch::new(&[output, dead_letters]),
            old: HashSet::new(),
            awaited: None,
            last: Verdict::default(),
        }
    }

    /// From `since` on an epoch is awaited; when it is published is noticed by every look.
    pub fn await_epoch(&mut self, since: SystemTime) {
        if self.awaited.as_ref().is_none_or(|awaited| awaited.since != since) {
            self.awaited = Some(Awaited { since, took: None });
        }
    }

    /// How long that has taken, if the epoch is there.
    pub fn recovery(&mut self) -> Result<Option<Duration>> {
        let Some(Awaited { since, took: None }) = self.awaited else {
            return Ok(self.awaited.as_ref().and_then(|awaited| awaited.took));
        };
        let took = self.has_published_since(since)?.then(|| since.elapsed().unwrap_or_default());
        self.awaited = Some(Awaited { since, took });
        Ok(took)
    }

    /// A quick look: what is new must not be torn.
    pub fn glance(&mut self) -> Result<()> {
        self.recovery()?;
        self.watch.glance().map(drop)
    }

    /// True if something is visible that was written after `since`. That is of an epoch that ended after `since`: a file
    /// keeps its timestamp when it is published.
    pub fn has_published_since(&mut self, since: SystemTime) -> Result<bool> {
        for dir in [&self.output, &self.dead_letters] {
            for name in visible::names(dir)? {
                let path = dir.join(name);
                if self.old.contains(&path) {
                    continue;
                }
                // One that is gone was taken back after a damage, which is not this function's matter.
                let Ok(modified) = path.metadata().and_then(|meta| meta.modified()) else { continue };
                if modified > since {
                    return Ok(true);
                }
                self.old.insert(path);
            }
        }
        Ok(false)
    }

    /// All that was published is right, and still there as it was.
    pub fn audit(&mut self) -> Result<()> {
        self.watch.inspect()?;
        self.last = judge::judge(&self.oracle, &self.output, &self.dead_letters)?;
        if self.last.is_sound() { Ok(()) } else { Err(self.finding("wrong output")) }
    }

    /// All that must come out of what was fed is there, and nothing else.
    pub fn audit_end(&mut self, fed: Oracle) -> Result<()> {
        self.oracle = fed;
        self.audit()?;
        if self.last.is_complete() { Ok(()) } else { Err(self.finding("output is missing")) }
    }

    /// After a fall back to an older snapshot, newer files may be replaced.
    pub fn forget(&mut self) {
        self.watch.forget();
        self.old.clear();
    }

    fn finding(&self, what: &str) -> Failure {
        let examples: String = self.last.examples().map(|e| format!("\n    {e}")).collect();
        Failure::new(format!("{what}: {}{examples}", self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Counts;
    use std::collections::HashMap;
    use std::fs;

    fn auditor(dir: &Path) -> Auditor {
        let (windows, devices) = (HashMap::new(), HashMap::new());
        let dead_letters = HashMap::from([(("part-0.jsonl".to_owned(), 0), b"{".to_vec())]);
        let oracle = Oracle { windows, devices, dead_letters, counts: Counts::default(), model: "m".into() };
        Auditor::new(&dir.join("output"), dir, oracle)
    }

    #[test]
    fn only_what_was_written_since_is_a_recovery() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut auditor = auditor(dir.path());
        let before = SystemTime::now() - Duration::from_secs(1);
        assert!(!auditor.has_published_since(before).expect("readable"));
        fs::write(dir.path().join("part-0-1.jsonl"), "").expect("written");
        assert!(auditor.has_published_since(before).expect("readable"));
        let after = SystemTime::now() + Duration::from_secs(1);
        assert!(!auditor.has_published_since(after).expect("readable"));
    }

    #[test]
    fn a_duplicate_is_found_at_any_time_and_a_loss_at_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut first = auditor(dir.path());
        first.audit().expect("nothing is wrong yet");
        let fed = auditor(dir.path()).oracle;
        assert!(first.audit_end(fed).expect_err("a loss").to_string().contains("missing"));
        let letter = "{\"source\":\"readings\",\"partition\":\"part-0.jsonl\",\"offset\":0,\"error\":\"e\",\"raw\":\"{\"}\n";
        fs::write(dir.path().join("a.jsonl"), letter).expect("written");
        first.audit().expect("right");
        fs::write(dir.path().join("b.jsonl"), letter).expect("written");
        first.audit().expect_err("twice");
        assert_eq!(first.last.dead_letters.duplicate, 1);
    }
}
