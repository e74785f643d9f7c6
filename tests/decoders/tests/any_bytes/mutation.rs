//! Mutations of a corpus, always the same ones: chance is splitmix64 from a fixed seed.

/// Bytes that matter to decoders: the greatest numbers, an endless varint, brackets of JSON, half of a character.
const PIECES: &[&[u8]] = &[
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x00",
    b"\xc3",
    b"[",
    b"{",
    b"\"",
    b"]",
    b"}",
    b"null",
    b"-1",
    b"1e308",
    b"18446744073709551615",
    b"340282366920938463463374607431768211456",
    b"\\u0000",
    b"\\ud800",
];

pub(crate) struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    pub(crate) fn of(corpus: &'a [Vec<u8>]) -> Self {
        Self { corpus, state: 1 }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    /// A part of what is there, by its bounds.
    fn part(&mut self, bytes: &[u8]) -> (usize, usize) {
        let from = self.below(bytes.len() + 1);
        let length = self.below(1 + (bytes.len() - from).min(64));
        (from, from + length)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (from, to) = self.part(bytes);
        match self.below(7) {
            0 => drop(bytes.drain(from..to)),
            1 => bytes.truncate(from),
            2 => {
                let piece = PIECES[self.below(PIECES.len())];
                let times = [1, 1, 1, 200][self.below(4)];
                bytes.splice(from..to, piece.repeat(times));
            }
            3 => {
                let other = &self.corpus[self.below(self.corpus.len())];
                let (start, end) = self.part(other);
                bytes.splice(from..to, other[start..end].to_vec());
            }
            4 => {
                let copy = bytes[from..to].to_vec();
                bytes.splice(from..from, copy);
            }
            5 if from < bytes.len() => bytes[from] = self.below(256) as u8,
            _ if from < bytes.len() => bytes[from] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.corpus[self.below(self.corpus.len())].clone();
        for _ in 0..1 + self.below(4) {
            self.change(&mut bytes);
        }
        Some(bytes)
    }
}
