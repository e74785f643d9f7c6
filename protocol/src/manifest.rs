//! The manifest: the file that lists what a snapshot consists of.
//!
//! A manifest describes itself: the format's version, the job, the operators by uid with the types of their state, the
//! key groups and files of every slot, the positions of every source partition and the staged output of every sink.
//! A bare directory of a manifest and the files it names is enough to restart the job, with any parallelism.
//!
//! On disk it is one line of JSON behind a line that holds the CRC-32 of that JSON, so that a truncated or
//! changed manifest is detected before anything in it is used.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, Epoch, KeyGroups, Slot};

/// The version that this build writes. It reads this one and those from [`OLDEST_FORMAT_VERSION`] on.
///
/// Version 2 says for every entry of a window whether it has fired, where version 1 said it for every window. In version 3
/// staged output may lie in the checkpoint store, or be no file at all: a build that does not know that would take the
/// snapshot for a damaged one, or delete the file. A build refuses versions that are newer than its own.
pub const FORMAT_VERSION: u32 = 3;

/// The first version in which a relative path of staged output is one in the checkpoint store.
const STAGED_IN_STORE: u32 = 3;

/// The oldest version that this build reads.
pub const OLDEST_FORMAT_VERSION: u32 = 1;

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
    /// Snapshots completed since the job's first start, this one included.
    pub checkpoints: u64,
    /// Milliseconds since the Unix epoch when the snapshot was completed; for people, no rule depends on it.
    pub completed_at_ms: u64,
    /// The number of workers that wrote the snapshot.
    pub parallelism: u32,
    /// The key groups of the job; fixed for ever by its first snapshot.
    pub key_groups: KeyGroups,
    /// The job's own command line arguments, flag by flag, to notice what changed at a restart.
    pub arguments: BTreeMap<String, Vec<String>>,
    /// The operators with something in the snapshot, by uid.
    pub operators: BTreeMap<String, OperatorEntry>,
    /// What each worker wrote.
    pub slots: BTreeMap<Slot, SlotSnapshot>,
}

/// What an operator keeps, the same on every worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OperatorEntry {
    /// What kind of operator it is ("source", "window", "process", "sink", ...); another kind does not restore from it.
    pub kind: String,
    /// The prefix of the operator's keys in the state store; never given to another uid of this job.
    pub store_id: u16,
    /// The type of its state: a name for people and the shape that is compared. None for an operator without.
    pub state: Option<StateType>,
    /// What the operator reads from or writes to outside (a directory, a topic); another one is refused at a restart.
    #[serde(rename = "outside")]
    pub uri: Option<String>,
}

/// The type of an operator's state as serde sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StateType {
    /// The Rust type's name, for messages.
    pub name: String,
    /// The type's serialized shape; two types of the same shape can read each other's bytes.
    #[serde(rename = "shape")]
    pub fingerprint: String,
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
    /// The event time that the operator had come to at the barrier (milliseconds); None before the first watermark, and
    /// for an operator that keeps none. The same on every worker.
    pub watermark: Option<i64>,
    /// Totals since the job's first start, by name; a restore adds up those of all slots.
    pub counters: BTreeMap<String, u64>,
    /// Source partitions by name.
    pub partitions: BTreeMap<String, PartitionSnapshot>,
    /// Output that is part of this snapshot and published after it is complete.
    pub staged: Vec<Staged>,
    /// What an operator keeps by itself in a form of its own.
    pub extra: serde_json::Value,
}

/// How far one source partition was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionSnapshot {
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
    /// What the connector has to know to publish it, in the connector's own form.
    pub place: serde_json::Value,
    /// The file that holds it: in the checkpoint store, or of the local file system, by an absolute path. None if the
    /// connector has staged it in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRef>,
}

/// A file by its path (in the checkpoint store, or absolute for output that is staged elsewhere), length and checksum.
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
    /// The bytes are not what was once written: truncated, changed, or not a manifest at all.
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
                "the manifest has format version {found}, and this build reads versions {OLDEST_FORMAT_VERSION} to \
                 {FORMAT_VERSION}; start the job with the build that wrote it"
            ),
        }
    }
}

impl std::error::Error for ManifestError {}

/// What the operators of a job have counted since its first start: by uid, and by name.
pub type Totals = BTreeMap<String, BTreeMap<String, u64>>;

impl Manifest {
    /// What the operators have counted on all workers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for (uid, part) in self.slots.values().flat_map(|slot| &slot.operators) {
            for (counter, count) in &part.counters {
                *totals.entry(uid.clone()).or_default().entry(counter.clone()).or_default() += count;
            }
        }
        totals
    }

    /// The workers whose part has rows of these key groups, each with those of them that it owned.
    pub fn slots_with(&self, groups: &Range<u16>) -> impl Iterator<Item = (Slot, Range<u16>)> {
        let theirs = |slot: &Slot| self.key_groups.range(slot.0 as usize, self.parallelism as usize);
        let common = |theirs: Range<u16>| theirs.start.max(groups.start)..theirs.end.min(groups.end);
        let all = self.slots.keys().map(move |slot| (*slot, common(theirs(slot))));
        all.filter(|(_, groups)| !groups.is_empty())
    }

    /// The bytes to write: a line with the checksum, a line of JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A manifest is maps with string or integer keys, numbers and strings: serde_json has no case to refuse.
        let json = serde_json::to_vec(self).expect("a manifest is plain data");
        let mut bytes = first_line(&json).into_bytes();
        bytes.push(b'\n');
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
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
        let (head, rest) = text.split_once('\n').ok_or_else(|| damaged("it has no first line"))?;
        let json = rest.strip_suffix('\n').ok_or_else(|| damaged("its end is missing"))?;
        if head != first_line(json.as_bytes()) {
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
        if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&found) {
            return Err(ManifestError::Version { found });
        }
        let mut manifest: Self = serde_json::from_str(json).map_err(unreadable)?;
        if found < STAGED_IN_STORE {
            manifest.forget_names_of_staged_output();
        }
        Ok(manifest)
    }

    /// Before version 3 the path of staged output that was not a local file was a name for users to read.
    fn forget_names_of_staged_output(&mut self) {
        let operators = self.slots.values_mut().flat_map(|slot| slot.operators.values_mut());
        for staged in operators.flat_map(|operator| &mut operator.staged) {
            staged.file = staged.file.take().filter(|file| Path::new(&file.path).is_absolute());
        }
    }

    /// An operator of which the workers have come to different event times, if there is one: a defect, since what is late
    /// and what has fired would depend on the worker.
    pub fn differing_watermark(&self) -> Option<&str> {
        let mut first = BTreeMap::new();
        for (uid, part) in self.slots.values().flat_map(|slot| &slot.operators) {
            if *first.entry(uid).or_insert(part.watermark) != part.watermark {
                return Some(uid);
            }
        }
        None
    }

    /// Every file of the state store that the snapshot needs.
    pub fn store_files(&self) -> impl Iterator<Item = &FileRef> {
        self.slots.values().flat_map(|slot| slot.store.values())
    }

    /// Every file that the snapshot names, wherever it is.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let staged = self.staged().filter_map(|(_, staged)| staged.file.as_ref());
        self.store_files().chain(staged)
    }

    /// All staged output of the snapshot, with the uid of its sink.
    pub fn staged(&self) -> impl Iterator<Item = (&str, &Staged)> {
        self.slots
            .values()
            .flat_map(|slot| slot.operators.iter())
            .flat_map(|(uid, part)| part.staged.iter().map(move |staged| (uid.as_str(), staged)))
    }
}

/// The line before the JSON, with its checksum.
fn first_line(json: &[u8]) -> String {
    format!("tidegate-manifest crc32={:08x}", crc32fast::hash(json))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            vec(any::<i64>(), 0..3).prop_map(Into::into),
        ]
    }

    prop_compose! {
        fn file()(path in ".*", bytes: u64, crc32: u32) -> FileRef {
            FileRef { path, bytes, crc32 }
        }
    }

    prop_compose! {
        fn staged()(
            slot: u32,
            epoch: u64,
            records: u64,
            place in json(),
            file in prop::option::of(file()),
        ) -> Staged {
            Staged { slot: Slot(slot), epoch: Epoch(epoch), records, place, file }
        }
    }

    prop_compose! {
        fn partition()(position in json(), watermark in json(), ended: bool) -> PartitionSnapshot {
            PartitionSnapshot { position, watermark: Some(watermark).filter(|w| !w.is_null()), ended }
        }
    }

    prop_compose! {
        fn kept()(
            watermark: Option<i64>,
            counters in btree_map(".*", any::<u64>(), 0..3),
            partitions in btree_map(".*", partition(), 0..3),
            staged in vec(staged(), 0..3),
            extra in json(),
        ) -> OperatorSnapshot {
            OperatorSnapshot { watermark, counters, partitions, staged, extra }
        }
    }

    prop_compose! {
        fn operator()(
            kind in ".*",
            store_id: u16,
            state: Option<(String, String)>,
            uri: Option<String>,
        ) -> OperatorEntry {
            let state = state.map(|(name, shape)| StateType { name, fingerprint: shape });
            OperatorEntry { kind, store_id, state, uri }
        }
    }

    prop_compose! {
        fn slot()(
            store in btree_map(".*", file(), 0..3),
            operators in btree_map(".*", kept(), 0..3),
        ) -> SlotSnapshot {
            SlotSnapshot { store, operators }
        }
    }

    prop_compose! {
        fn any_manifest()(
            job in ".*",
            numbers: (u32, u64, u64, u64),
            finished: bool,
            parallelism: u32,
            groups: u16,
            arguments in btree_map(".*", vec(".*", 0..3), 0..3),
            operators in btree_map(".*", operator(), 0..3),
            slots in btree_map(any::<u32>().prop_map(Slot), slot(), 0..3),
        ) -> Manifest {
            let (attempt, epoch, checkpoints, completed_at_ms) = numbers;
            Manifest {
                format_version: FORMAT_VERSION,
                job,
                attempt: Attempt(attempt),
                epoch: Epoch(epoch),
                finished,
                checkpoints,
                completed_at_ms,
                parallelism,
                key_groups: KeyGroups { count: groups },
                arguments,
                operators,
                slots,
            }
        }
    }

    fn manifest<const SLOTS: usize>(slots: [SlotSnapshot; SLOTS]) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            job: "job".to_owned(),
            attempt: Attempt(1),
            epoch: Epoch(1),
            finished: false,
            checkpoints: 1,
            completed_at_ms: 0,
            parallelism: SLOTS as u32,
            key_groups: KeyGroups::default(),
            arguments: BTreeMap::new(),
            operators: BTreeMap::new(),
            slots: slots.into_iter().enumerate().map(|(i, slot)| (Slot(i as u32), slot)).collect(),
        }
    }

    #[test]
    fn workers_that_have_come_to_different_event_times_are_noticed() {
        let part = |watermark| OperatorSnapshot { watermark, ..OperatorSnapshot::default() };
        let slot = |sums, rules| SlotSnapshot {
            operators: [("sums".to_owned(), part(sums)), ("rules".to_owned(), part(rules))].into(),
            ..SlotSnapshot::default()
        };
        assert_eq!(manifest([slot(Some(5), None), slot(Some(5), None)]).differing_watermark(), None);
        assert_eq!(manifest([slot(Some(5), None), slot(Some(6), None)]).differing_watermark(), Some("sums"));
        assert_eq!(manifest([slot(None, Some(1)), slot(None, None)]).differing_watermark(), Some("rules"));
    }

    #[test]
    fn a_name_of_staged_output_in_an_old_manifest_is_no_file() {
        let staged = |path: &str| Staged {
            slot: Slot(0),
            epoch: Epoch(1),
            records: 1,
            place: serde_json::Value::Null,
            file: Some(FileRef { path: path.to_owned(), bytes: 0, crc32: 0 }),
        };
        let paths_of = |format_version| {
            let operator = OperatorSnapshot {
                staged: ["s3://bucket/key", "/out/.part"].map(staged).to_vec(),
                ..OperatorSnapshot::default()
            };
            let slot =
                SlotSnapshot { operators: [("out".to_owned(), operator)].into(), ..SlotSnapshot::default() };
            let manifest = Manifest { format_version, ..manifest([slot]) };
            let read = Manifest::from_bytes(&manifest.to_bytes()).unwrap();
            let files = read.files().map(|file| file.path.clone());
            files.collect::<Vec<_>>()
        };
        assert_eq!(paths_of(2), ["/out/.part"]);
        assert_eq!(paths_of(3), ["s3://bucket/key", "/out/.part"]);
    }

    proptest! {
        #[test]
        fn a_manifest_is_read_as_it_was_written(manifest in any_manifest()) {
            prop_assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).expect("it is whole"), manifest);
        }

        #[test]
        fn one_flipped_bit_is_damage_wherever_it_is(manifest in any_manifest(), place: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = manifest.to_bytes();
            let place = place.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
            prop_assert!(matches!(Manifest::from_bytes(&bytes), Err(ManifestError::Damaged(_))));
        }

        #[test]
        fn a_cut_is_damage_wherever_it_is(manifest in any_manifest(), place: prop::sample::Index) {
            let bytes = manifest.to_bytes();
            let cut = &bytes[..place.index(bytes.len())];
            prop_assert!(matches!(Manifest::from_bytes(cut), Err(ManifestError::Damaged(_))));
        }
    }
}
