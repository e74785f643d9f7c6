//! The structure of a type as serde sees it, so that values are read back as they were written: state from a snapshot, and
//! records on another worker.
//!
//! Both are encoded by postcard, whose format is not self-describing: bytes of one type that are read as another type give
//! garbage, often without an error. So a snapshot keeps the *fingerprint* of the type of each state, such as
//! `struct{count:u64,last:option<f64>}`, and a restore compares it; and a job whose types postcard cannot read back is
//! refused before it starts. Names of fields and variants and their order are part of the fingerprint, since a renamed or
//! moved field is most likely another quantity; names of types are not, and newtypes are transparent.
//!
//! The fingerprint of a type is found from the requests that the type makes to a deserializer. [`trace`] runs
//! `T::deserialize` over a [`probe::Probe`] that notes each request in a tree of [`Node`]s and answers with a dummy value.
//! One pass does not see everything: an enum is given one variant at a time. Passes are repeated over the same tree until
//! one of them finds nothing new.
//!
//! - A type that contains itself ends as `rec(n)`: the type `n` levels further out. To get a value for such a place the
//!   walk goes on *lean* (no element, no Some, the first variant that ends) in a part of the tree that is not shown.
//! - A type that refuses a dummy (a date, a NonZeroU32) is marked `opaque(its name)` after its request: its bytes follow
//!   rules that the fingerprint does not know. It is offered other dummies; if it refuses all of them, it is *dead*, and
//!   the type that contains it is read without it: None, an empty sequence, a struct with the field missing, another
//!   variant. Parts of a tuple after a dead part are not seen; the name of the containing type covers them.
//! - A type that asks for the type of the value (`deserialize_any`) is `any`. Postcard can write it but not read it, so it
//!   is refused.
//!
//! Then the type is tested: values that the tree can make of it are written and read back ([`trial`]). That finds fields
//! that `skip_serializing_if` leaves out, and implementations of `Serialize` and `Deserialize` that do not match.
//!
//! Names of types come from the compiler. They do not change under one toolchain; another one may write the name of an
//! opaque type differently, and the restore is then refused.
//!
//! Not here: the comparison of the fingerprints at a restore.
//!
//! - [`node`]: a place in the type, and how far it is known.
//! - [`run`]: what the passes share: where the walk is.
//! - [`probe`]: the deserializer of one place, and the dummies.
//! - [`access`]: how the parts of a place are given to a visitor.
//! - [`trial`]: values of a type, written and read back.
//! - [`whole`]: notices a field that a value leaves out.

mod access;
mod node;
mod probe;
mod run;
#[cfg(test)]
mod tests;
mod trial;
pub(crate) mod whole;

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::manifest::StateType;

use node::{Kind, Node};
use probe::ASKING;
use run::Run;
use tidegate_protocol::{Error, Result};
use trial::{flaw, flaw_of_first};

/// A longer tuple of equal parts is written as an array.
const TUPLE_WRITTEN_OUT: usize = 4;

/// The purpose for which a value of a type is written; it must be possible to read it back.
#[derive(Clone, Copy)]
enum Purpose {
    /// To be kept in a snapshot.
    Kept,
    /// To be sent to another worker.
    Sent,
}

/// The name and the fingerprint of a type that is to be kept; an error if it could not be read back. Runs the type's own
/// `Deserialize` and `Serialize` many times: call it once per state.
pub(crate) fn state_type<T: Serialize + DeserializeOwned>() -> Result<StateType> {
    described::<T>(Purpose::Kept)
}

/// As [`state_type`], and also tests the type with its initial value.
pub(crate) fn state_type_of<T: Serialize + DeserializeOwned>(first: &T) -> Result<StateType> {
    let found = state_type::<T>()?;
    if let Err(e) = postcard::to_stdvec(first) {
        let what = format!("a first value of type {} cannot be serialized", found.name);
        return Err(Error::job(what).caused_by(e));
    }
    match flaw_of_first(first) {
        Some(flaw) => Err(unreadable(&found, Purpose::Kept, &flaw.text())),
        None => Ok(found),
    }
}

/// The type of state by key, also tested with the initial state. Rows hold the key too: a key of another type would not be
/// found again.
pub(crate) fn state_type_by_key<K, S>(first: &S) -> Result<StateType>
where
    K: Serialize + DeserializeOwned,
    S: Serialize + DeserializeOwned,
{
    let (key, state) = (state_type::<K>()?, state_type_of(first)?);
    Ok(StateType {
        name: format!("{} by key {}", state.name, key.name),
        fingerprint: format!("{} by key {}", state.fingerprint, key.fingerprint),
    })
}

/// The name and the fingerprint of a type of records that are to be sent to other workers; an error if they could not be
/// read there. As costly as [`state_type`]: call it once per exchange.
pub(crate) fn record_type<T: Serialize + DeserializeOwned>() -> Result<StateType> {
    described::<T>(Purpose::Sent)
}

fn described<T: Serialize + DeserializeOwned>(purpose: Purpose) -> Result<StateType> {
    let root = trace::<T>();
    let found = StateType { name: readable(type_name::<T>()), fingerprint: root.text() };
    if root.asks_what_it_is() {
        return Err(unreadable(&found, purpose, ASKS_WHAT_IT_IS));
    }
    match flaw::<T>(&root) {
        Some(flaw) => Err(unreadable(&found, purpose, &flaw.text())),
        None => Ok(found),
    }
}

const ASKS_WHAT_IT_IS: &str = "where its fingerprint says 'any' or 'identifier' its 'Deserialize' \
    asks for the type of the value, which the bytes do not contain. That is the case for serde_json::Value and with \
    #[serde(untagged)], #[serde(tag)] and #[serde(flatten)]: use a type without them, or keep such a part as a string";

fn unreadable(found: &StateType, purpose: Purpose, why: &str) -> Error {
    let StateType { name, fingerprint } = found;
    let what = match purpose {
        Purpose::Kept => "can be written to a snapshot, but not be read back",
        Purpose::Sent => "can be sent to another worker, but not be read there",
    };
    Error::job(format!("a value of type {name} ({fingerprint}) {what}: {why}"))
}

fn trace<T: DeserializeOwned>() -> Node {
    let (mut root, mut run) = (Node::default(), Run::default());
    loop {
        let before = run.news;
        // The value is not needed, and a refusal is in the tree already.
        drop(root.attempt(&mut run, type_name::<T>(), |probe| T::deserialize(probe)));
        if run.news == before {
            return root;
        }
    }
}

/// A type's name without the paths of modules.
pub(crate) fn readable(name: &str) -> String {
    // The type that serde's derive makes for `#[serde(with)]` has a name that means nothing to a user.
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
    /// True if this type or a part of it asks for the type of the value.
    fn asks_what_it_is(&self) -> bool {
        matches!(self.kind, Some(Kind::Leaf(name)) if ASKING.contains(&name))
            || self.parts.iter().any(Node::asks_what_it_is)
    }

    fn text(&self) -> String {
        let fingerprint = match self.kind {
            None | Some(Kind::TooLarge) => String::new(),
            Some(Kind::Leaf(name)) => name.to_owned(),
            Some(Kind::Option) => format!("option<{}>", self.texts().join(",")),
            Some(Kind::Seq) => format!("seq<{}>", self.texts().join(",")),
            Some(Kind::Map) => format!("map<{}>", self.texts().join(",")),
            Some(Kind::Tuple(len)) => self.tuple(len),
            Some(Kind::Struct(names)) => format!("struct{{{}}}", self.fields(names)),
            Some(Kind::Enum(names)) => format!("enum{{{}}}", self.variants(names)),
            Some(Kind::Record(levels)) => format!("rec({levels})"),
        };
        match (fingerprint.as_str(), self.refused_by.map(readable)) {
            ("", None) => "?".to_owned(),
            (_, None) => fingerprint,
            ("", Some(name)) => format!("opaque({name})"),
            (_, Some(name)) => format!("{fingerprint}+opaque({name})"),
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

    /// The fields with their names. With `#[serde(alias)]` there are more names than fields, and it is not known which name
    /// belongs to which field: all names come first.
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
