//! Which stores of a restored snapshot have the key groups that a worker owns.
//!
//! The store that has most of them is linked: its files become those of the worker's store, whatever their size. Rows are
//! copied from the others only. So with the same parallelism nothing is copied, nor with a multiple of it; with half of it, half.

use std::collections::BTreeMap;
use std::ops::Range;

use tidegate_protocol::manifest::FileRef;
use tidegate_protocol::{Manifest, Slot};

/// The files of a store, by RocksDB's name.
pub(super) type Files = BTreeMap<String, FileRef>;

/// What a worker takes over from a restored snapshot.
pub(super) struct Heritage<'a> {
    pub(super) manifest: &'a Manifest,
    /// The files that become the worker's store, and the key groups in them.
    pub(super) linked: Option<(&'a Files, Range<u16>)>,
    /// Stores that rows are copied from, and the key groups of these rows.
    pub(super) copied: Vec<(Slot, &'a Files, Range<u16>)>,
}

impl<'a> Heritage<'a> {
    /// What a worker that owns these key groups takes over.
    pub(super) fn new(manifest: &'a Manifest, owned: &Range<u16>) -> Self {
        let theirs = |slot: Slot| manifest.key_groups.range(slot.0 as usize, manifest.parallelism as usize);
        let mut copied: Vec<_> = manifest
            .slots_with(owned)
            .map(|(slot, groups)| (slot, &manifest.slots[&slot].store, groups))
            .filter(|(_, files, _)| !files.is_empty())
            .collect();
        let most = (0..copied.len()).max_by_key(|i| (copied[*i].2.len(), std::cmp::Reverse(*i)));
        let linked = most.map(|most| copied.remove(most)).map(|(slot, files, _)| (files, theirs(slot)));
        Self { manifest, linked, copied }
    }

    /// The files that become the worker's store.
    pub(super) fn linked_files(&self) -> Option<&'a Files> {
        self.linked.as_ref().map(|(files, _)| *files)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::manifest::{FORMAT_VERSION, SlotSnapshot};
    use tidegate_protocol::{Attempt, Epoch, KeyGroups};

    use super::*;

    fn manifest(parallelism: u32) -> Manifest {
        let file = FileRef { path: "x".to_owned(), bytes: 1, crc32: 0 };
        let part = |slot: u32| SlotSnapshot {
            store: [(format!("{slot}.sst"), file.clone())].into(),
            ..SlotSnapshot::default()
        };
        Manifest {
            format_version: FORMAT_VERSION,
            job: "test".to_owned(),
            attempt: Attempt(1),
            epoch: Epoch(1),
            finished: false,
            checkpoints: 1,
            completed_at_ms: 0,
            parallelism,
            key_groups: KeyGroups { count: 128 },
            arguments: BTreeMap::new(),
            operators: BTreeMap::new(),
            slots: (0..parallelism).map(|slot| (Slot(slot), part(slot))).collect(),
        }
    }

    /// What the workers link, and how many key groups they copy from which slots.
    fn taken(from: u32, to: u32) -> Vec<(String, Vec<(u32, usize)>)> {
        let manifest = manifest(from);
        let worker = |slot: usize| {
            let owned = manifest.key_groups.range(slot, to as usize);
            let heritage = Heritage::new(&manifest, &owned);
            let linked = heritage.linked_files().and_then(|files| files.keys().next().cloned());
            let copied = heritage.copied.iter().map(|(slot, _, groups)| (slot.0, groups.len())).collect();
            (linked.unwrap_or_default(), copied)
        };
        (0..to as usize).map(worker).collect()
    }

    #[test]
    fn the_store_with_most_of_the_key_groups_is_linked() {
        let linked = |slot: u32| (format!("{slot}.sst"), Vec::new());
        assert_eq!(taken(2, 2), [linked(0), linked(1)]);
        assert_eq!(taken(1, 3), [linked(0), linked(0), linked(0)]);
        assert_eq!(taken(4, 2), [("0.sst".to_owned(), vec![(1, 32)]), ("2.sst".to_owned(), vec![(3, 32)])]);
        let third = |slot: u32, from, groups| (format!("{slot}.sst"), vec![(from, groups)]);
        assert_eq!(taken(3, 2), [third(0, 1, 21), third(2, 1, 22)]);
    }

    #[test]
    fn every_key_group_is_taken_over_once() {
        for (from, to) in [(1, 4), (4, 1), (3, 5), (5, 3), (7, 2), (128, 3)] {
            let manifest = manifest(from);
            let mut taken = vec![0; 128];
            for slot in 0..to {
                let owned = manifest.key_groups.range(slot, to);
                let heritage = Heritage::new(&manifest, &owned);
                let in_both = |theirs: &Range<u16>| theirs.clone().filter(|group| owned.contains(group));
                let linked = heritage.linked.iter().flat_map(|(_, theirs)| in_both(theirs));
                let all = linked.chain(heritage.copied.iter().flat_map(|(.., groups)| groups.clone()));
                all.for_each(|group| taken[usize::from(group)] += 1);
            }
            assert_eq!(taken, [1; 128], "{from} to {to}");
        }
    }

    #[test]
    fn stores_without_files_are_left_out() {
        let mut manifest = manifest(2);
        manifest.slots.values_mut().for_each(|part| part.store.clear());
        let heritage = Heritage::new(&manifest, &(0..128));
        assert!(heritage.linked_files().is_none() && heritage.copied.is_empty());
    }
}
