//! When the output of a job became visible, and how long there was none.

use crate::Result;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The times at which files became visible in a directory, since the Unix epoch.
pub struct Published(BTreeSet<Duration>);

impl Published {
    /// Looks at all files that are visible now. A file became visible when it was renamed, which the file system notes as the
    /// time of its last change of status.
    pub fn in_directory(directory: &Path) -> Result<Published> {
        let failed = |e| format!("cannot list {}: {e}", directory.display());
        let mut times = BTreeSet::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // A file may be taken back while it is looked at.
            if let Ok(metadata) = entry.metadata() {
                times.insert(Duration::new(metadata.ctime() as u64, metadata.ctime_nsec() as u32));
            }
        }
        Ok(Published(times))
    }

    /// True if something became visible after this time.
    pub fn is_later_than(&self, time: Duration) -> bool {
        self.0.last().is_some_and(|last| *last > time)
    }

    /// The times without output between two moments, each from one file to the next.
    pub fn gaps(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let times: Vec<Duration> = self.0.range(from..=to).copied().collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// The longest time without output that ends between two moments.
    pub fn longest(&self, from: Duration, to: Duration) -> Duration {
        let before = self.0.range(..from).next_back().copied().unwrap_or(from);
        self.gaps(before, to).into_iter().max().unwrap_or(to.saturating_sub(before))
    }
}

/// The time of day, as the file system notes it.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_from_one_file_to_the_next() {
        let ms = Duration::from_millis;
        let published = Published([100, 200, 700, 800].map(ms).into());
        assert_eq!(published.gaps(ms(0), ms(1_000)), [100, 500, 100].map(ms));
        assert_eq!(published.longest(ms(300), ms(1_000)), ms(500), "it began before");
        assert_eq!(published.longest(ms(750), ms(1_000)), ms(100));
        assert_eq!(published.longest(ms(900), ms(1_000)), ms(200), "nothing came");
        assert!(published.is_later_than(ms(799)) && !published.is_later_than(ms(800)));
    }
}
