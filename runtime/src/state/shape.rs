//! What a state's type looks like to serde, so that a restore into another type is refused with both named.
//!
//! State is stored as postcard, which does not describe itself: bytes of one type read as another give garbage, often
//! without an error. So a snapshot keeps the *shape* of each state's type, such as `struct{count:u64,last:option<f64>}`,
//! and a restore compares it. Names of fields and variants and their order are part of the shape, since a renamed or
//! moved field is most likely another quantity; names of types are not, and newtypes are transparent.
//!
//! A type tells its shape only by what it asks of a deserializer. [`state_type`] runs `T::deserialize` over a [`Probe`]
//! that notes each request in a tree of [`Node`]s and answers with a dummy value. One pass does not see everything: an
//! enum is given one variant at a time. Passes are repeated over the same tree until one of them finds nothing new.
//!
//! - A type that contains itself ends as `rec(n)`: the type `n` levels further out. To get a value for such a place the
//!   walk goes on *lean* (no element, no Some, the first variant that ends) in a part of the tree that is not shown.
//! - A type that refuses a dummy (a date, a NonZeroU32) is marked `opaque(its name)` behind what it asked for: its bytes
//!   hold to rules that the shape does not know. It gets some other dummies; if it likes none, it is *dead*, and what
//!   contains it does without: None, an empty sequence, a struct with the field missing, another variant. What is left
//!   unseen behind a dead part of a tuple is covered by the name of what contains it.
//! - A type that asks what the bytes are (`deserialize_any`) is `any`.
//!
//! Names of types come from the compiler. They do not change under one toolchain; another one may write the name of an
//! opaque type differently, and the restore is then refused.
//!
//! Not here: whether postcard can store the type at all, and the comparison of the shapes at a restore.

use std::any::type_name;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use tidegate_protocol::manifest::StateType;

/// Dummies that a type is offered before it counts as dead.
const DUMMIES: usize = 6;
/// The n-th dummy of a string: numbers and dates are what strings are most often parsed as.
const DUMMY_STRINGS: [&str; DUMMIES] =
    ["", "1", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00", "2000-01-01", "00:00:00"];
/// The length of the n-th dummy of a byte string: ids and hashes have a fixed one.
const DUMMY_LENGTHS: [usize; DUMMIES] = [0, 16, 32, 4, 8, 20];
/// Composite nodes of a tree; beyond it (types that contain each other in very many ways) types are opaque.
const NODES_MAX: usize = 2_000;
/// A longer tuple of equal parts is written as an array.
const TUPLE_WRITTEN_OUT: usize = 4;

/// The name and the shape of a type. Runs the type's own `Deserialize`, many times over: call it once a state.
pub(crate) fn state_type<T: DeserializeOwned>() -> StateType {
    StateType { name: readable(type_name::<T>()), shape: trace::<T>().text() }
}

fn trace<T: DeserializeOwned>() -> Node {
    let (mut root, mut run) = (Node::default(), Run::default());
    loop {
        let before = run.news;
        // The value is of no use, and a refusal is in the tree already.
        drop(root.attempt(&mut run, type_name::<T>(), |probe| T::deserialize(probe)));
        if run.news == before {
            return root;
        }
    }
}

/// A type's name without the paths of modules.
fn readable(name: &str) -> String {
    // The type that serde's derive makes for `#[serde(with)]` has a name of no use to anyone.
    if name.contains("__DeserializeWith") {
        return "with".to_owned();
    }
    let mut out = String::new();
    let mut word = 0;
    for c in name.chars() {
        match c {
            ':' => out.truncate(word),
            c if c.is_alphanumeric() || c == '_' => out.push(c),
            c => {
                out.push(c);
                word = out.len();
            }
        }
    }
    out
}

/// What a place in the type asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Leaf(&'static str),
    Option,
    Seq,
    Map,
    Tuple(usize),
    Struct(&'static [&'static str]),
    Enum(&'static [&'static str]),
    /// The type that many levels further out.
    Rec(usize),
    TooLarge,
}

/// A place in the type, and how far it is known.
#[derive(Default)]
struct Node {
    /// None until a pass comes here.
    kind: Option<Kind>,
    /// Fields, elements, variants (each a tuple or a struct); below `Rec` and `TooLarge`: the part that is not shown.
    parts: Vec<Node>,
    /// The first type that refused a dummy here.
    refused_by: Option<&'static str>,
    /// The dummies that were refused.
    refusals: usize,
    /// True if there is nothing left to find out here.
    done: bool,
    /// True if no value can be had here. Implies `done`.
    dead: bool,
}

/// What the passes share.
#[derive(Default)]
struct Run {
    /// The composite types that the walk is in, the outermost first.
    stack: Vec<Frame>,
    /// Where the stack's lean part begins; None if what the walk meets is to be noted.
    lean_from: Option<usize>,
    /// The dummy to offer.
    dummy: usize,
    nodes: usize,
    /// Grows with everything that is found out.
    news: usize,
}

struct Frame {
    /// The name of the visitor's type: it holds the generic arguments too, so that a `Pair<Pair<u8>>` does not count as
    /// recursive.
    visitor: &'static str,
    /// None for a newtype, which is no level of the shape.
    kind: Option<Kind>,
}

impl Run {
    fn meets_in_lean_part(&self, frame: &Frame) -> bool {
        self.lean_from.is_some_and(|from| self.stack[from..].iter().any(|f| f.visitor == frame.visitor))
    }

    /// How many levels further out the same type is being walked already. A sequence, a map or an option may come once
    /// more, so that a recursion is cut at the struct and not at the sequence around it.
    fn levels_to(&self, frame: &Frame) -> Option<usize> {
        let again = matches!(frame.kind, Some(Kind::Option | Kind::Seq | Kind::Map));
        let mut found = (0..self.stack.len()).rev().filter(|&i| self.stack[i].visitor == frame.visitor);
        let at = found.nth(usize::from(again))?;
        Some(self.stack[at..].iter().filter(|f| f.kind.is_some()).count())
    }
}

impl Node {
    fn part(&mut self, index: usize) -> &mut Node {
        if self.parts.len() <= index {
            self.parts.resize_with(index + 1, Node::default);
        }
        &mut self.parts[index]
    }

    /// Notes what the place asks for. A place that asks for something else than in an earlier pass is refused.
    fn open(&mut self, run: &mut Run, kind: Kind) -> Result<(), Refused> {
        if self.kind.is_none() {
            self.kind = Some(kind);
            run.news += 1;
            run.nodes += usize::from(run.lean_from.is_none() && !matches!(kind, Kind::Leaf(_)));
            if let Kind::Enum(names) = kind {
                self.parts.resize_with(names.len(), Node::default);
            }
        }
        if self.kind == Some(kind) { Ok(()) } else { Err(Refused) }
    }

    fn fill<'de, S: DeserializeSeed<'de>>(&mut self, run: &mut Run, seed: S) -> Result<S::Value, Refused> {
        self.attempt(run, type_name::<S::Value>(), |probe| seed.deserialize(probe))
    }

    /// Tries to get a value of this place, and concludes from the outcome.
    fn attempt<R>(
        &mut self,
        run: &mut Run,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        if self.dead {
            return Err(Refused);
        }
        let (news, dummy) = (run.news, run.dummy);
        run.dummy = dummy.max(self.refusals);
        let result = go(Probe { node: self, run });
        run.dummy = dummy;
        if result.is_ok() {
            self.succeeded(run);
        } else if run.news == news {
            // If there was news below, the next pass may fare better.
            self.failed(run, type_name);
        }
        result
    }

    fn succeeded(&mut self, run: &mut Run) {
        let lean = matches!(self.kind, Some(Kind::Rec(_) | Kind::TooLarge));
        if !self.done && (lean || self.parts.iter().all(|part| part.done)) {
            self.done = true;
            run.news += 1;
        }
    }

    fn failed(&mut self, run: &mut Run, type_name: &'static str) {
        run.news += 1;
        let starved = self.starved();
        if !(starved && self.seen()) {
            self.refused_by.get_or_insert(type_name);
        }
        if let Some(variant) = self.unknown_variant() {
            return self.parts[variant].die(run);
        }
        self.refusals += 1;
        if starved || self.refusals == DUMMIES {
            self.die(run);
        }
    }

    fn die(&mut self, run: &mut Run) {
        (self.dead, self.done) = (true, true);
        run.news += 1;
    }

    /// True if there is no value here because there is none of a part.
    fn starved(&self) -> bool {
        match self.kind {
            Some(Kind::Enum(_)) => self.parts.iter().all(|part| part.dead),
            Some(Kind::Struct(_) | Kind::Tuple(_) | Kind::Rec(_) | Kind::TooLarge) => {
                self.parts.iter().any(|part| part.dead)
            }
            _ => false,
        }
    }

    /// True if every part is known.
    fn seen(&self) -> bool {
        let count = match self.kind {
            Some(Kind::Struct(names) | Kind::Enum(names)) => names.len(),
            Some(Kind::Tuple(len)) => len,
            _ => self.parts.len(),
        };
        self.parts.len() == count && self.parts.iter().all(|part| part.done)
    }

    /// How the walk ends at this place, if it does.
    fn end(&self, run: &Run, frame: &Frame) -> Option<Kind> {
        let full = run.nodes >= NODES_MAX && self.kind.is_none();
        let too_large = full || self.kind == Some(Kind::TooLarge);
        let end = run.levels_to(frame).map(Kind::Rec).or(too_large.then_some(Kind::TooLarge));
        end.filter(|_| run.lean_from.is_none())
    }

    /// Ends the walk; the value comes from a part that is not shown.
    fn lean<R>(
        &mut self,
        run: &mut Run,
        end: Kind,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.open(run, end)?;
        if end == Kind::TooLarge {
            self.refused_by = Some(type_name);
        }
        run.lean_from = Some(run.stack.len() - 1);
        let result = self.part(0).attempt(run, type_name, go);
        run.lean_from = None;
        result
    }

    fn unknown_variant(&self) -> Option<usize> {
        self.parts.iter().position(|part| !part.done).filter(|_| matches!(self.kind, Some(Kind::Enum(_))))
    }

    /// The variant to give out: one that is not known yet, or one that ends.
    fn choose(&self, run: &Run) -> Option<usize> {
        let alive: Vec<usize> = (0..self.parts.len()).filter(|&i| !self.parts[i].dead).collect();
        let unknown = self.unknown_variant().filter(|_| run.lean_from.is_none());
        unknown.or_else(|| alive.get(run.dummy % alive.len().max(1)).copied())
    }
}

// The text.
impl Node {
    fn text(&self) -> String {
        let shape = match self.kind {
            None | Some(Kind::TooLarge) => String::new(),
            Some(Kind::Leaf(name)) => name.to_owned(),
            Some(Kind::Option) => format!("option<{}>", self.texts().join(",")),
            Some(Kind::Seq) => format!("seq<{}>", self.texts().join(",")),
            Some(Kind::Map) => format!("map<{}>", self.texts().join(",")),
            Some(Kind::Tuple(len)) => self.tuple(len),
            Some(Kind::Struct(names)) => format!("struct{{{}}}", self.fields(names)),
            Some(Kind::Enum(names)) => format!("enum{{{}}}", self.variants(names)),
            Some(Kind::Rec(levels)) => format!("rec({levels})"),
        };
        match (shape.as_str(), self.refused_by.map(readable)) {
            ("", None) => "?".to_owned(),
            (_, None) => shape,
            ("", Some(name)) => format!("opaque({name})"),
            (_, Some(name)) => format!("{shape}+opaque({name})"),
        }
    }

    fn texts(&self) -> Vec<String> {
        self.parts.iter().map(Node::text).collect()
    }

    fn tuple(&self, len: usize) -> String {
        let mut texts = self.texts();
        if len > TUPLE_WRITTEN_OUT && texts.len() == len && texts.iter().all(|text| *text == texts[0]) {
            return format!("[{};{len}]", texts[0]);
        }
        texts.resize(len, "?".to_owned());
        format!("({})", texts.join(","))
    }

    /// The fields with their names. With `#[serde(alias)]` there are more names than fields, and nothing tells which name
    /// is whose: all of them come first.
    fn fields(&self, names: &[&str]) -> String {
        let mut texts = self.texts();
        if texts.len() < names.len() && !self.dead {
            return format!("{}:{}", names.join("|"), texts.join(","));
        }
        texts.resize(names.len(), "?".to_owned());
        let fields: Vec<_> = names.iter().zip(texts).map(|(name, text)| format!("{name}:{text}")).collect();
        fields.join(",")
    }

    /// The variants with their names; as for fields, with aliases all names come first.
    fn variants(&self, names: &[&str]) -> String {
        let aliased = self.parts.len() < names.len();
        let name = |index: usize| if aliased { "_" } else { names[index] };
        let variants: Vec<_> = self.parts.iter().enumerate().map(|(i, part)| part.variant(name(i))).collect();
        let all_names = if aliased { names.join("|") + ":" } else { String::new() };
        all_names + &variants.join(",")
    }

    fn variant(&self, name: &str) -> String {
        let text = self.text();
        match self.kind {
            Some(Kind::Tuple(0)) => format!("{name}{}", text.trim_start_matches("()")),
            Some(Kind::Struct(_)) => format!("{name}{}", text.trim_start_matches("struct")),
            Some(Kind::Tuple(_)) if text.starts_with('(') => format!("{name}{text}"),
            // A tuple written as an array, or a variant that was never seen.
            _ => format!("{name}({text})"),
        }
    }
}

/// A value could not be had. Why is in the tree.
#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a dummy value was refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// The deserializer of one place.
struct Probe<'a> {
    node: &'a mut Node,
    run: &'a mut Run,
}

impl<'a> Probe<'a> {
    /// Goes into a type with parts; `kind` is None for a newtype.
    fn enter<'de, V: Visitor<'de>>(
        self,
        kind: Option<Kind>,
        visitor: V,
        go: impl FnOnce(Probe<'_>, V) -> Result<V::Value, Refused>,
    ) -> Result<V::Value, Refused> {
        let Probe { node, run } = self;
        let frame = Frame { visitor: type_name::<V>(), kind };
        if run.meets_in_lean_part(&frame) {
            node.die(run);
            return Err(Refused);
        }
        let end = node.end(run, &frame);
        let go = |probe: Probe<'_>| {
            kind.map_or(Ok(()), |kind| probe.node.open(probe.run, kind))?;
            go(probe, visitor)
        };
        run.stack.push(frame);
        let result = match end {
            None => go(Probe { node, run: &mut *run }),
            Some(end) => node.lean(run, end, type_name::<V::Value>(), go),
        };
        run.stack.pop();
        result
    }

    fn parts(self, count: usize) -> Parts<'a> {
        Parts { node: self.node, run: self.run, next: 0, count }
    }

    /// Elements one after the other, as postcard gives a tuple's, a sequence's and a struct's.
    fn visit_parts<'de, V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(self.parts(count))
    }

    /// How many elements an option, a sequence or a map has here.
    fn elements(&self) -> usize {
        let dead = self.node.parts.iter().any(|part| part.dead);
        let hopeless = dead && self.node.parts.iter().all(|part| part.done);
        usize::from(!hopeless && self.run.lean_from.is_none() && self.node.refusals == 0)
    }

    /// Fields in their order, as postcard gives them; by their numbers if one is to be left out.
    fn visit_fields<'de, V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Refused> {
        let dead = self.node.parts.iter().any(|part| part.dead);
        let parts = self.parts(count);
        if dead { visitor.visit_map(Fields(parts)) } else { visitor.visit_seq(parts) }
    }
}

/// A deserializer's methods for what has no parts: name in the shape, the visitor's method, the n-th dummy.
macro_rules! leaves {
    ($($method:ident $name:literal $visit:ident |$n:ident| $dummy:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.node.open(self.run, Kind::Leaf($name))?;
            let $n = self.run.dummy;
            visitor.$visit($dummy)
        }
    )*};
}

/// The name of the type that an option's visitor has in its Some.
fn inside_option<'de, V: Visitor<'de>>() -> &'static str {
    let name = type_name::<V::Value>();
    name.strip_prefix("core::option::Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(name)
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Refused;

    leaves! {
        deserialize_bool "bool" visit_bool |n| n % 2 == 1;
        deserialize_i8 "i8" visit_i8 |n| n as i8;
        deserialize_i16 "i16" visit_i16 |n| n as i16;
        deserialize_i32 "i32" visit_i32 |n| n as i32;
        deserialize_i64 "i64" visit_i64 |n| n as i64;
        deserialize_i128 "i128" visit_i128 |n| n as i128;
        deserialize_u8 "u8" visit_u8 |n| n as u8;
        deserialize_u16 "u16" visit_u16 |n| n as u16;
        deserialize_u32 "u32" visit_u32 |n| n as u32;
        deserialize_u64 "u64" visit_u64 |n| n as u64;
        deserialize_u128 "u128" visit_u128 |n| n as u128;
        deserialize_f32 "f32" visit_f32 |n| n as f32;
        deserialize_f64 "f64" visit_f64 |n| n as f64;
        deserialize_char "char" visit_char |n| char::from(b'0' + n as u8);
        deserialize_str "str" visit_str |n| DUMMY_STRINGS[n];
        deserialize_string "str" visit_str |n| DUMMY_STRINGS[n];
        deserialize_bytes "bytes" visit_bytes |n| &[0; 32][..DUMMY_LENGTHS[n]];
        deserialize_byte_buf "bytes" visit_byte_buf |n| vec![0; DUMMY_LENGTHS[n]];
        deserialize_identifier "identifier" visit_u64 |n| n as u64;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.node.open(self.run, Kind::Leaf("any"))?;
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.node.open(self.run, Kind::Tuple(0))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(None, visitor, |probe, visitor| visitor.visit_newtype_struct(probe))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Option), visitor, |probe, visitor| match probe.elements() {
            0 => visitor.visit_none(),
            _ => {
                probe.node.part(0).attempt(probe.run, inside_option::<V>(), |inner| visitor.visit_some(inner))
            }
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Seq), visitor, |probe, visitor| {
            let count = probe.elements();
            probe.visit_parts(count, visitor)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Map), visitor, |probe, visitor| {
            let count = 2 * probe.elements();
            visitor.visit_map(Entry(probe.parts(count)))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Tuple(len)), visitor, |probe, visitor| probe.visit_parts(len, visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>, visitor: V| probe.visit_fields(fields.len(), visitor);
        self.enter(Some(Kind::Struct(fields)), visitor, go)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(Some(Kind::Enum(variants)), visitor, |probe, visitor| visitor.visit_enum(probe))
    }
}

/// The parts of a place, one after the other.
struct Parts<'a> {
    node: &'a mut Node,
    run: &'a mut Run,
    next: usize,
    count: usize,
}

impl Parts<'_> {
    fn fill_next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.next += 1;
        self.node.part(self.next - 1).fill(self.run, seed)
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.next == self.count { Ok(None) } else { self.fill_next(seed).map(Some) }
    }
}

/// The fields of a struct by their numbers, without the dead ones.
struct Fields<'a>(Parts<'a>);

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Parts { node, next, count, .. } = &mut self.0;
        while *next < *count && node.part(*next).dead {
            *next += 1;
        }
        if *next == *count { Ok(None) } else { seed.deserialize(number(*next)).map(Some) }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.0.fill_next(seed)
    }
}

/// The one entry of a map.
struct Entry<'a>(Parts<'a>);

impl<'de> de::MapAccess<'de> for Entry<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        de::SeqAccess::next_element_seed(&mut self.0, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.0.fill_next(seed)
    }

    /// As the other two, but looks at the value of a dead key as well.
    fn next_entry_seed<K: DeserializeSeed<'de>, V: DeserializeSeed<'de>>(
        &mut self,
        key: K,
        value: V,
    ) -> Result<Option<(K::Value, V::Value)>, Refused> {
        let key = self.next_key_seed(key);
        if key.is_err() && self.0.node.part(0).dead {
            drop(self.next_value_seed(value)?);
            return Err(Refused);
        }
        key?.map(|key| Ok((key, self.next_value_seed(value)?))).transpose()
    }
}

impl<'a, 'de> de::EnumAccess<'de> for Probe<'a> {
    type Error = Refused;
    type Variant = Variant<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Variant<'a>), Refused> {
        let Probe { node, run } = self;
        let index = node.choose(run).ok_or(Refused)?;
        let Ok(tag) = seed.deserialize(number(index)) else {
            // There are no more variants: some of the names are aliases.
            node.parts.truncate(index);
            run.news += 1;
            return Err(Refused);
        };
        Ok((tag, Variant(Probe { node: &mut node.parts[index], run })))
    }
}

fn number(index: usize) -> U32Deserializer<Refused> {
    (index as u32).into_deserializer()
}

/// The content of a variant.
struct Variant<'a>(Probe<'a>);

impl Variant<'_> {
    fn attempt<R>(
        self,
        kind: Kind,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let Probe { node, run } = self.0;
        node.attempt(run, type_name, |probe| {
            probe.node.open(probe.run, kind)?;
            go(probe)
        })
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.attempt(Kind::Tuple(0), "()", |_| Ok(()))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        let go = |probe: Probe<'_>| probe.node.part(0).fill(probe.run, seed);
        self.attempt(Kind::Tuple(1), type_name::<S::Value>(), go)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| probe.visit_parts(len, visitor);
        self.attempt(Kind::Tuple(len), type_name::<V::Value>(), go)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| probe.visit_fields(fields.len(), visitor);
        self.attempt(Kind::Struct(fields), type_name::<V::Value>(), go)
    }
}

#[cfg(test)]
mod tests {
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
}
