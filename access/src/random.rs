//! Bytes from the random number generator of the operating system.

/// Unpredictable bytes, for secrets and nonces.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux and macOS have a random number generator that always answers");
    bytes
}
