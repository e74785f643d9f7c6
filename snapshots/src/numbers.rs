//! A number, or another word, in a file of its own, with a checksum: a torn or changed file is not taken for one.

/// A word as it stands in a file, with its checksum.
pub(crate) fn checked(word: &str) -> String {
    format!("{word} crc32={:08x}\n", crc32fast::hash(word.as_bytes()))
}

/// The word that [`checked`] wrote; None if the bytes are anything else.
pub(crate) fn word_of(bytes: &[u8]) -> Option<&str> {
    let word = std::str::from_utf8(bytes).ok()?.split(' ').next()?;
    (checked(word).as_bytes() == bytes).then_some(word)
}

/// A number as it stands in a file, with the checksum of its digits.
pub(crate) fn to_text(number: u64) -> String {
    checked(&number.to_string())
}

/// The number that [`to_text`] wrote; None if the bytes are anything else.
pub(crate) fn from_bytes(bytes: &[u8]) -> Option<u64> {
    let number = word_of(bytes)?.parse().ok()?;
    (to_text(number).as_bytes() == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for number in [0, 7, 41, u64::MAX] {
            let bytes = to_text(number).into_bytes();
            assert_eq!(from_bytes(&bytes), Some(number));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(from_bytes(&flipped), None, "{}", String::from_utf8_lossy(&flipped));
            }
            for length in 0..bytes.len() {
                assert_eq!(from_bytes(&bytes[..length]), None);
            }
        }
    }
}
