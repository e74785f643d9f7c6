//! What a state's type looks like to serde, so that a restore into another type is refused with both named.
//!
//! State is stored as postcard, which does not describe itself: bytes of one type read as another give garbage, often
//! without an error. So a snapshot keeps the *shape* of each state's type, such as `struct{count:u64,last:option<f64>}`,
//! and a restore compares it. Names of fields and variants and their order are part of the shape, since a renamed or
//! moved field is most likely another quantity; names of types are not, and newtypes are transparent.
//!
//! A type tells its shape only by what it asks of a deserializer. [`state_type`] runs `T::deserialize` over a
//! [`probe::Probe`] that notes each request in a tree of [`Node`]s and answers with a dummy value. One pass does not see
//! everything: an enum is given one variant at a time. Passes are repeated over the same tree until one of them finds
//! nothing new.
//!
//! - A type that contains itself ends as `rec(n)`: the type `n` levels further out. To get a value for such a place the
//!   walk goes on *lean* (no element, no Some, the first variant that ends) in a part of the tree that is not shown.
//! - A type that refuses a dummy (a date, a NonZeroU32) is marked `opaque(its name)` behind what it asked for: its bytes
//!   hold to rules that the shape does not know. It gets some other dummies; if it likes none, it is *dead*, and what
//!   contains it does without: None, an empty sequence, a struct with the field missing, another variant. What is left
//!   unseen behind a dead part of a tuple is covered by the name of what contains it.
//! - A type that asks what the bytes are (`deserialize_any`) is `any`. Postcard can write it and not read it, so that it is
//!   refused; and so is one whose first value is not read back, for want of parts that `skip_serializing_if` has left out.
//!
//! Names of types come from the compiler. They do not change under one toolchain; another one may write the name of an
//! opaque type differently, and the restore is then refused.
//!
//! Not here: the comparison of the shapes at a restore.
//!
//! - [`node`]: a place in the type, and how far it is known.
//! - [`run`]: what the passes share: where the walk is.
//! - [`probe`]: the deserializer of one place, and the dummies.
//! - [`access`]: how the parts of a place are given to a visitor.

mod access;
mod node;
mod probe;
mod run;
#[cfg(test)]
mod tests;

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::manifest::StateType;

use crate::error::{Error, Result};
use node::{Kind, Node};
use probe::ASKING;
use run::Run;

/// A longer tuple of equal parts is written as an array.
const TUPLE_WRITTEN_OUT: usize = 4;

/// The name and the shape of a type that is to be kept; an error if it could not be read back. Runs the type's own
/// `Deserialize`, many times over: call it once a state.
pub(crate) fn state_type<T: DeserializeOwned>() -> Result<StateType> {
    let root = trace::<T>();
    let found = StateType { name: readable(type_name::<T>()), shape: root.text() };
    if root.asks_what_it_is() {
        return Err(unreadable(
            &found,
            "where its shape says 'any' or 'identifier' it asks what the bytes are, and they do not tell. That is so for \
             serde_json::Value and with #[serde(untagged)], #[serde(tag)] and #[serde(flatten)]: keep a type without \
             them, or such a part as text",
        ));
    }
    Ok(found)
}

/// As [`state_type`], and tries it with the value that there is at first.
pub(crate) fn state_type_of<T: Serialize + DeserializeOwned>(first: &T) -> Result<StateType> {
    let found = state_type::<T>()?;
    let bytes = postcard::to_stdvec(first).map_err(|e| {
        Error::job(format!("a first value of type {} cannot be serialized", found.name)).caused_by(e)
    })?;
    match postcard::take_from_bytes::<T>(&bytes) {
        Ok((_, [])) => Ok(found),
        _ => Err(unreadable(
            &found,
            "its first value was written and is not read back as a whole. With #[serde(skip_serializing_if)] parts are \
             missing that are expected: leave that attribute out",
        )),
    }
}

/// The type of state by key, tried with the state that there is at first. Rows hold the key too: one of another type is
/// not found again.
pub(crate) fn state_type_by_key<K: DeserializeOwned, S: Serialize + DeserializeOwned>(
    first: &S,
) -> Result<StateType> {
    let (key, state) = (state_type::<K>()?, state_type_of(first)?);
    Ok(StateType {
        name: format!("{} by key {}", state.name, key.name),
        shape: format!("{} by key {}", state.shape, key.shape),
    })
}

fn unreadable(found: &StateType, why: &str) -> Error {
    let StateType { name, shape } = found;
    Error::job(format!(
        "a value of type {name} ({shape}) can be written to a snapshot, but not be read back: {why}"
    ))
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

impl Node {
    /// True if the type asks what the bytes are, here or in a part.
    fn asks_what_it_is(&self) -> bool {
        matches!(self.kind, Some(Kind::Leaf(name)) if ASKING.contains(&name))
            || self.parts.iter().any(Node::asks_what_it_is)
    }

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
