//! Types that refuse a dummy, and types that ask what the bytes are.

use std::num::NonZeroU32;

use super::*;

/// Takes only one string, and none that a dummy could be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "open sesame" { Ok(Self) } else { Err(serde::de::Error::custom("no")) }
    }
}

#[test]
fn types_that_refuse_dummies_are_marked_and_what_lies_behind_them_is_seen() {
    #[derive(Deserialize)]
    struct Account {
        id: NonZeroU32,
        secret: Picky,
        balance: Option<i64>,
        colour: Colour,
    }
    let account = format!(
        "struct{{id:u32+opaque(NonZero<u32>),secret:str+opaque(Picky),balance:option<i64>,colour:{COLOUR}}}"
    );
    assert_eq!(shape::<Account>(), account);
    assert_eq!(shape::<(Vec<Account>, u8)>(), format!("(seq<{account}>,u8)"));
    shapes! {
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
fn a_variant_that_cannot_be_had_does_not_hide_the_others() {
    #[derive(Deserialize)]
    enum Login {
        Secret(Picky),
        Both { secret: Picky, user: u8 },
        Guest,
    }
    let login = "enum{Secret(str+opaque(Picky)),Both{secret:str+opaque(Picky),user:u8},Guest}";
    assert_eq!(shape::<Login>(), login);
    assert_eq!(shape::<(Login, u8)>(), format!("({login},u8)"));
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
    let shape = shape::<Wrapper<Checked>>();
    let stats = "struct{count:u64,mean:f64,tags:seq<str>,last:option<f64>}";
    assert_eq!(shape, format!("struct{{inner:{stats}+opaque(Checked)}}"));
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
    assert_eq!(shape::<Custom>(), "struct{a:str+opaque(with),b:u16}");
}

#[test]
fn what_postcard_cannot_read_does_not_panic() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
    }
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    enum Tagged {
        A { x: u8 },
    }
    #[derive(Deserialize)]
    struct Flat {
        x: u8,
        #[serde(flatten)]
        rest: Wrapper<u8>,
    }
    assert_eq!(shape::<Untagged>(), "any+opaque(Untagged)");
    assert_eq!(shape::<Tagged>(), "any+opaque(Tagged)");
    assert!(shape::<Flat>().ends_with("+opaque(Flat)"), "{}", shape::<Flat>());
}
