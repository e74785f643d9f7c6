//! The manifest: the file that lists what a snapshot consists of.
//!
//! A manifest describes itself: the format's version, the job, the operators by uid with the types of their state, the
//! key groups and files of every slot, the positions of every source partition and the staged output of every sink.
//! A bare directory of a manifest and the files it names is enough to restart the job, with any parallelism.
//!
//! On disk it is one line of JSON behind a line that holds the CRC-32 of that JSON, so that a torn or flipped manifest is
//! told from a good one before anything in it is believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Epoch, KeyGroups, Slot};

/// The version that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// One complete snapshot of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format. An unknown one is refused by name.
    pub format_version: u32,
    /// The job's name; another job does not restore from this snapshot.
    pub job: String,
    /// The attempt that wrote the snapshot.
    pub attempt: Attempt,
    /// The epoch that the snapshot ends.
    pub epoch: Epoch,
    /// True if the job's bounded input was read to its end: there is nothing left to do.
    pub finished: bool,
    /// Milliseconds since the Unix epoch when the snapshot was completed; for people, no rule depends on it.
    pub completed_at_ms: u64,
    /// The number of workers that wrote the snapshot.
    pub parallelism: u32,
    /// The key groups of the job; fixed for ever by its first snapshot.
    pub key_groups: KeyGroups,
    /// The job's own command line arguments, flag by flag, to notice what changed at a restart.
    pub arguments: BTreeMap<String, Vec<String>>,
    /// The operators with something in the snapshot, by uid.
    pub operators: BTreeMap<String, Operator>,
    /// What each worker wrote.
    pub slots: BTreeMap<Slot, SlotSnapshot>,
}

/// What an operator keeps, the same on every worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// What kind of operator it is ("source", "window", "process", "sink", ...); another kind does not restore from it.
    pub kind: String,
    /// The prefix of the operator's keys in the state store; never given to another uid of this job.
    pub store_id: u16,
    /// The type of its state: a name for people and the shape that is compared. None for an operator without.
    pub state: Option<StateType>,
    /// What the operator reads from or writes to outside (a directory, a topic); another one is refused at a restart.
    pub outside: Option<String>,
}

/// The type of an operator's state as serde sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateType {
    /// The Rust type's name, for messages.
    pub name: String,
    /// The type's serialized shape; two types of the same shape can read each other's bytes.
    pub shape: String,
}

/// What one worker wrote for one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotSnapshot {
    /// The state store's files: the name that the store knows, and the file that holds it.
    pub store: BTreeMap<String, FileRef>,
    /// By operator uid: what does not live in the state store.
    pub operators: BTreeMap<String, OperatorSnapshot>,
}

/// The part of one operator on one worker that does not live in the state store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// The watermark at the barrier (milliseconds of event time); the same on every worker. None before the first.
    pub watermark: Option<i64>,
    /// Totals since the job's first start, by name; a restore adds up those of all slots.
    pub counters: BTreeMap<String, u64>,
    /// Source partitions by name.
    pub partitions: BTreeMap<String, Partition>,
    /// Output that is part of this snapshot and published after it is complete.
    pub staged: Vec<Staged>,
    /// What an operator keeps by itself in a form of its own.
    pub extra: serde_json::Value,
}

/// How far one source partition was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// The connector's own position: where reading goes on.
    pub position: serde_json::Value,
    /// The state of the partition's watermark generator; None before the first record.
    pub watermark: Option<serde_json::Value>,
    /// True if the partition had ended.
    pub ended: bool,
}

/// A piece of output that waits for its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The slot that wrote it.
    pub slot: Slot,
    /// The epoch whose output it is.
    pub epoch: Epoch,
    /// The number of records.
    pub records: u64,
    /// Where the connector finds it, in the connector's own words.
    pub place: serde_json::Value,
    /// Its length and checksum. The path is absolute if it is a file of the local file system, and only then.
    pub file: FileRef,
}

/// A file by its path (relative to the checkpoint directory, or absolute for staged output), length and checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Where the file is.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The CRC-32 of its content.
    pub crc32: u32,
}

/// Why a manifest was not read.
#[derive(Debug)]
pub enum ManifestError {
    /// The bytes are not what was once written: torn, flipped, or no manifest at all.
    Damaged(String),
    /// A manifest of a version that this build does not know.
    Version {
        /// The version that the file names.
        found: u32,
    },
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "the manifest is damaged: {what}"),
            Self::Version { found } => write!(
                f,
                "the manifest has format version {found}, and this build reads version {FORMAT_VERSION}; \
                 start the job with the build that wrote it, or from a savepoint that this build wrote"
            ),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// The bytes to write: a line with the checksum, a line of JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A manifest is maps with string or integer keys, numbers and strings: serde_json has no case to refuse.
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        let mut bytes = format!("tidegate-manifest crc32={:08x}\n", crc32fast::hash(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ManifestError::Damaged`] if a single bit differs from what was written, [`ManifestError::Version`] if another
    /// version of Tidegate wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |what: &str| ManifestError::Damaged(what.to_owned());
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no UTF-8"))?;
        let (head, rest) = text.split_once('\n').ok_or_else(|| damaged("it has no first line"))?;
        let json = rest.strip_suffix('\n').ok_or_else(|| damaged("its end is missing"))?;
        let crc = head
            .strip_prefix("tidegate-manifest crc32=")
            .and_then(|hex| u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8))
            .ok_or_else(|| damaged("its first line is not a manifest's"))?;
        if crc != crc32fast::hash(json.as_bytes()) {
            return Err(damaged("its checksum does not fit its content"));
        }
        Self::from_checked_json(json)
    }

    fn from_checked_json(json: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct OnlyVersion {
            format_version: u32,
        }
        let unreadable = |e: serde_json::Error| ManifestError::Damaged(e.to_string());
        let OnlyVersion { format_version: found } = serde_json::from_str(json).map_err(unreadable)?;
        if found != FORMAT_VERSION {
            return Err(ManifestError::Version { found });
        }
        serde_json::from_str(json).map_err(unreadable)
    }

    /// Every file of the state store that the snapshot needs.
    pub fn store_files(&self) -> impl Iterator<Item = &FileRef> {
        self.slots.values().flat_map(|slot| slot.store.values())
    }

    /// All staged output of the snapshot, with the uid of its sink.
    pub fn staged(&self) -> impl Iterator<Item = (&str, &Staged)> {
        self.slots
            .values()
            .flat_map(|slot| slot.operators.iter())
            .flat_map(|(uid, part)| part.staged.iter().map(move |staged| (uid.as_str(), staged)))
    }
}
