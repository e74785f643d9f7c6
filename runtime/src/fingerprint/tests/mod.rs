// Most of the types are never made: only their fingerprints are looked at.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::*;

/// The fingerprint of `Colour`.
const COLOUR: &str = "enum{Red,Other(u8,u8,u8),Named(str)}";

fn fingerprint<T: DeserializeOwned>() -> String {
    trace::<T>().text()
}

/// A type and the fingerprint that it must have.
macro_rules! fingerprints {
    ($($type:ty => $fingerprint:literal;)*) => { $(assert_eq!(fingerprint::<$type>(), $fingerprint);)* };
}

mod refusals;
mod trials;

#[test]
fn names_have_no_module_paths() {
    assert_eq!(
        state_type::<HashMap<String, Vec<(i64, Option<f64>)>>>().unwrap().name,
        "HashMap<String, Vec<(i64, Option<f64>)>>"
    );
    assert_eq!(state_type::<([u8; 4], Box<str>)>().unwrap().name, "([u8; 4], Box<str>)");
    assert_eq!(state_type::<Stats>().unwrap().name, "Stats");
}

#[test]
fn primitives_and_containers() {
    fingerprints! {
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
    struct Other {
        count: u64,
        mean: f64,
        tags: BTreeSet<Box<str>>,
        last: Option<f64>,
    }
    #[derive(Deserialize)]
    struct Renamed {
        n: u64,
        mean: f64,
        tags: Vec<String>,
        last: Option<f64>,
    }
    #[derive(Deserialize)]
    struct Reordered {
        mean: f64,
        count: u64,
        tags: Vec<String>,
        last: Option<f64>,
    }
    assert_eq!(fingerprint::<Stats>(), "struct{count:u64,mean:f64,tags:seq<str>,last:option<f64>}");
    assert_eq!(fingerprint::<Stats>(), fingerprint::<Other>());
    assert_ne!(fingerprint::<Stats>(), fingerprint::<Renamed>());
    assert_ne!(fingerprint::<Stats>(), fingerprint::<Reordered>());
}

#[derive(Deserialize, Serialize)]
struct Wrapper<T> {
    inner: T,
}

#[test]
fn newtypes_are_transparent_and_nested_generics_are_no_recursion() {
    #[derive(Deserialize)]
    struct Id(u64);
    #[derive(Deserialize)]
    struct Nothing;
    #[derive(Deserialize)]
    struct Pair(Id, Nothing);
    fingerprints! {
        Vec<Id> => "seq<u64>"; Nothing => "()"; Pair => "(u64,())";
        Wrapper<Wrapper<Wrapper<i64>>> => "struct{inner:struct{inner:struct{inner:i64}}}";
    }
}

#[derive(Deserialize, Serialize)]
enum Event {
    Start,
    Amount(i64),
    Move(f64, f64),
    Named { by: String, colour: Colour },
    Flagged(Colour, Option<Colour>),
}

#[derive(Deserialize, Serialize)]
enum Colour {
    Red,
    Other(u8, u8, u8),
    Named(String),
}

#[test]
fn enums_show_every_variant_wherever_they_are() {
    assert_eq!(fingerprint::<Colour>(), COLOUR);
    let event = format!(
        "enum{{Start,Amount(i64),Move(f64,f64),Named{{by:str,colour:{COLOUR}}},\
         Flagged({COLOUR},option<{COLOUR}>)}}"
    );
    assert_eq!(fingerprint::<Event>(), event);
    let map = fingerprint::<HashMap<(u8, bool), Vec<(Event, Wrapper<Event>)>>>();
    assert_eq!(map, format!("map<(u8,bool),seq<({event},struct{{inner:{event}}})>>"));
}

#[test]
fn recursion_ends() {
    #[derive(Deserialize)]
    struct Node {
        next: Option<Box<Node>>,
        value: u8,
    }
    #[derive(Deserialize)]
    struct Tree {
        children: Vec<Tree>,
        named: BTreeMap<String, Tree>,
    }
    #[derive(Deserialize)]
    struct List(Vec<List>);
    #[derive(Deserialize)]
    enum Expr {
        Add(Box<Expr>, Box<Expr>),
        Call { args: Vec<Expr>, block: Block, name: String },
        Neg(Box<Expr>),
        Literal(i64),
    }
    #[derive(Deserialize)]
    struct Block(Box<Expr>, u8);
    #[derive(Deserialize)]
    struct Endless {
        next: Box<Endless>,
        value: u8,
    }
    fingerprints! {
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
    struct Outer {
        x: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct Inner {
        x: Option<Box<Outer>>,
    }
    #[derive(Deserialize)]
    struct Other {
        x: Option<OtherInner>,
    }
    #[derive(Deserialize)]
    struct OtherInner {
        x: Option<Box<OtherInner>>,
    }
    assert_eq!(fingerprint::<Outer>(), "struct{x:option<struct{x:option<rec(4)>}>}");
    assert_eq!(fingerprint::<Other>(), "struct{x:option<struct{x:option<rec(2)>}>}");
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
    assert_eq!(fingerprint::<Attributes>(), "struct{defaulted:u8,text:str,new:u32}");
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
    assert_eq!(fingerprint::<Stats>(), fingerprint::<Other>());
    let stats = Stats { count: 3, mean: 0.5, tags: vec!["a".to_owned()], last: Some(2.5) };
    let other: Other = postcard::from_bytes(&postcard::to_stdvec(&stats).unwrap()).unwrap();
    assert_eq!((other.count, other.mean, other.tags.len(), other.last.unwrap().0), (3, 0.5, 1, 2.5));
}

#[test]
fn aliases_are_named_but_not_counted() {
    #[derive(Deserialize)]
    struct Aliased {
        #[serde(alias = "former")]
        current: u8,
        kind: AliasedKind,
    }
    #[derive(Deserialize)]
    enum AliasedKind {
        #[serde(alias = "Z")]
        A(u8),
        B,
    }
    assert_eq!(fingerprint::<Aliased>(), "struct{current|former|kind:u8,enum{A|Z|B:_(u8),_}}");
}

#[test]
fn types_that_contain_each_other_in_too_many_ways_are_cut() {
    macro_rules! tangle {
        ($($name:ident)*) => { tangle!(@ [$($name)*] $($name)*); };
        (@ $all:tt $($name:ident)*) => { $(tangle!(# $name $all);)* };
        (# $name:ident [$($field:ident)*]) => {
            #[derive(Deserialize)]
            #[allow(non_snake_case)]
            struct $name { $($field: Vec<$field>),* }
        };
    }
    tangle! { A B C D E F G H I J }
    let first = fingerprint::<A>();
    assert!(first.contains("opaque(") && first.len() < 1 << 20, "{}", first.len());
    assert_eq!(first, fingerprint::<A>());
}
