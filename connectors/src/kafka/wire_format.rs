//! What stands in front of a value whose schema is in a registry: a zero byte and the schema's id; for Protobuf also which message of
//! the schema it is.

/// The magic byte, and the id in four bytes.
const HEAD: usize = 5;
/// How deep messages may be nested in the .proto file.
#[cfg(feature = "protobuf")]
const DEPTH: usize = 100;

/// The id of the schema, and what is behind it.
pub(super) fn split(value: &[u8]) -> Result<(u32, &[u8]), String> {
    match value {
        [0, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        [0, ..] | [] => Err(format!(
            "the value is cut off: it has {} bytes, and the id of its schema would end at byte {HEAD}",
            value.len()
        )),
        [first, ..] => Err(format!(
            "the value begins with the byte {first:#04x} and not with 0x00 and the id of its schema: it was not written with a schema \
             registry"
        )),
    }
}

/// What is to stand in front of a value.
pub(super) fn head(id: u32) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..]].concat()
}

/// Which message of its .proto file a value is, and what is behind that.
#[cfg(feature = "protobuf")]
pub(super) fn split_indexes(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let mut rest = bytes;
    let mut next = || -> Result<usize, String> {
        let number = number(&mut rest).ok_or("the indexes of the message in its .proto file are cut off")?;
        usize::try_from(number).map_err(|_| format!("{number} is no index of a message in a .proto file"))
    };
    let count = next()?;
    if count > DEPTH {
        return Err(format!("{count} is too many indexes of a message in a .proto file"));
    }
    // The first message, which most are, is written as an empty list.
    let indexes = if count == 0 { vec![0] } else { (0..count).map(|_| next()).collect::<Result<_, _>>()? };
    Ok((indexes, rest))
}

/// The same the other way round.
#[cfg(feature = "protobuf")]
pub(super) fn write_indexes(indexes: &[usize], out: &mut Vec<u8>) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    for number in [indexes.len()].iter().chain(indexes) {
        let mut zigzag = (*number as u64) << 1;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }
}

#[cfg(feature = "protobuf")]
fn number(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_zero_and_the_id() {
        assert_eq!(head(0x0102_0304), [0, 1, 2, 3, 4]);
        assert_eq!(split(&[0, 1, 2, 3, 4, 9]), Ok((0x0102_0304, &[9][..])));
        assert_eq!(split(&[0, 0, 0, 0, 7]), Ok((7, &[][..])));
        for cut in 0..5 {
            let error = split(&[0, 1, 2, 3, 4][..cut]).unwrap_err();
            assert!(error.contains(&format!("cut off: it has {cut} bytes")), "{error}");
        }
        let error = split(b"{\"n\":1}").unwrap_err();
        assert!(error.contains("begins with the byte 0x7b"), "{error}");
    }

    #[cfg(feature = "protobuf")]
    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20)) {
            if let Ok((_, rest)) = split(&bytes) {
                drop(split_indexes(rest));
            }
            if let Ok((indexes, rest)) = split_indexes(&bytes) {
                let mut written = Vec::new();
                write_indexes(&indexes, &mut written);
                written.extend_from_slice(rest);
                proptest::prop_assert_eq!(split_indexes(&written), Ok((indexes, rest)));
            }
        }
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn indexes_are_written_as_they_are_read() {
        for indexes in [vec![0], vec![1], vec![0, 0], vec![2, 0, 200, 100_000]] {
            let mut bytes = Vec::new();
            write_indexes(&indexes, &mut bytes);
            bytes.push(0xee);
            assert_eq!(split_indexes(&bytes), Ok((indexes.clone(), &[0xee][..])), "{indexes:?}");
            let cut = &bytes[..bytes.len() - 2];
            assert!(split_indexes(cut).unwrap_err().contains("cut off"), "{indexes:?}");
        }
        // As Confluent's documentation has it: [1, 0] is 2, 1, 0 in zigzag.
        assert_eq!(split_indexes(&[4, 2, 0]), Ok((vec![1, 0], &[][..])));
        assert_eq!(split_indexes(&[2, 0]), Ok((vec![0], &[][..])));
        assert!(split_indexes(&[1]).unwrap_err().contains("-1 is no index"));
        assert!(split_indexes(&[0xfe, 0xff, 0x03]).unwrap_err().contains("too many"));
        assert!(split_indexes(&[0xff; 12]).unwrap_err().contains("cut off"));
    }
}
