use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::*;

fn shape<T: DeserializeOwned>() -> String {
    state_type::<T>().shape
}

/// A type and the shape that it must have.
macro_rules! shapes {
    ($($type:ty => $shape:literal;)*) => { $(assert_eq!(shape::<$type>(), $shape);)* };
}

#[test]
fn names_have_no_module_paths() {
    assert_eq!(
        state_type::<HashMap<String, Vec<(i64, Option<f64>)>>>().name,
        "HashMap<String, Vec<(i64, Option<f64>)>>"
    );
    assert_eq!(state_type::<([u8; 4], Box<str>)>().name, "([u8; 4], Box<str>)");
    assert_eq!(state_type::<Stats>().name, "Stats");
}

#[test]
fn primitives_and_containers() {
    shapes! {
        bool => "bool"; i8 => "i8"; u16 => "u16"; i32 => "i32"; u64 => "u64"; i128 => "i128"; u128 => "u128";
        f32 => "f32"; f64 => "f64"; char => "char"; () => "()"; usize => "u64";
        String => "str"; Box<str> => "str"; Rc<u8> => "u8"; Arc<Vec<u8>> => "seq<u8>";
        Option<Option<i64>> => "option<option<i64>>";
        (u8, String) => "(u8,str)"; [u8; 3] => "(u8,u8,u8)"; [f64; 32] => "[f64;32]"; [u8; 0] => "()";
        HashSet<String> => "seq<str>"; BTreeSet<u8> => "seq<u8>"; BTreeMap<u8, ()> => "map<u8,()>";
        HashMap<String, Vec<(i64, f64)>> => "map<str,seq<(i64,f64)>>";
        std::time::Duration => "struct{secs:u64,nanos:u32}";
        Result<u8, String> => "enum{Ok(u8),Err(str)}";
        std::ops::Range<i64> => "struct{start:i64,end:i64}";
        serde_json::Value => "any"; Vec<serde_json::Value> => "seq<any>";
        IpAddr => "enum{V4((u8,u8,u8,u8)),V6([u8;16])}";
    }
}

#[derive(Deserialize, Serialize)]
struct Stats {
    count: u64,
    mean: f64,
    tags: Vec<String>,
    last: Option<f64>,
}

#[test]
fn the_names_of_fields_matter_and_those_of_structs_do_not() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Other {
        count: u64,
        mean: f64,
        tags: BTreeSet<Box<str>>,
        last: Option<f64>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Renamed {
        n: u64,
        mean: f64,
        tags: Vec<String>,
        last: Option<f64>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Reordered {
        mean: f64,
        count: u64,
        tags: Vec<String>,
        last: Option<f64>,
    }
    assert_eq!(shape::<Stats>(), "struct{count:u64,mean:f64,tags:seq<str>,last:option<f64>}");
    assert_eq!(shape::<Stats>(), shape::<Other>());
    assert_ne!(shape::<Stats>(), shape::<Renamed>());
    assert_ne!(shape::<Stats>(), shape::<Reordered>());
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Wrapper<T> {
    inner: T,
}

#[test]
fn newtypes_are_transparent_and_nested_generics_are_no_recursion() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Id(u64);
    #[derive(Deserialize)]
    struct Nothing;
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Pair(Id, Nothing);
    shapes! {
        Vec<Id> => "seq<u64>"; Nothing => "()"; Pair => "(u64,())";
        Wrapper<Wrapper<Wrapper<i64>>> => "struct{inner:struct{inner:struct{inner:i64}}}";
    }
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Event {
    Start,
    Amount(i64),
    Move(f64, f64),
    Named { by: String, colour: Colour },
    Flagged(Colour, Option<Colour>),
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Colour {
    Red,
    Other(u8, u8, u8),
    Named(String),
}

#[test]
fn enums_show_every_variant_wherever_they_are() {
    let colour = "enum{Red,Other(u8,u8,u8),Named(str)}";
    assert_eq!(shape::<Colour>(), colour);
    let event = format!(
        "enum{{Start,Amount(i64),Move(f64,f64),Named{{by:str,colour:{colour}}},\
         Flagged({colour},option<{colour}>)}}"
    );
    assert_eq!(shape::<Event>(), event);
    let map = shape::<HashMap<(u8, bool), Vec<(Event, Wrapper<Event>)>>>();
    assert_eq!(map, format!("map<(u8,bool),seq<({event},struct{{inner:{event}}})>>"));
}

#[test]
fn recursion_ends() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Node {
        next: Option<Box<Node>>,
        value: u8,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Tree {
        children: Vec<Tree>,
        named: BTreeMap<String, Tree>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct List(Vec<List>);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Expr {
        Add(Box<Expr>, Box<Expr>),
        Call { args: Vec<Expr>, block: Block, name: String },
        Neg(Box<Expr>),
        Literal(i64),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Block(Box<Expr>, u8);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Endless {
        next: Box<Endless>,
        value: u8,
    }
    shapes! {
        Node => "struct{next:option<rec(2)>,value:u8}";
        Option<Node> => "option<struct{next:option<rec(2)>,value:u8}>";
        Vec<Tree> => "seq<struct{children:seq<rec(2)>,named:map<str,rec(2)>}>";
        List => "seq<rec(1)>";
        Expr => "enum{Add(rec(1),rec(1)),Call{args:seq<rec(2)>,block:(rec(2),u8),name:str},Neg(rec(1)),Literal(i64)}";
        Endless => "struct{next:rec(1),value:u8}";
    }
}

#[test]
fn what_a_recursion_goes_back_to_is_part_of_the_shape() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        x: Option<Inner>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        x: Option<Box<Outer>>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Other {
        x: Option<OtherInner>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct OtherInner {
        x: Option<Box<OtherInner>>,
    }
    assert_eq!(shape::<Outer>(), "struct{x:option<struct{x:option<rec(4)>}>}");
    assert_eq!(shape::<Other>(), "struct{x:option<struct{x:option<rec(2)>}>}");
}

/// Takes only one string, and none that a dummy could be.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "open sesame" { Ok(Self) } else { Err(de::Error::custom("no")) }
    }
}

#[test]
fn types_that_refuse_dummies_are_marked_and_what_lies_behind_them_is_seen() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Account {
        id: NonZeroU32,
        secret: Picky,
        balance: Option<i64>,
        colour: Colour,
    }
    let colour = "enum{Red,Other(u8,u8,u8),Named(str)}";
    let account = format!(
        "struct{{id:u32+opaque(NonZero<u32>),secret:str+opaque(Picky),balance:option<i64>,colour:{colour}}}"
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
    #[allow(dead_code)]
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

mod as_text {
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.len() as u64)
    }
}

#[test]
fn attributes_of_fields() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Attributes {
        #[serde(default)]
        defaulted: u8,
        #[serde(skip)]
        skipped: u16,
        #[serde(with = "as_text")]
        text: u64,
        #[serde(rename = "new")]
        old: u32,
    }
    assert_eq!(shape::<Attributes>(), "struct{defaulted:u8,text:str,new:u32}");
}

#[test]
fn a_field_read_by_a_function_that_refuses_is_marked_without_a_name() {
    fn picky<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Picky::deserialize(deserializer).map(|_| 0)
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Custom {
        #[serde(deserialize_with = "picky")]
        a: u64,
        b: u16,
    }
    assert_eq!(shape::<Custom>(), "struct{a:str+opaque(with),b:u16}");
}

#[test]
fn the_same_shape_reads_the_same_bytes() {
    #[derive(Deserialize)]
    struct Other {
        count: u64,
        mean: f64,
        tags: BTreeSet<Box<str>>,
        last: Option<Wrapping<f64>>,
    }
    #[derive(Deserialize)]
    struct Wrapping<T>(T);
    assert_eq!(shape::<Stats>(), shape::<Other>());
    let stats = Stats { count: 3, mean: 0.5, tags: vec!["a".to_owned()], last: Some(2.5) };
    let other: Other = postcard::from_bytes(&postcard::to_stdvec(&stats).unwrap()).unwrap();
    assert_eq!((other.count, other.mean, other.tags.len(), other.last.unwrap().0), (3, 0.5, 1, 2.5));
}

#[test]
fn aliases_are_named_but_not_counted() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Aliased {
        #[serde(alias = "former")]
        current: u8,
        kind: AliasedKind,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum AliasedKind {
        #[serde(alias = "Z")]
        A(u8),
        B,
    }
    assert_eq!(shape::<Aliased>(), "struct{current|former|kind:u8,enum{A|Z|B:_(u8),_}}");
}

#[test]
fn what_postcard_cannot_read_does_not_panic() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        A(u8),
    }
    #[derive(Deserialize)]
    #[serde(tag = "t")]
    #[allow(dead_code)]
    enum Tagged {
        A { x: u8 },
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Flat {
        x: u8,
        #[serde(flatten)]
        rest: Wrapper<u8>,
    }
    assert_eq!(shape::<Untagged>(), "any+opaque(Untagged)");
    assert_eq!(shape::<Tagged>(), "any+opaque(Tagged)");
    assert!(shape::<Flat>().ends_with("+opaque(Flat)"), "{}", shape::<Flat>());
}

#[test]
fn types_that_contain_each_other_in_too_many_ways_are_cut() {
    macro_rules! tangle {
        ($($name:ident)*) => { tangle!(@ [$($name)*] $($name)*); };
        (@ $all:tt $($name:ident)*) => { $(tangle!(# $name $all);)* };
        (# $name:ident [$($field:ident)*]) => {
            #[derive(Deserialize)]
            #[allow(dead_code, non_snake_case)]
            struct $name { $($field: Vec<$field>),* }
        };
    }
    tangle! { A B C D E F G H I J }
    let first = shape::<A>();
    assert!(first.contains("opaque(") && first.len() < 1 << 20, "{}", first.len());
    assert_eq!(first, shape::<A>());
}
