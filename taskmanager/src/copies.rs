//! Copies of files that jobs have in a bucket, so that a restart on this host need not fetch them.
//!
//! The processes of a job keep the files of its newest snapshots there and delete others. Jobs that run elsewhere or are over
//! leave theirs behind.
//!
//! Not here: what a copy is compared with before it is used (`tidegate-object-store`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tidegate_protocol::JobId;

/// How long the copies of a job without a process on this host are kept: it may come back.
const KEPT: Duration = Duration::from_secs(3600);

/// Removes the copies of jobs that have no process and have stored nothing for an hour. What cannot be removed is tried again.
pub(crate) fn remove_old(directory: &Path, active: &BTreeSet<JobId>) {
    let Ok(jobs) = fs::read_dir(directory) else { return };
    for entry in jobs.flatten() {
        let job = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let is_active = job.is_some_and(|job: JobId| active.contains(&job));
        if !is_active && last_stored(&entry.path()).elapsed().is_ok_and(|age| age > KEPT) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// When a file was put last into one of the folders of a job.
fn last_stored(directory: &Path) -> SystemTime {
    let folders = fs::read_dir(directory).into_iter().flatten().flatten();
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let newest = folders.filter_map(|folder| changed(&folder.path())).max();
    newest.or_else(|| changed(directory)).unwrap_or_else(SystemTime::now)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_copies_of_a_job_are_removed_an_hour_after_it_has_left() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = [JobId([1; 16]), JobId([2; 16]), JobId([3; 16])];
        let path = |job: &JobId| directory.path().join(job.to_string());
        for (job, age) in jobs.iter().zip([2, 2, 0]) {
            let folder = path(job).join("files");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("a.sst"), "rows").unwrap();
            File::open(&folder).unwrap().set_modified(SystemTime::now() - age * KEPT).unwrap();
        }
        remove_old(directory.path(), &BTreeSet::from([jobs[1]]));
        assert_eq!(jobs.map(|job| path(&job).exists()), [false, true, true]);
    }
}
