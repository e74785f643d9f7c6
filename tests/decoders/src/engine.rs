//! What the processes of an attempt send to each other: batches, what is told beside them, and who connects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate::internals;

/// A record of all that serde's derive makes.
#[derive(Serialize, Deserialize)]
struct Mixed {
    name: String,
    amount: f64,
    kind: Kind,
    tags: BTreeMap<String, Option<i64>>,
    nested: Vec<(u8, Kind)>,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Nothing,
    Text(String),
    Fields { at: i64, wide: u128, letter: char },
}

/// A batch of the exchange, as records of several types.
pub fn batch(bytes: &[u8]) {
    internals::batch::<()>(bytes);
    internals::batch::<(u32, i64, f64)>(bytes);
    internals::batch::<(String, Vec<u64>)>(bytes);
    internals::batch::<Mixed>(bytes);
}

/// Batches as they are sent.
pub fn batches() -> Vec<(&'static str, Vec<u8>)> {
    let mixed = |kind| Mixed {
        name: "pump".to_owned(),
        amount: -71.5,
        kind,
        tags: [("a".to_owned(), Some(-1)), ("b".to_owned(), None)].into(),
        nested: vec![(1, Kind::Nothing), (2, Kind::Text("x".to_owned()))],
    };
    let fields = Kind::Fields { at: i64::MIN, wide: u128::MAX, letter: 'ä' };
    vec![
        ("none", internals::encode_batch::<()>(Vec::new())),
        ("units", internals::encode_batch(vec![(), ()])),
        ("numbers", internals::encode_batch(vec![(7u32, -7i64, 0.5f64), (u32::MAX, i64::MAX, f64::NAN)])),
        (
            "texts",
            internals::encode_batch(vec![("x".to_owned(), vec![1, u64::MAX]), (String::new(), Vec::new())]),
        ),
        ("mixed", internals::encode_batch(vec![mixed(fields), mixed(Kind::Nothing)])),
    ]
}

/// Messages beside the dataflow, one behind the other.
pub fn peers(bytes: &[u8]) {
    internals::peer_messages(bytes);
}

/// Such messages.
pub fn peer_messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![("all", internals::encode_peer_messages())]
}

/// What a process says when it connects to another one.
pub fn hello(bytes: &[u8]) {
    internals::hello(bytes);
}

/// Hellos of a process that is expected, and of one that is not.
pub fn hellos() -> Vec<(&'static str, Vec<u8>)> {
    vec![("expected", internals::encode_hello(1)), ("another", internals::encode_hello(2))]
}
