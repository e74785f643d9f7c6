//! Tests whether values of a type are read back as they were written.
//!
//! The tree of a type makes values of it. Values are made again, in ways that cover what depends on a value: with every
//! option, sequence and map empty in turn, and with every variant of every enum, each with zeros, with ones and with
//! nothing in any option, sequence or map. Each value is written and read back.
//!
//! Not noticed are a field that is left out only for a value that no dummy has, and anything in a part of which no value
//! could be made. When such a value is sent to another process or written to the state store, it is noticed by
//! [`super::whole`].

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::node::{Kind, Node};
use super::run::Run;
use super::whole::{NotWhole, left_out};

/// The largest number of values that a type is tested with; types in practice have fewer places than that.
const WAYS_MAX: usize = 256;

/// What is wrong with a type.
pub(super) enum Flaw {
    /// A value leaves out a field.
    LeftOut(NotWhole),
    /// A sequence or a map does not say beforehand how long it is.
    NoLength,
    /// A value cannot be read back, or not to its end.
    NotReadBack,
    /// A value is read back as another one.
    ReadAsAnother,
}

impl Flaw {
    /// What is wrong and what to do about it, as the end of a sentence.
    pub(super) fn text(&self) -> String {
        match self {
            Self::LeftOut(what) => format!(
                "{what} in some values, and the bytes do not say that it is missing: remove that attribute"
            ),
            Self::NoLength => "a sequence or a map in it does not tell its length before it is written: give serialize_seq \
                               or serialize_map the length, or collect into a Vec first"
                .to_owned(),
            Self::NotReadBack => "a value of it was written and is not read back as a whole: its 'serialize' and its \
                                  'deserialize' do not fit each other. Look for #[serde(skip_serializing)], for \
                                  #[serde(with)] or (serialize_with), and for what was written by hand"
                .to_owned(),
            Self::ReadAsAnother => "a value of it was written and is read back as another one: its 'serialize' and its \
                                    'deserialize' do not fit each other. Look for an enum with #[serde(skip)] before \
                                    other variants, for #[serde(with)] and for what was written by hand"
                .to_owned(),
        }
    }
}

/// What is wrong with a type, as far as values made by its tree can tell.
pub(super) fn flaw<T: Serialize + DeserializeOwned>(root: &Node) -> Option<Flaw> {
    ways(root).iter().find_map(|way| {
        let (mut tree, mut run) = (root.clone(), Run::default());
        (run.dummy, run.bare) = (way.dummy, way.bare);
        tree.steer(&way.path, way.emptied);
        let value = tree.attempt(&mut run, type_name::<T>(), |probe| T::deserialize(probe));
        value.ok().and_then(|value| flaw_of(&value, |again, bytes| again == bytes))
    })
}

/// What is wrong with a type, as far as its initial value shows. The value may hold a `HashMap`, which comes back in
/// another order.
pub(super) fn flaw_of_first<T: Serialize + DeserializeOwned>(value: &T) -> Option<Flaw> {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    flaw_of(value, |again, bytes| sorted(again) == sorted(bytes))
}

/// What is wrong with a type, as far as this value can tell; `is_same` compares encodings.
fn flaw_of<T: Serialize + DeserializeOwned>(
    value: &T,
    is_same: impl Fn(&[u8], &[u8]) -> bool,
) -> Option<Flaw> {
    if let Some(what) = left_out(value) {
        return Some(Flaw::LeftOut(what));
    }
    let bytes = match postcard::to_stdvec(value) {
        Ok(bytes) => bytes,
        Err(postcard::Error::SerializeSeqLengthUnknown) => return Some(Flaw::NoLength),
        // For example a variant that is never written: it is reported when such a value is to be written.
        Err(_) => return None,
    };
    match postcard::take_from_bytes::<T>(&bytes) {
        Ok((back, [])) if postcard::to_stdvec(&back).is_ok_and(|again| is_same(&again, &bytes)) => None,
        Ok((_, [])) => Some(Flaw::ReadAsAnother),
        _ => Some(Flaw::NotReadBack),
    }
}

/// A way to make a value.
#[derive(Clone, Default)]
struct Way {
    /// The dummy that every leaf is given first.
    dummy: usize,
    /// True if only the options, sequences and maps on the path hold an element.
    bare: bool,
    /// The place that the walk is to come through, and whether it is to be empty.
    path: Vec<usize>,
    emptied: bool,
}

fn ways(root: &Node) -> Vec<Way> {
    let mut ways =
        vec![Way::default(), Way { bare: true, ..Way::default() }, Way { dummy: 1, ..Way::default() }];
    root.add_ways(&mut Vec::new(), &mut ways);
    ways.truncate(WAYS_MAX);
    ways
}

impl Node {
    fn add_ways(&self, path: &mut Vec<usize>, ways: &mut Vec<Way>) {
        match self.kind {
            Some(Kind::Option | Kind::Seq | Kind::Map) => {
                ways.push(Way { path: path.clone(), emptied: true, ..Way::default() });
            }
            // Their parts stand for no place of the type.
            Some(Kind::Record(_) | Kind::TooLarge) => return,
            _ => {}
        }
        for (index, part) in self.parts.iter().enumerate() {
            path.push(index);
            if matches!(self.kind, Some(Kind::Enum(_))) {
                let through = Way { path: path.clone(), ..Way::default() };
                ways.extend([
                    through.clone(),
                    Way { bare: true, ..through.clone() },
                    Way { dummy: 1, ..through },
                ]);
            }
            part.add_ways(path, ways);
            path.pop();
        }
    }

    /// Makes the next walk pass through a place.
    fn steer(&mut self, path: &[usize], emptied: bool) {
        self.on_the_way = true;
        match path {
            [] => self.emptied = emptied,
            [index, rest @ ..] => self.part(*index).steer(rest, emptied),
        }
    }
}
