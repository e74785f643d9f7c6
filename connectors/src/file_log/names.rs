//! The names of the files in a log's directory: which are read, which are staged, which are published.

use std::fmt;
use std::str::FromStr;

use tidegate_connector_api::Owner;
use tidegate_protocol::{Attempt, Epoch, Slot};

const PARTITION_PREFIX: &str = "part-";
const PARTITION_SUFFIX: &str = ".jsonl";

/// Whether a file of this name is a partition, `part-*.jsonl`.
pub(super) fn is_partition(name: &[u8]) -> bool {
    name.strip_prefix(PARTITION_PREFIX.as_bytes())
        .is_some_and(|rest| rest.ends_with(PARTITION_SUFFIX.as_bytes()))
}

/// The name of a published file, `part-<slot>-<epoch>.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublishedName {
    pub(super) slot: Slot,
    pub(super) epoch: Epoch,
}

impl fmt::Display for PublishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part-{}-{}.jsonl", self.slot, self.epoch)
    }
}

impl PublishedName {
    /// The name, if it is exactly as this type writes it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (slot, epoch) =
            name.strip_prefix(PARTITION_PREFIX)?.strip_suffix(PARTITION_SUFFIX)?.split_once('-')?;
        Some(Self { slot: Slot(number(slot)?), epoch: Epoch(number(epoch)?) })
    }
}

/// The name of a staged file, `.part-<slot>-a<attempt>-<sequence>.staged`.
///
/// The epoch is not known while the file is written; the sequence counts the files of one writer. As no two writers have
/// the same slot and attempt, no name is used twice, and a file of this name can only be this piece of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StagedName {
    pub(super) slot: Slot,
    pub(super) attempt: Attempt,
    pub(super) sequence: u64,
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".part-{}-a{}-{}.staged", self.slot, self.attempt, self.sequence)
    }
}

impl StagedName {
    /// The name, if it is exactly as this type writes it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (slot, rest) = name.strip_prefix(".part-")?.strip_suffix(".staged")?.split_once("-a")?;
        let (attempt, sequence) = rest.split_once('-')?;
        Some(Self {
            slot: Slot(number(slot)?),
            attempt: Attempt(number(attempt)?),
            sequence: number(sequence)?,
        })
    }
}

/// The name of the file by which a run claims the directory: `.lock` for a job alone, `.lock-<job>-a<attempt>` on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimName(pub(super) Owner);

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Owner::Alone => f.write_str(".lock"),
            Owner::Attempt(job, attempt) => write!(f, ".lock-{job}-a{attempt}"),
        }
    }
}

impl ClaimName {
    /// The name, if it is exactly as this type writes it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(".lock")?;
        if rest.is_empty() {
            return Some(Self(Owner::Alone));
        }
        let (job, attempt) = rest.strip_prefix('-')?.split_once("-a")?;
        let claim = Self(Owner::Attempt(job.parse().ok()?, Attempt(number(attempt)?)));
        Some(claim).filter(|claim| claim.to_string() == name)
    }
}

/// A number as `Display` writes it: no sign, no leading zero.
fn number<N: FromStr + fmt::Display>(digits: &str) -> Option<N> {
    digits.parse().ok().filter(|number: &N| number.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::JobId;

    use super::*;

    #[test]
    fn partitions_are_visible_jsonl_files_that_begin_with_part() {
        for name in ["part-0.jsonl", "part-.jsonl", "part-a-b.jsonl", "part-0-12.jsonl"] {
            assert!(is_partition(name.as_bytes()), "{name}");
        }
        for name in
            ["part.jsonl", ".part-0.jsonl", "part-0.json", "part-0.jsonl.gz", "xpart-0.jsonl", "part-0"]
        {
            assert!(!is_partition(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let published = PublishedName { slot: Slot(3), epoch: Epoch(u64::MAX) };
        assert_eq!(published.to_string(), "part-3-18446744073709551615.jsonl");
        assert_eq!(PublishedName::parse(&published.to_string()), Some(published));
        let others =
            ["part-0.jsonl", "part-a-1.jsonl", "part-01-2.jsonl", "part-+1-2.jsonl", "part-1-2-3.jsonl"];
        assert_eq!(others.map(PublishedName::parse), [None; 5]);

        let staged = StagedName { slot: Slot(0), attempt: Attempt(12), sequence: 7 };
        assert_eq!(staged.to_string(), ".part-0-a12-7.staged");
        assert_eq!(StagedName::parse(&staged.to_string()), Some(staged));
        let others =
            [".part-0-12-7.staged", "part-0-a12-7.staged", ".part-0-a12-7.stage", ".part-0-a12-07.staged"];
        assert_eq!(others.map(StagedName::parse), [None; 4]);
        assert!(!is_partition(staged.to_string().as_bytes()));

        let job = JobId([0xab; 16]);
        for owner in [Owner::Alone, Owner::Attempt(job, Attempt(12))] {
            let name = ClaimName(owner).to_string();
            assert_eq!(ClaimName::parse(&name), Some(ClaimName(owner)), "{name}");
            assert!(!is_partition(name.as_bytes()), "{name}");
        }
        let of_job = |rest: &str| ClaimName::parse(&format!(".lock-{job}{rest}"));
        assert_eq!(["", "-a", "-a012", "-a1-", "-1"].map(of_job), [None; 5]);
        assert_eq!([".lock-", ".lockx", ".lock-ab-a1", "lock"].map(ClaimName::parse), [None; 4]);
    }
}
