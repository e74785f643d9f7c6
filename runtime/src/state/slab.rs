//! A vector in pieces: it grows without moving its values, so no record waits while millions of entries are copied.

use std::ops::{Index, IndexMut};

/// Entries of a piece.
const PIECE: usize = 1 << 14;

/// Values at places `0..len`.
pub(crate) struct Slab<T> {
    /// All pieces before the last one in use are full. Only the first piece is reallocated as it grows, for the sake of
    /// small tables.
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pieces: vec![Vec::new()], len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for values.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum::<usize>() * size_of::<T>()
    }

    /// Adds a value and returns its place.
    pub(crate) fn push(&mut self, value: T) -> usize {
        let place = self.len;
        if place / PIECE == self.pieces.len() {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        self.pieces[place / PIECE].push(value);
        self.len += 1;
        place
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Takes all values out, in the order of their places.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.pieces.into_iter().flatten()
    }

    /// Drops all values; the pieces stay.
    pub(crate) fn clear(&mut self) {
        self.pieces.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        &self.pieces[place / PIECE][place % PIECE]
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.pieces[place / PIECE][place % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_while_it_grows_and_are_taken_again_when_it_is_cleared() {
        let mut slab = Slab::default();
        for round in 0..2 {
            let values = || (0..3 * PIECE + 5).map(|n| n * 2 + round);
            for (n, value) in values().enumerate() {
                assert_eq!(slab.push(value), n);
                let first = &raw const slab[0];
                assert!(n < PIECE || first == &raw const slab.pieces[0][0]);
            }
            slab[PIECE] += 1;
            assert_eq!(slab[PIECE], PIECE * 2 + round + 1);
            slab[PIECE] -= 1;
            assert!(slab.iter().copied().eq(values()));
            assert_eq!(slab.bytes(), 4 * PIECE * size_of::<usize>());
            slab.clear();
            assert_eq!((slab.len(), slab.iter().count()), (0, 0));
        }
        slab.push(7);
        assert_eq!(slab.into_values().collect::<Vec<_>>(), [7]);
    }
}
