//! Bytes as text: two lower-case hexadecimal digits a byte.

/// The text of `bytes`. Allocated once: a string that grows would leave a part of a secret in freed memory.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for half in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
    }
    text
}

/// The bytes of a text that [`encode`] wrote; None for any other text, or another number of bytes.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_come_back_and_no_other_text_is_read(bytes in any::<[u8; 4]>(), text in "[0-9a-gA-F+]{8}|.{0,9}") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            prop_assert!(decode::<4>(&text).is_none_or(|read| encode(&read) == text));
        }
    }
}
