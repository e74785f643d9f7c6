//! Holds what is published against the oracle, all the time.
//!
//! While faults come, the oracle is that of the whole input, of which the job has seen a part: what is published comes from
//! windows that are closed. At the end it is that of the part that was fed, and nothing may be missing.

use crate::cluster::published::{Published, Rows};
use crate::failure::{Failure, Result};
use crate::judge::{self, Verdict};
use crate::oracle::Oracle;
use crate::topics::blocked::Blocked;
use std::time::{Duration, SystemTime};

/// Holds the output of one job against what must come out.
pub struct Auditor {
    published: Box<dyn Published>,
    oracle: Oracle,
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
    pub fn new(published: Box<dyn Published>, oracle: Oracle) -> Auditor {
        Auditor { published, oracle, awaited: None, last: Verdict::default() }
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

    /// A quick look.
    pub fn glance(&mut self) -> Result<()> {
        self.recovery()?;
        self.published.glance()
    }

    /// True if something of an epoch is visible that has ended after `since`.
    pub fn has_published_since(&mut self, since: SystemTime) -> Result<bool> {
        self.published.has_published_since(since)
    }

    /// All that was published is right, and still there as it was.
    pub fn audit(&mut self) -> Result<()> {
        let rows = self.published.rows()?;
        self.judge(&rows)
    }

    /// All that must come out of what was fed is there, and nothing else.
    pub fn audit_end(&mut self, fed: Oracle, patience: Duration) -> Result<()> {
        self.oracle = fed;
        let rows = self.published.rows_at_end(patience)?;
        self.judge(&rows)?;
        if self.last.is_complete() { Ok(()) } else { Err(self.finding("output is missing")) }
    }

    fn judge(&mut self, rows: &Rows) -> Result<()> {
        self.last = judge::judge_files(&self.oracle, &rows.output, &rows.dead_letters);
        if self.last.is_sound() { Ok(()) } else { Err(self.finding("wrong output")) }
    }

    /// After a fall back to an older snapshot, newer files may be replaced.
    pub fn forget(&mut self) {
        self.published.forget();
    }

    /// A fault goes on, or the recovery from one; or that is over.
    pub fn disturbed(&mut self, is_disturbed: bool) {
        self.published.disturbed(is_disturbed);
    }

    /// For how long a reader of committed messages was blocked, if there are transactions.
    pub fn blocked(&self) -> Option<Blocked> {
        self.published.blocked()
    }

    fn finding(&self, what: &str) -> Failure {
        let examples: String = self.last.examples().map(|e| format!("\n    {e}")).collect();
        Failure::new(format!("{what}: {}{examples}", self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::published::PublishedFiles;
    use crate::oracle::Counts;
    use std::collections::HashMap;
    use std::fs;

    fn oracle() -> Oracle {
        let (windows, devices) = (HashMap::new(), HashMap::new());
        let dead_letters = HashMap::from([(("part-0.jsonl".to_owned(), 0), b"{".to_vec())]);
        Oracle { windows, devices, dead_letters, counts: Counts::default(), model: "m".into() }
    }

    #[test]
    fn a_duplicate_is_found_at_any_time_and_a_loss_at_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let published = PublishedFiles::new(&dir.path().join("output"), dir.path());
        let mut auditor = Auditor::new(Box::new(published), oracle());
        auditor.audit().expect("nothing is wrong yet");
        let lost = auditor.audit_end(oracle(), Duration::ZERO).expect_err("a loss").to_string();
        assert!(lost.contains("missing"), "{lost}");
        let letter = "{\"source\":\"readings\",\"partition\":\"part-0.jsonl\",\"offset\":0,\"error\":\"e\",\"raw\":\"{\"}\n";
        fs::write(dir.path().join("a.jsonl"), letter).expect("written");
        auditor.audit().expect("right");
        fs::write(dir.path().join("b.jsonl"), letter).expect("written");
        auditor.audit().expect_err("twice");
        assert_eq!(auditor.last.dead_letters.duplicate, 1);
    }
}
