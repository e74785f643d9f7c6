//! The numbers of Tidegate, a newtype each.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One run of a job between two (re)starts, counted from 1. Only grows.
    Attempt(u32)
}
number! {
    /// The number of a checkpoint of one job, counted from 1; also the stretch of stream that ends at its barrier.
    /// Only grows, over all attempts.
    Epoch(u64)
}
number! {
    /// The number of a worker of a job, counted from 0 up to the parallelism.
    Slot(u32)
}
number! {
    /// The unit of keyed state and of rescaling: a hash of the key reduced to `0..max_parallelism`.
    KeyGroup(u16)
}

/// The identity of a job on a cluster: 16 bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(
    feature = "schema",
    derive(utoipa::ToSchema),
    schema(value_type = String, pattern = "^[0-9a-f]{32}$")
)]
pub struct JobId(pub [u8; 16]);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<JobId> for String {
    fn from(job: JobId) -> Self {
        job.to_string()
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for JobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("'{text}' is not a job's id, which is 32 hexadecimal digits");
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut id = [0; 16];
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(id))
    }
}

/// The identity of a taskmanager, which its data directory keeps over restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskManagerId(pub String);

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the key groups of a job are assigned to its workers.
///
/// Worker `i` of `p` owns the groups `ceil(i * m / p) .. ceil((i + 1) * m / p)`, where `m` is the number of groups:
/// contiguous, without gaps, and no two workers' shares differ by more than one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroups {
    /// The number of key groups, also the greatest parallelism the job can ever have (1 to 32,768).
    pub count: u16,
}

impl Default for KeyGroups {
    fn default() -> Self {
        Self { count: 128 }
    }
}

impl KeyGroups {
    /// The group of a key's hash. It is taken from bits 32 to 63, which a table's bucket index does not use first.
    #[inline]
    pub fn of_hash(self, hash: u64) -> KeyGroup {
        KeyGroup((((hash >> 32) * u64::from(self.count)) >> 32) as u16)
    }

    /// The worker that owns a group.
    #[inline]
    pub fn owner(self, group: KeyGroup, parallelism: usize) -> usize {
        usize::from(group.0) * parallelism / usize::from(self.count)
    }

    /// All groups, in order.
    pub fn all(self) -> impl Iterator<Item = KeyGroup> {
        (0..self.count).map(KeyGroup)
    }

    /// The groups that a worker owns.
    pub fn range(self, worker: usize, parallelism: usize) -> Range<u16> {
        let start = |w: usize| (w * usize::from(self.count)).div_ceil(parallelism) as u16;
        start(worker)..start(worker + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_id_of_a_job_is_read_as_it_is_written() {
        let id = JobId(std::array::from_fn(|i| 17 * i as u8));
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "00112233445566778899aabbccddeef", "g0112233445566778899aabbccddeeff", "ä"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_group_has_the_owner_whose_range_holds_it(count in 1u16..=32_768, share in 0.0f64..=1.0) {
            let groups = KeyGroups { count };
            let parallelism = 1 + (share * f64::from(count - 1)) as usize;
            let mut next = 0;
            for worker in 0..parallelism {
                let range = groups.range(worker, parallelism);
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty());
                next = range.end;
                for group in range {
                    prop_assert_eq!(groups.owner(KeyGroup(group), parallelism), worker);
                }
            }
            prop_assert_eq!(next, count);
        }

        #[test]
        fn a_hash_has_a_group_below_the_count(hash: u64, count in 1u16..=32_768) {
            let group = KeyGroups { count }.of_hash(hash);
            prop_assert!(group.0 < count);
        }
    }
}
