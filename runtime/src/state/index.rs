//! Finds places in a slab by hash. A large index is split into many parts, each of which grows by itself: growing one hash
//! table of millions of entries takes a second, in which no record is processed.

use hashbrown::HashTable;

/// Entries from which on the index is split.
const LARGE: usize = 1 << 16;
/// Parts of a large index.
const PARTS: usize = 256;

/// Places by hash.
pub(crate) struct Index {
    /// One, or [`PARTS`].
    parts: Vec<HashTable<u32>>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: vec![HashTable::new()], len: 0 }
    }
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part that a hash belongs to. It is selected neither by the bits of the key group, of which a worker owns only a
    /// few, nor by the bits that a hash table uses first for its buckets.
    #[inline]
    fn part(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.parts.len() - 1)
    }

    /// The place with this hash for which `is` returns true.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.parts[self.part(hash)].find(hash, |&place| is(place)).copied()
    }

    /// Adds a place that is not there yet; `hash_of` tells the hash of any other.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len == LARGE && self.parts.len() == 1 {
            self.split(&hash_of);
        }
        let part = self.part(hash);
        self.parts[part].insert_unique(hash, place, |&place| hash_of(place));
        self.len += 1;
    }

    /// Removes a place; false if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, place: u32) -> bool {
        let part = self.part(hash);
        let Ok(entry) = self.parts[part].find_entry(hash, |&other| other == place) else { return false };
        entry.remove();
        self.len -= 1;
        true
    }

    /// Removes all places; the memory stays allocated.
    pub(crate) fn clear(&mut self) {
        self.parts.iter_mut().for_each(HashTable::clear);
        self.len = 0;
    }

    #[cold]
    fn split(&mut self, hash_of: impl Fn(u32) -> u64) {
        let whole = std::mem::take(&mut self.parts);
        self.parts.resize_with(PARTS, HashTable::new);
        for place in whole.into_iter().flatten() {
            let hash = hash_of(place);
            let part = self.part(hash);
            self.parts[part].insert_unique(hash, place, |&place| hash_of(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(place: u32) -> u64 {
        crate::key::hash(&place)
    }

    #[test]
    fn it_finds_what_it_holds_before_and_after_it_is_split() {
        let mut index = Index::default();
        let count = LARGE as u32 + 1000;
        for place in 0..count {
            index.insert(hash(place), place, hash);
        }
        assert_eq!((index.len(), index.parts.len()), (count as usize, PARTS));
        assert!(index.parts.iter().all(|part| part.len() > LARGE / PARTS / 2), "the parts are not even");
        for place in (0..count).step_by(2) {
            assert!(index.remove(hash(place), place));
            assert!(!index.remove(hash(place), place));
        }
        for place in 0..count {
            let found = index.find(hash(place), |other| other == place);
            assert_eq!(found, (place % 2 == 1).then_some(place));
        }
        index.clear();
        assert_eq!((index.len(), index.find(hash(1), |_| true)), (0, None));
    }
}
