//! What a job has published, as its readers see it: files of output directories, or committed messages of topics.

use crate::cluster::feeder::FedLog;
use crate::failure::{Failure, Result};
use crate::topics::Topics;
use crate::topics::blocked::{Blocked, Bounds};
use crate::topics::follower::{Follower, Topic};
use crate::visible::{self, VisibleFile};
use crate::watch::Watch;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often a reader is asked whether it has come to the end.
const GLANCE: Duration = Duration::from_millis(50);

/// Output and dead letters.
pub struct Rows {
    /// The job's output.
    pub output: Vec<VisibleFile>,
    /// Its dead letters.
    pub dead_letters: Vec<VisibleFile>,
}

/// A reader of what a job publishes.
pub trait Published {
    /// A quick look: what is new must be whole.
    fn glance(&mut self) -> Result<()>;

    /// True if something of an epoch is visible that has ended after `since`.
    fn has_published_since(&mut self, since: SystemTime) -> Result<bool>;

    /// All that is visible, and was so before.
    fn rows(&mut self) -> Result<Rows>;

    /// The same after the end of the job: all that there will be.
    fn rows_at_end(&mut self, _patience: Duration) -> Result<Rows> {
        self.rows()
    }

    /// After a fall back to an older snapshot, what is visible may be replaced.
    fn forget(&mut self);

    /// A fault goes on, or the recovery from one; or that is over.
    fn disturbed(&mut self, _is_disturbed: bool) {}

    /// For how long a reader of committed messages was blocked, if there are transactions.
    fn blocked(&self) -> Option<Blocked> {
        None
    }
}

/// The visible files of two directories.
pub struct PublishedFiles {
    output: PathBuf,
    dead_letters: PathBuf,
    watch: Watch,
    /// Files that are too old to tell of a recovery.
    old: HashSet<PathBuf>,
}

impl PublishedFiles {
    /// Begins with nothing seen.
    pub fn new(output: &Path, dead_letters: &Path) -> PublishedFiles {
        PublishedFiles {
            output: output.to_path_buf(),
            dead_letters: dead_letters.to_path_buf(),
            watch: Watch::new(&[output, dead_letters]),
            old: HashSet::new(),
        }
    }
}

impl Published for PublishedFiles {
    fn glance(&mut self) -> Result<()> {
        self.watch.glance().map(drop)
    }

    /// A file keeps its timestamp when it is published.
    fn has_published_since(&mut self, since: SystemTime) -> Result<bool> {
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

    fn rows(&mut self) -> Result<Rows> {
        self.watch.inspect()?;
        Ok(Rows { output: visible::files(&self.output)?, dead_letters: visible::files(&self.dead_letters)? })
    }

    fn forget(&mut self) {
        self.watch.forget();
        self.old.clear();
    }
}

/// The committed messages of two topics, of which a reader sees all as they come.
pub struct PublishedTopics {
    topics: Topics,
    names: [Topic; 2],
    follower: Follower,
    bounds: Bounds,
    fed: Arc<FedLog>,
    /// For each partition of the dead letters, how many bytes were looked through for the next field.
    scanned: Vec<usize>,
    /// The greatest offset in a dead letter of each partition of the input.
    newest: HashMap<usize, u64>,
}

/// Where a malformed row is in the input.
#[derive(Deserialize)]
struct Letter {
    partition: String,
    offset: u64,
}

impl PublishedTopics {
    /// Begins to read the topics of output and dead letters. A recovery is seen by a malformed row that was fed after it began.
    pub fn new(
        topics: &Topics,
        names: [Topic; 2],
        bounds: Bounds,
        fed: Arc<FedLog>,
    ) -> Result<PublishedTopics> {
        let follower = Follower::start(topics, &names)?;
        let scanned = vec![0; names[1].1];
        Ok(PublishedTopics {
            topics: topics.clone(),
            names,
            follower,
            bounds,
            fed,
            scanned,
            newest: HashMap::new(),
        })
    }

    fn scan(&mut self) -> Result<()> {
        let PublishedTopics { follower, scanned, newest, .. } = self;
        follower.with_seen(|seen| {
            for (file, scanned) in seen[1].iter().zip(scanned) {
                for row in visible::rows(&file.bytes[*scanned..]) {
                    // The judge has a word for one that is no dead letter.
                    let Ok(letter) = serde_json::from_slice::<Letter>(row) else { continue };
                    let number = letter.partition.rsplit('-').next().and_then(|number| number.parse().ok());
                    let newest = newest.entry(number.unwrap_or_default()).or_default();
                    *newest = letter.offset.max(*newest);
                }
                *scanned = file.bytes.len();
            }
        })
    }

    fn seen(&self) -> Result<Rows> {
        self.follower.with_seen(|seen| Rows { output: seen[0].clone(), dead_letters: seen[1].clone() })
    }
}

impl Published for PublishedTopics {
    fn glance(&mut self) -> Result<()> {
        self.scan()?;
        self.follower.blocked().excess(self.bounds).map_or(Ok(()), |excess| Err(Failure::new(excess)))
    }

    fn has_published_since(&mut self, since: SystemTime) -> Result<bool> {
        self.scan()?;
        let Some(rows) = self.fed.by(since) else { return Ok(false) };
        Ok(rows
            .iter()
            .enumerate()
            .any(|(partition, rows)| self.newest.get(&partition).is_some_and(|n| n >= rows)))
    }

    fn rows(&mut self) -> Result<Rows> {
        self.glance()?;
        self.seen()
    }

    /// What a reader sees who comes now. The one that has read all the time must have seen the same, nothing more.
    fn rows_at_end(&mut self, patience: Duration) -> Result<Rows> {
        let [(output, _), (dead_letters, _)] = &self.names;
        let [output, dead_letters] = [output, dead_letters].map(|topic| self.topics.read(topic, patience));
        let rows = Rows { output: output?, dead_letters: dead_letters? };
        let began = Instant::now();
        loop {
            let seen = self.seen()?;
            if (&seen.output, &seen.dead_letters) == (&rows.output, &rows.dead_letters) {
                return Ok(rows);
            }
            if began.elapsed() > patience {
                let lines = |files: &[VisibleFile]| {
                    files.iter().map(|f| visible::rows(&f.bytes).count()).sum::<usize>()
                };
                return Err(Failure::new(format!(
                    "two readers of committed messages have not seen the same: one that has read all the time {} rows and {} dead \
                     letters, one that came at the end {} and {}",
                    lines(&seen.output),
                    lines(&seen.dead_letters),
                    lines(&rows.output),
                    lines(&rows.dead_letters)
                )));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// A topic takes nothing back.
    fn forget(&mut self) {}

    fn disturbed(&mut self, is_disturbed: bool) {
        self.follower.disturbed(is_disturbed);
    }

    fn blocked(&self) -> Option<Blocked> {
        Some(self.follower.blocked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_was_written_since_is_a_recovery() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut files = PublishedFiles::new(&dir.path().join("output"), dir.path());
        let before = SystemTime::now() - Duration::from_secs(1);
        assert!(!files.has_published_since(before).expect("readable"));
        fs::write(dir.path().join("part-0-1.jsonl"), "").expect("written");
        assert!(files.has_published_since(before).expect("readable"));
        let after = SystemTime::now() + Duration::from_secs(1);
        assert!(!files.has_published_since(after).expect("readable"));
    }
}
