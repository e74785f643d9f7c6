//! Types that refuse a dummy, and types that ask what the bytes are.

use std::num::NonZeroU32;

use super::*;

/// Accepts only one string, which is none of the dummies.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "open sesame" { Ok(Self) } else { Err(serde::de::Error::custom("no")) }
    }
}

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("open sesame")
    }
}

#[derive(Deserialize, Serialize)]
struct Account {
    id: NonZeroU32,
    secret: Picky,
    balance: Option<i64>,
    colour: Colour,
}

#[test]
fn types_that_refuse_dummies_are_marked_and_what_lies_behind_them_is_seen() {
    let account = format!(
        "struct{{id:u32+opaque(NonZero<u32>),secret:str+opaque(Picky),balance:option<i64>,colour:{COLOUR}}}"
    );
    assert_eq!(fingerprint::<Account>(), account);
    assert_eq!(fingerprint::<(Vec<Account>, u8)>(), format!("(seq<{account}>,u8)"));
    fingerprints! {
        NonZeroU32 => "u32+opaque(NonZero<u32>)";
        (NonZeroU32, Colour) => "(u32+opaque(NonZero<u32>),enum{Red,Other(u8,u8,u8),Named(str)})";
        Picky => "str+opaque(Picky)";
        (Option<Picky>, u8) => "(option<str+opaque(Picky)>,u8)";
        BTreeMap<Picky, Option<u8>> => "map<str+opaque(Picky),option<u8>>";
        (u8, Picky) => "(u8,str+opaque(Picky))";
        (Picky, u8) => "(str+opaque(Picky),?)+opaque((Picky, u8))";
    }
}

#[test]
fn a_variant_of_which_no_value_can_be_made_does_not_hide_the_others() {
    #[derive(Deserialize)]
    enum Login {
        Secret(Picky),
        Both { secret: Picky, user: u8 },
        Guest,
    }
    let login = "enum{Secret(str+opaque(Picky)),Both{secret:str+opaque(Picky),user:u8},Guest}";
    assert_eq!(fingerprint::<Login>(), login);
    assert_eq!(fingerprint::<(Login, u8)>(), format!("({login},u8)"));
}

#[test]
fn a_checked_type_is_marked_behind_its_whole_shape() {
    #[derive(Deserialize)]
    #[serde(try_from = "Stats")]
    struct Checked;
    impl TryFrom<Stats> for Checked {
        type Error = &'static str;
        fn try_from(stats: Stats) -> Result<Self, &'static str> {
            if stats.mean > 1e9 { Ok(Self) } else { Err("too small") }
        }
    }
    let fingerprint = fingerprint::<Wrapper<Checked>>();
    let stats = "struct{count:u64,mean:f64,tags:seq<str>,last:option<f64>}";
    assert_eq!(fingerprint, format!("struct{{inner:{stats}+opaque(Checked)}}"));
}

#[test]
fn a_field_read_by_a_function_that_refuses_is_marked_without_a_name() {
    fn picky<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Picky::deserialize(deserializer).map(|_| 0)
    }
    #[derive(Deserialize)]
    struct Custom {
        #[serde(deserialize_with = "picky")]
        a: u64,
        b: u16,
    }
    assert_eq!(fingerprint::<Custom>(), "struct{a:str+opaque(with),b:u16}");
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Untagged {
    A(u8),
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "t")]
enum Tagged {
    A { x: u8 },
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "t", content = "c")]
enum Beside {
    A(u8),
}

#[derive(Deserialize, Serialize)]
struct Flat {
    x: u8,
    #[serde(flatten)]
    rest: Stats,
}

#[test]
fn what_postcard_cannot_read_does_not_panic() {
    assert_eq!(fingerprint::<Untagged>(), "any+opaque(Untagged)");
    assert_eq!(fingerprint::<Tagged>(), "any+opaque(Tagged)");
    assert!(fingerprint::<Flat>().ends_with("+opaque(Flat)"), "{}", fingerprint::<Flat>());
}

#[test]
fn what_postcard_cannot_read_is_refused_wherever_it_is() {
    fn refused<T: Serialize + DeserializeOwned>(name: &str) {
        let error = state_type::<T>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("a value of type {name} (")), "{error}");
        assert!(
            error.contains("be written to a snapshot") && error.contains("#[serde(untagged)]"),
            "{error}"
        );
        let error = record_type::<T>().unwrap_err().to_string();
        assert!(
            error.contains("be sent to another worker") && error.contains("#[serde(untagged)]"),
            "{error}"
        );
    }
    refused::<serde_json::Value>("Value");
    refused::<Untagged>("Untagged");
    refused::<Tagged>("Tagged");
    refused::<Beside>("Beside");
    refused::<Flat>("Flat");
    refused::<Option<Vec<(u8, Wrapper<Tagged>)>>>("Option<Vec<(u8, Wrapper<Tagged>)>>");
    refused::<BTreeMap<String, serde_json::Value>>("BTreeMap<String, Value>");
}

/// Written as a map with the key "at"; what has another key is not looked at.
struct ByHand;

impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct At;
        impl<'de> serde::de::Visitor<'de> for At {
            type Value = ByHand;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ByHand, A::Error> {
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "at" => drop(map.next_value::<i64>()?),
                        _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
                Ok(ByHand)
            }
        }
        deserializer.deserialize_map(At)
    }
}

#[test]
fn a_type_that_ignores_a_dummy_is_not_refused() {
    assert_eq!(fingerprint::<ByHand>(), "map<str,ignored>");
    assert!(!trace::<ByHand>().asks_what_it_is());
}

#[test]
fn a_first_value_may_hold_maps_without_an_order() {
    use std::collections::{HashMap, HashSet};
    for _ in 0..20 {
        let colours = ["red", "green", "blue", "black", "white"].map(|name| (name.to_owned(), name.len()));
        assert!(state_type_of(&HashMap::from(colours)).is_ok());
        assert!(state_type_of(&vec![HashSet::from([1u64, 500, 70_000]), HashSet::new()]).is_ok());
    }
}

#[test]
fn a_first_value_that_leaves_parts_out_is_refused() {
    #[derive(Default, Deserialize, Serialize)]
    struct Sparse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        count: u64,
    }
    let error = state_type_of(&Sparse::default()).unwrap_err().to_string();
    assert!(error.contains("Sparse (struct{note:option<str>,count:u64})"), "{error}");
    assert!(error.contains("skip_serializing_if"), "{error}");
}

#[test]
fn what_postcard_reads_back_is_kept() {
    #[derive(Default, Deserialize, Serialize)]
    struct Everything {
        stats: Option<Box<Everything>>,
        list: Vec<(i64, f32, char)>,
        by_name: HashMap<String, Option<IpAddr>>,
        #[serde(skip)]
        skipped: u8,
        #[serde(default, rename = "new", alias = "former")]
        old: [u16; 3],
    }
    assert!(state_type_of(&Everything::default()).is_ok());
    assert!(state_type_of(&(1u8, "a".to_owned(), Some([0.5f64; 4]))).is_ok());
    assert!(state_type::<Event>().is_ok());
    assert!(state_type::<Account>().is_ok(), "what refuses dummies may still be read back");
    assert!(state_type_of(&(Some(NonZeroU32::MIN), std::time::Duration::ZERO)).is_ok());
}
