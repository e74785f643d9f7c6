//! What anybody who may write to a topic could have written, for tests of decoders.

use proptest::prelude::*;

/// Any bytes, or these with some of them changed.
pub(super) fn any_or_like(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![Just(valid), proptest::collection::vec(any::<u8>(), 0..200)];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (bytes, changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}
