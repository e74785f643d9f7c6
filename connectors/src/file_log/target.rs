//! The directory that a sink writes to, claimed by a run of the job and cleaned up before the run starts.
//!
//! A run claims the directory by a file, which it keeps locked as long as it is alive ([`ClaimName`]). The lock says whether
//! *another job* writes here. A job that takes the directory over from others notes their ids in its claim: a process of
//! theirs that comes late is refused also when nothing is locked. Attempts of *one job* on a cluster do not wait for each
//! other's locks, as the host of an older one may be paused: for them the files themselves count. A claim is made before anything is published, so a listing that was
//! made while there was no newer claim has no output of a newer attempt, and what is on the list may be removed.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tidegate_connector_api::{Owner, SinkTarget};
use tidegate_protocol::{Epoch, Error, JobId, Result};

use super::names::{ClaimName, PublishedName, StagedName};
use super::storage;

/// An output directory, for as long as a run lasts.
pub(super) struct OutputDirectory {
    path: PathBuf,
    owner: Owner,
    /// Locked.
    claim: fs::File,
}

impl OutputDirectory {
    pub(super) fn open(path: PathBuf, owner: Owner) -> Result<Self> {
        let claim = path.join(ClaimName(owner).to_string());
        let file = fs::File::options().create(true).truncate(false).write(true).open(&claim);
        let file = file.map_err(|e| storage::failed("open", &claim, e))?;
        if is_locked(&file, &claim)? {
            return Err(held(&path));
        }
        storage::sync_directory(&path)?;
        let target = Self { path, owner, claim: file };
        let others = target.check_other_claims()?;
        others.older.iter().try_for_each(|name| storage::remove(&target.path.join(name)))?;
        Ok(target)
    }

    /// Refuses a directory that another job writes to or has taken over, or that a newer attempt has claimed.
    fn check_other_claims(&self) -> Result<Others> {
        let mut others = Others::default();
        for name in storage::names(&self.path)? {
            let Some(ClaimName(other)) = ClaimName::parse(&name) else { continue };
            match (self.owner, other) {
                _ if other == self.owner => {}
                (Owner::Attempt(job, attempt), Owner::Attempt(of, its)) if of == job => {
                    if its > attempt {
                        self.withdraw()?;
                        return Err(self.taken_over(other));
                    }
                    others.older.push(name);
                }
                _ => {
                    self.check_is_over(&self.path.join(name), other)?;
                    others.jobs.extend(job_of(other));
                }
            }
        }
        Ok(others)
    }

    /// Removes the claim of an attempt that is refused for good. That of a job alone is that of other runs, too.
    fn withdraw(&self) -> Result<()> {
        match self.owner {
            Owner::Alone => Ok(()),
            owner @ Owner::Attempt(..) => storage::remove(&self.path.join(ClaimName(owner).to_string())),
        }
    }

    fn check_is_over(&self, claim: &Path, other: Owner) -> Result<()> {
        let failed = |error| storage::failed("open", claim, error);
        let mut file = match fs::File::options().read(true).write(true).open(claim) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let mut taken_from = String::new();
        file.read_to_string(&mut taken_from).map_err(failed)?;
        let own = job_of(self.owner).map(|job| job.to_string());
        if own.is_some_and(|own| taken_from.lines().any(|line| line == own)) {
            self.withdraw()?;
            return Err(self.taken_over(other));
        }
        if is_locked(&file, claim)? { Err(held(&self.path)) } else { Ok(()) }
    }

    /// Notes from whom the directory was taken over.
    fn take_over(&mut self, others: &Others) -> Result<()> {
        let ids: String = others.jobs.iter().map(|job| format!("{job}\n")).collect();
        let claim = &mut self.claim;
        let written =
            claim.set_len(0).and_then(|()| claim.rewind()).and_then(|()| claim.write_all(ids.as_bytes()));
        let written = written.and_then(|()| claim.sync_all());
        written.map_err(|e| storage::failed("write the claim of", &self.path, e))
    }

    /// The names in the directory, none of which a newer attempt has made.
    fn names(&self) -> Result<(Vec<String>, Others)> {
        let names = storage::names(&self.path)?;
        // Only now: a newer attempt may have come while the names were read.
        Ok((names, self.check_other_claims()?))
    }

    fn refuse_output_of_another_run(&self, names: &[String]) -> Result<()> {
        let Some(found) = names.iter().find(|name| PublishedName::parse(name).is_some()) else {
            return Ok(());
        };
        Err(Error::job(format!(
            "the output directory {} already holds output ({found}) of another run, and there is no snapshot to go on \
             from; use an empty directory, or go on from the snapshots that go with the output (alone by --checkpoint-dir, on a \
             cluster by -s)",
            self.path.display()
        )))
    }

    /// Output of epochs that the checkpoint directory does not know of is that of a run that went on elsewhere.
    fn refuse_output_beyond(&self, last: Epoch, names: &[String]) -> Result<()> {
        let published = names.iter().filter_map(|name| PublishedName::parse(name));
        let Some(newest) = published.map(|name| name.epoch).max().filter(|newest| *newest > last) else {
            return Ok(());
        };
        Err(Error::job(format!(
            "the output directory {} holds output of epochs up to {newest}, and the snapshots here end with epoch {last}: the job \
             went on from one of them elsewhere. Go on from the newest snapshots; or, to repeat what came after epoch {last}, move \
             the output of later epochs away",
            self.path.display()
        )))
    }

    fn taken_over(&self, by: Owner) -> Error {
        let by = match by {
            Owner::Attempt(job, attempt) if job_of(self.owner) == Some(job) => {
                format!("attempt {attempt} of the job")
            }
            Owner::Attempt(job, _) => format!("the job {job}"),
            Owner::Alone => "a job that runs alone".to_owned(),
        };
        Error::environment(format!(
            "{by} has taken over the output directory {}; this attempt is older and must end",
            self.path.display()
        ))
    }
}

impl SinkTarget for OutputDirectory {
    fn recover(&mut self, restored: Option<Epoch>, last: Option<Epoch>) -> Result<Vec<String>> {
        let (names, others) = self.names()?;
        match (restored, last) {
            (None, _) => self.refuse_output_of_another_run(&names)?,
            (Some(_), Some(last)) => self.refuse_output_beyond(last, &names)?,
            (Some(_), None) => {}
        }
        self.take_over(&others)?;
        for name in names.iter().filter(|name| StagedName::parse(name).is_some()) {
            storage::remove(&self.path.join(name))?;
        }
        // From here on an older attempt that is still alive has nothing left to publish; until here it could.
        let mut taken_back = Vec::new();
        for name in self.names()?.0 {
            if PublishedName::parse(&name).is_some_and(|published| Some(published.epoch) > restored) {
                storage::remove(&self.path.join(&name))?;
                taken_back.push(name);
            }
        }
        storage::sync_directory(&self.path)?;
        Ok(taken_back)
    }
}

/// Who has claimed a directory, too.
#[derive(Default)]
struct Others {
    /// The claims of older attempts, which count no more.
    older: Vec<String>,
    /// Other jobs, which are over or between two attempts.
    jobs: Vec<JobId>,
}

fn job_of(owner: Owner) -> Option<JobId> {
    match owner {
        Owner::Alone => None,
        Owner::Attempt(job, _) => Some(job),
    }
}

/// Locks a claim; true if another run holds it.
fn is_locked(file: &fs::File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(e)) => Err(storage::failed("lock", path, e)),
    }
}

fn held(path: &Path) -> Error {
    Error::environment(format!(
        "the output directory {} is being written by another run; stop that one first, or give this one a directory of \
         its own",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::Attempt;

    use super::*;

    const JOB: JobId = JobId([1; 16]);
    const OTHER: JobId = JobId([2; 16]);

    fn open(directory: &tempfile::TempDir, owner: Owner) -> Result<OutputDirectory> {
        OutputDirectory::open(directory.path().to_owned(), owner)
    }

    fn attempt(directory: &tempfile::TempDir, number: u32) -> Result<OutputDirectory> {
        open(directory, Owner::Attempt(JOB, Attempt(number)))
    }

    fn write(directory: &tempfile::TempDir, names: &[&str]) {
        names.iter().for_each(|name| fs::write(directory.path().join(name), "1\n").unwrap());
    }

    /// The names of all files but claims.
    fn output(directory: &tempfile::TempDir) -> Vec<String> {
        let names = storage::names(directory.path()).unwrap();
        names.into_iter().filter(|name| ClaimName::parse(name).is_none()).collect()
    }

    fn claims(directory: &tempfile::TempDir) -> usize {
        storage::names(directory.path())
            .unwrap()
            .iter()
            .filter(|name| ClaimName::parse(name).is_some())
            .count()
    }

    fn assert_says(refused: Result<impl Sized>, part: &str) {
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_newer_attempt_does_not_wait_for_an_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut older = attempt(&directory, 3).unwrap();
        let mut newer = attempt(&directory, 5).unwrap();
        write(&directory, &["part-0-7.jsonl", "part-0-8.jsonl", ".part-0-a3-9.staged"]);
        assert_eq!(newer.recover(Some(Epoch(7)), None).unwrap(), ["part-0-8.jsonl"]);

        write(&directory, &["part-0-9.jsonl", ".part-0-a5-0.staged"]);
        assert_says(
            older.recover(Some(Epoch(7)), None),
            "attempt 5 of the job has taken over the output directory",
        );
        assert_eq!(output(&directory), [".part-0-a5-0.staged", "part-0-7.jsonl", "part-0-9.jsonl"]);
    }

    #[test]
    fn an_attempt_that_comes_late_is_refused_also_when_the_newer_one_is_over() {
        let directory = tempfile::tempdir().unwrap();
        drop(attempt(&directory, 5).unwrap());
        assert_says(attempt(&directory, 4), "this attempt is older and must end");
        drop(open(&directory, Owner::Attempt(OTHER, Attempt(1))).unwrap());
        drop(open(&directory, Owner::Alone).unwrap());
        assert_says(attempt(&directory, 4), "attempt 5 of the job");
        drop(attempt(&directory, 6).unwrap());
    }

    #[test]
    fn output_of_a_run_that_went_on_elsewhere_is_not_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut old = open(&directory, Owner::Alone).unwrap();
        write(&directory, &["part-0-7.jsonl", "part-0-10.jsonl"]);
        assert_says(
            old.recover(Some(Epoch(7)), Some(Epoch(9))),
            "epochs up to 10, and the snapshots here end with epoch 9",
        );
        assert_eq!(output(&directory).len(), 2);
        // With a damaged snapshot of that epoch it is output of this job.
        assert_eq!(old.recover(Some(Epoch(7)), Some(Epoch(10))).unwrap(), ["part-0-10.jsonl"]);
    }

    #[test]
    fn there_is_one_claim_for_each_job() {
        let directory = tempfile::tempdir().unwrap();
        for number in 1..5 {
            drop(attempt(&directory, number).unwrap());
            drop(open(&directory, Owner::Attempt(OTHER, Attempt(number))).unwrap());
            drop(open(&directory, Owner::Alone).unwrap());
        }
        assert_eq!(claims(&directory), 3);
        assert_says(attempt(&directory, 2), "older");
        assert_eq!(claims(&directory), 3, "the claim of a refused attempt is removed");
    }

    #[test]
    fn another_job_is_refused_while_this_one_runs() {
        let directory = tempfile::tempdir().unwrap();
        let owners = [Owner::Alone, Owner::Attempt(JOB, Attempt(1)), Owner::Attempt(OTHER, Attempt(7))];
        for owner in owners {
            let holder = open(&directory, owner).unwrap();
            for other in owners.into_iter().filter(|other| *other != owner) {
                assert_says(open(&directory, other), "is being written by another run");
            }
            assert_says(open(&directory, owner), "is being written by another run");
            drop(holder);
        }
    }

    #[test]
    fn an_attempt_that_claims_while_another_one_cleans_up_ends_that() {
        let directory = tempfile::tempdir().unwrap();
        let older = attempt(&directory, 1).unwrap();
        write(&directory, &["part-0-7.jsonl"]);
        let newer = attempt(&directory, 2).unwrap();
        assert_says(older.names(), "attempt 2");
        assert_eq!(newer.names().unwrap().0.len(), 2);
    }

    #[test]
    fn an_attempt_of_a_job_that_another_one_has_taken_over_from_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(attempt(&directory, 4).unwrap());
        let mut late = attempt(&directory, 5).unwrap();
        drop(open(&directory, Owner::Attempt(OTHER, Attempt(1))).err().expect("it is locked"));
        late.claim.unlock().unwrap();
        let mut next = open(&directory, Owner::Attempt(OTHER, Attempt(1))).unwrap();
        write(&directory, &["part-0-7.jsonl"]);
        assert_says(next.recover(None, None), "already holds output");
        drop(next);
        late.names().expect("nothing was taken over");
        let mut next = open(&directory, Owner::Attempt(OTHER, Attempt(2))).unwrap();
        assert!(next.recover(Some(Epoch(7)), None).unwrap().is_empty());
        drop(next);
        write(&directory, &["part-0-8.jsonl"]);
        let over = format!("the job {OTHER} has taken over the output directory");
        assert_says(late.recover(Some(Epoch(7)), None), &over);
        assert_says(attempt(&directory, 6), &over);
        assert_eq!(output(&directory), ["part-0-7.jsonl", "part-0-8.jsonl"]);
    }

    #[test]
    fn a_claim_stays_when_its_directory_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        drop(attempt(&directory, 5).unwrap());
        fs::create_dir(directory.path().join(ClaimName(Owner::Alone).to_string())).unwrap();
        assert_says(attempt(&directory, 5), "cannot open");
        fs::remove_dir(directory.path().join(".lock")).unwrap();
        assert_says(attempt(&directory, 4), "attempt 5 of the job");
    }
}
