//! What must never change: the hashes of keys, which determine where state lies in all existing snapshots.

use serde::Serialize;
use tidegate_protocol::KeyGroups;

use crate::key::hash;

#[derive(Serialize)]
struct Device {
    site: u16,
    name: String,
}

#[derive(Serialize)]
struct Id(u64);

#[derive(Serialize)]
enum Place {
    Nowhere,
    Room(u8),
    Square(i32, i32),
    House { number: u32, street: String },
}

#[test]
fn hashes_of_keys_are_those_of_the_first_release() {
    let device = Device { site: 3, name: "pump".to_owned() };
    let house = Place::House { number: 7, street: "Deich".to_owned() };
    let hashes = [
        ("empty string", hash(&"")),
        ("short string", hash(&"dev-00042")),
        (
            "long string",
            hash(&"longer than sixty-four bytes, from where on hash functions change their ways"),
        ),
        ("not ASCII", hash(&"Grüße")),
        ("zero", hash(&0u64)),
        ("u32", hash(&42u32)),
        ("negative", hash(&-1i64)),
        ("u128", hash(&(1u128 << 100))),
        ("bool", hash(&true)),
        ("char", hash(&'x')),
        ("bytes", hash(&[1u8, 2, 3])),
        ("vector", hash(&vec![1u8, 2, 3])),
        ("pair", hash(&("a", 1u32))),
        ("struct", hash(&device)),
        ("none", hash(&None::<u32>)),
        ("some", hash(&Some(7u32))),
        ("unit", hash(&())),
        ("newtype", hash(&Id(42))),
        ("unit variant", hash(&Place::Nowhere)),
        ("newtype variant", hash(&Place::Room(4))),
        ("tuple variant", hash(&Place::Square(-1, 1))),
        ("struct variant", hash(&house)),
    ];
    let lines: Vec<String> = hashes.iter().map(|(name, hash)| format!("{hash:016x} {name}")).collect();
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(lines, golden, "\n{}", lines.join("\n"));
}

/// What holds whatever the values are.
#[test]
fn keys_of_one_meaning_have_one_hash_and_others_another() {
    assert_eq!(hash(&42u32), hash(&42u64), "a number may get a wider type");
    assert_eq!(hash(&Id(42)), hash(&42u64), "a newtype may be put around a key");
    assert_eq!(hash(&"a".to_owned()), hash(&"a"));
    assert_ne!(hash(&("ab", "c")), hash(&("a", "bc")));
    assert_ne!(hash(&vec![vec![1u8], vec![]]), hash(&vec![vec![], vec![1u8]]));
    assert_ne!(hash(&Some(0u32)), hash(&None::<u32>));
}

#[test]
fn key_groups_of_keys_are_those_of_the_first_release() {
    let group = |count, key: &str| KeyGroups { count }.of_hash(hash(&key)).0;
    let groups: Vec<u16> = (0..8).map(|i| group(128, &format!("dev-{i:05}"))).collect();
    assert_eq!(groups, [23, 96, 9, 109, 124, 89, 66, 95]);
    assert_eq!([group(1, "a"), group(7, "a"), group(32_768, "a")], [0, 1, 5_377]);
}

#[test]
fn keys_are_spread_evenly_over_the_groups() {
    let groups = KeyGroups::default();
    let mut sizes = vec![0u32; 128];
    (0..128_000u32).for_each(|key| sizes[usize::from(groups.of_hash(hash(&key)).0)] += 1);
    let (least, most) = (sizes.iter().min().copied(), sizes.iter().max().copied());
    assert!(least > Some(850) && most < Some(1_150), "{least:?} to {most:?} of 1000");
}
