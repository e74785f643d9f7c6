//! Types of which a value is not read back as what was written.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeSeq;
use serde::{Serializer, de::IgnoredAny};

use super::*;

fn refusal<T: Serialize + DeserializeOwned>() -> String {
    let kept = state_type::<T>().unwrap_err().to_string();
    let sent = record_type::<T>().unwrap_err().to_string();
    let why = |text: &str| text.split_once(": ").unwrap().1.to_owned();
    assert_eq!(why(&kept), why(&sent));
    assert!(sent.contains("can be sent to another worker, but not be read there"), "{sent}");
    sent
}

#[derive(Deserialize, Serialize)]
struct NoNote {
    id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<u32>,
}

#[derive(Deserialize, Serialize)]
enum Deep {
    Nothing,
    Some(Vec<(u8, Option<NoNote>)>),
}

#[test]
fn a_field_that_some_value_leaves_out_is_found_wherever_it_is() {
    let found = "its field 'note' (of NoNote) is left out by #[serde(skip_serializing_if)]";
    for text in [refusal::<NoNote>(), refusal::<Deep>(), refusal::<BTreeMap<String, (Deep, u8)>>()] {
        assert!(text.contains(found), "{text}");
    }
    assert!(refusal::<NoNote>().contains("NoNote (struct{id:u32,note:option<u32>})"));
}

#[test]
fn it_is_found_whatever_value_it_is_left_out_for() {
    fn is_zero(n: &u32) -> bool {
        *n == 0
    }
    fn is_true(b: &bool) -> bool {
        *b
    }
    fn is_default<T: Default + PartialEq>(value: &T) -> bool {
        *value == T::default()
    }
    #[derive(Default, PartialEq, Deserialize, Serialize)]
    struct Inner {
        a: Option<u8>,
        b: Vec<u8>,
    }
    macro_rules! left_out {
        ($($name:ident: $type:ty = $if:literal;)*) => {$({
            #[derive(Deserialize, Serialize)]
            struct $name {
                #[serde(default, skip_serializing_if = $if)]
                field: $type,
            }
            #[derive(Deserialize, Serialize)]
            enum Variant {
                A,
                B { #[serde(default, skip_serializing_if = $if)] field: $type, last: u8 },
            }
            let text = refusal::<$name>();
            assert!(text.contains(concat!("its field 'field' (of ", stringify!($name), ")")), "{text}");
            let text = refusal::<Variant>();
            assert!(text.contains("its field 'field' (of B)"), "{text}");
        })*};
    }
    left_out! {
        IfZero: u32 = "is_zero";
        IfTrue: bool = "is_true";
        IfSome: Option<u8> = "Option::is_some";
        IfNone: Option<u8> = "Option::is_none";
        IfEmptyText: String = "String::is_empty";
        IfEmptyList: Vec<u8> = "Vec::is_empty";
        IfEmptyMap: HashMap<u8, u8> = "HashMap::is_empty";
        IfDefault: Inner = "is_default";
    }
}

#[test]
fn a_field_that_is_left_out_for_an_odd_value_is_found_in_that_value() {
    fn is_odd(n: &u64) -> bool {
        *n == 4_711
    }
    #[derive(Deserialize, Serialize)]
    struct Odd {
        #[serde(default, skip_serializing_if = "is_odd")]
        n: u64,
    }
    assert!(record_type::<Odd>().is_ok());
    let found = whole::left_out(&vec![Odd { n: 1 }, Odd { n: 4_711 }]).unwrap();
    assert_eq!(found, whole::NotWhole::LeftOut { of: "Odd", field: "n" });
    assert_eq!(whole::left_out(&Odd { n: 1 }), None);
}

#[test]
fn a_type_that_does_not_read_what_it_writes_is_refused() {
    fn as_text<S: Serializer>(n: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&n.to_string())
    }
    #[derive(Deserialize, Serialize)]
    struct Half {
        #[serde(serialize_with = "as_text")]
        n: u32,
    }
    #[derive(Deserialize, Serialize)]
    struct Never {
        a: u8,
        #[serde(default, skip_serializing)]
        b: u8,
    }
    assert!(refusal::<Never>().contains("is not read back as a whole"));
    assert!(refusal::<Half>().contains("do not fit each other"));
}

#[test]
fn an_enum_whose_variants_are_numbered_in_two_ways_is_refused() {
    #[derive(Deserialize, Serialize)]
    enum Hole {
        A,
        #[serde(skip)]
        Unseen,
        B,
        C,
    }
    let bytes = postcard::to_stdvec(&Hole::B).unwrap();
    // What serde does with such an enum is what decides, here too.
    match postcard::from_bytes::<Hole>(&bytes) {
        Ok(Hole::B) => assert!(record_type::<Hole>().is_ok()),
        _ => assert!(refusal::<Hole>().contains("do not fit each other")),
    }
}

#[test]
fn a_sequence_without_a_length_is_refused() {
    #[derive(Deserialize)]
    struct Odd(Vec<u8>);
    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(None)?;
            self.0.iter().try_for_each(|n| seq.serialize_element(n))?;
            seq.end()
        }
    }
    assert!(refusal::<Odd>().contains("does not tell its length"), "{}", refusal::<Odd>());
}

#[test]
fn a_variant_that_is_never_written_does_no_harm() {
    #[derive(Deserialize, Serialize)]
    enum Kind {
        A(u8),
        #[serde(skip_serializing)]
        B,
    }
    assert!(record_type::<Kind>().is_ok());
}

#[test]
fn what_derives_without_such_attributes_passes() {
    #[derive(Deserialize, Serialize)]
    struct Tree {
        children: Vec<Tree>,
        named: BTreeMap<String, Tree>,
        #[serde(skip)]
        skipped: u8,
        #[serde(default, rename = "new", alias = "former")]
        old: [u16; 3],
    }
    macro_rules! pass {
        ($($type:ty)*) => { $(assert!(record_type::<$type>().is_ok(), stringify!($type));)* };
    }
    pass! {
        () bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char String [u8; 32] Box<str>
        Option<Option<u8>> Vec<(u8, String)> HashMap<String, (i64, f64)> BTreeMap<u8, ()> HashSet<u8> Cow<'static, str>
        Duration SystemTime IpAddr SocketAddr NonZeroU64 Result<u8, String> std::ops::Range<i64> Event Colour Stats
        Wrapper<Event> Tree Arc<str> std::path::PathBuf std::num::Wrapping<u8> std::marker::PhantomData<u8>
        std::collections::VecDeque<u8> std::cell::RefCell<u8> std::sync::Mutex<u8> std::cmp::Reverse<u8>
    }
    assert!(postcard::from_bytes::<IgnoredAny>(&[0]).is_err());
}
