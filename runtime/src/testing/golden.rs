//! What must never change: the hashes of keys, which choose where state lies in every snapshot there is.

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
    let golden: Vec<(&str, u64, u64)> = vec![
        ("empty string", hash(&""), 0),
        ("short string", hash(&"dev-00042"), 0),
        ("long string", hash(&"a key that is longer than sixty-four bytes, which is where hash functions change their ways"), 0),
        ("not ASCII", hash(&"Grüße"), 0),
        ("zero", hash(&0u64), 0),
        ("u32", hash(&42u32), 0),
        ("negative", hash(&-1i64), 0),
        ("u128", hash(&(1u128 << 100)), 0),
        ("bool", hash(&true), 0),
        ("char", hash(&'x'), 0),
        ("bytes", hash(&[1u8, 2, 3]), 0),
        ("vector", hash(&vec![1u8, 2, 3]), 0),
        ("pair", hash(&("a", 1u32)), 0),
        ("struct", hash(&device), 0),
        ("none", hash(&None::<u32>), 0),
        ("some", hash(&Some(7u32)), 0),
        ("unit", hash(&()), 0),
        ("newtype", hash(&Id(42)), 0),
        ("unit variant", hash(&Place::Nowhere), 0),
        ("newtype variant", hash(&Place::Room(4)), 0),
        ("tuple variant", hash(&Place::Square(-1, 1)), 0),
        ("struct variant", hash(&house), 0),
    ];
    for (name, now, then) in golden {
        println!("{name}: 0x{now:016X}");
        assert_eq!(now, then, "{name} is 0x{now:016X} now");
    }
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
    assert_eq!(groups, Vec::<u16>::new());
    assert_eq!([group(1, "a"), group(7, "a"), group(32_768, "a")], [0, 0, 0]);
}

#[test]
fn keys_are_spread_evenly_over_the_groups() {
    let groups = KeyGroups::default();
    let mut sizes = vec![0u32; 128];
    (0..128_000u32).for_each(|key| sizes[usize::from(groups.of_hash(hash(&key)).0)] += 1);
    let (least, most) = (sizes.iter().min().copied(), sizes.iter().max().copied());
    assert!(least > Some(850) && most < Some(1_150), "{least:?} to {most:?} of 1000");
}
