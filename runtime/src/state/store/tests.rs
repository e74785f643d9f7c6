//! The layout of rows, and values that cannot be kept.

use proptest::prelude::*;

use super::row_key::{split, successor};
use super::*;

fn encoded(namespace: i64, key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let row = RowKey { operator: 0x0102, group: 0x0304, namespace, hash: 0x1112_1314_1516_1718, key: &key };
    row.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_layout_of_a_row_is_that_of_the_first_release() {
    let prefix = [1, 2, 3, 4];
    let hash = [0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
    let tail = [&hash[..], &[2, b'a', b'b']].concat();
    assert_eq!(encoded(0, "ab"), [&prefix[..], &[0x80, 0, 0, 0, 0, 0, 0, 0], &tail].concat());
    assert_eq!(encoded(-1, "ab"), [&prefix[..], &[0x7f, 255, 255, 255, 255, 255, 255, 255], &tail].concat());
    let mut value = Vec::new();
    encode(&(1u64, "x", Some(-2i32)), &mut value).unwrap();
    assert_eq!(value, [1, 1, b'x', 1, 3]);
}

#[test]
fn rows_lie_in_the_order_of_their_namespaces() {
    let namespaces = [i64::MIN, -5, -1, 0, 1, 300, i64::MAX];
    assert!(namespaces.windows(2).all(|pair| encoded(pair[0], "z") < encoded(pair[1], "a")));
    let row = encoded(-5, "key");
    assert_eq!(split(&row).unwrap(), (-5, 0x1112_1314_1516_1718, &[3, b'k', b'e', b'y'][..]));
    assert!(split(&row[..19]).is_err());
}

#[test]
fn a_row_with_bytes_behind_its_value_is_not_read() {
    assert_eq!(decode::<u8>(&[7]).unwrap(), 7);
    let error = decode::<u8>(&[7, 0]).unwrap_err().to_string();
    assert!(error.contains("1 bytes are left"), "{error}");
}

/// Leaves its field out for a value that the check before the start does not try.
#[derive(Debug, Serialize, serde::Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "is_seven")]
    n: u32,
    more: u32,
}

fn is_seven(n: &u32) -> bool {
    *n == 7
}

#[test]
fn a_value_that_leaves_a_field_out_is_not_written() {
    assert!(
        crate::fingerprint::state_type::<Sparse>().is_ok(),
        "the check before the start does not notice it"
    );
    let mut bytes = Vec::new();
    encode(&Sparse { n: 8, more: 1 }, &mut bytes).unwrap();
    assert_eq!(decode::<Sparse>(&bytes).unwrap().n, 8);
    let error = encode(&vec![Sparse { n: 7, more: 1 }], &mut bytes).unwrap_err();
    assert_eq!(error.kind(), tidegate_protocol::ErrorKind::Job);
    let error = error.to_string();
    for part in ["Vec<Sparse>", "its field 'n' (of Sparse)", "skip_serializing_if", "remove that attribute"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_row_that_cannot_be_read_back_names_its_type_and_the_likely_reason() {
    let error = decode::<Sparse>(&[1]).unwrap_err();
    assert_eq!(error.kind(), tidegate_protocol::ErrorKind::Job);
    let error = error.to_string();
    for part in ["of type Sparse", "skip_serializing_if", "flatten", "untagged", "change the type"] {
        assert!(error.contains(part), "{error}");
    }
}

#[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
enum Any {
    Unit,
    Text(String),
    Numbers(Vec<u64>),
    Map(std::collections::HashMap<String, Vec<(char, Option<bool>)>>),
    Set(std::collections::BTreeSet<i128>),
    Nested { deep: Option<Box<Any>>, float: f64 },
}

/// Arbitrary bytes, many of which begin with a large length.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        Just(vec![]),
        Just(vec![0xff; 9]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    ];
    let rest = prop::collection::vec(any::<u8>(), 0..60);
    (0u8..7, length, rest).prop_map(|(kind, length, rest)| [vec![kind], length, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Lengths are not trusted: a list of one of these lengths would not fit into the address space.
    #[test]
    fn any_bytes_are_a_row_or_an_error(bytes in bytes()) {
        if let Ok(value) = decode::<Any>(&bytes) {
            let mut again = Vec::new();
            encode(&value, &mut again).unwrap();
            prop_assert!(again.len() <= bytes.len());
        }
        drop((decode::<String>(&bytes), decode::<Vec<String>>(&bytes), decode::<(u8, Box<[u128]>)>(&bytes)));
        prop_assert_eq!(split(&bytes).is_ok(), bytes.len() >= 20);
    }
}

#[test]
fn a_prefix_ends_before_its_successor() {
    assert_eq!(successor(vec![1, 2]), [1, 3]);
    assert_eq!(successor(vec![1, 255, 255]), [2]);
    assert!(successor(vec![255, 255]) > vec![255, 255, 255, 255]);
}
