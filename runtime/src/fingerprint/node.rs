//! A place in the type, and how far it is known.

use std::any::type_name;

use serde::de::DeserializeSeed;

use super::probe::{DUMMIES, Probe, Refused, refused};
use super::run::{Frame, Run};

/// Composite nodes of a tree; beyond it (types that contain each other in very many ways) types are opaque.
const NODES_MAX: usize = 2_000;

/// What a place in the type asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf(&'static str),
    Option,
    Seq,
    Map,
    Tuple(usize),
    Struct(&'static [&'static str]),
    Enum(&'static [&'static str]),
    /// The type that many levels further out.
    Record(usize),
    TooLarge,
}

/// A place in the type, and how far it is known.
#[derive(Clone, Default)]
pub(super) struct Node {
    /// None until a pass comes here.
    pub(super) kind: Option<Kind>,
    /// Fields, elements, variants (each a tuple or a struct); below `Record` and `TooLarge`: the part that is not shown.
    pub(super) parts: Vec<Node>,
    /// The first type that refused a dummy here.
    pub(super) refused_by: Option<&'static str>,
    /// The dummies that were refused.
    pub(super) refusals: usize,
    /// True if there is nothing left to find out here.
    pub(super) done: bool,
    /// True if no value of this place can be made. Implies `done`.
    pub(super) dead: bool,
    /// True if a walk that tests the type is to pass through this place; see [`super::trial`].
    pub(super) on_the_way: bool,
    /// True if a walk that tests the type is to find this place empty: None, or no element.
    pub(super) emptied: bool,
}

impl Node {
    pub(super) fn part(&mut self, index: usize) -> &mut Node {
        if self.parts.len() <= index {
            self.parts.resize_with(index + 1, Node::default);
        }
        &mut self.parts[index]
    }

    /// Notes what the place asks for. A place that asks for something else than in an earlier pass is refused.
    pub(super) fn open(&mut self, run: &mut Run, kind: Kind) -> Result<(), Refused> {
        if self.kind.is_none() {
            self.kind = Some(kind);
            run.news += 1;
            run.nodes += usize::from(run.lean_from.is_none() && !matches!(kind, Kind::Leaf(_)));
            if let Kind::Enum(names) = kind {
                self.parts.resize_with(names.len(), Node::default);
            }
        }
        if self.kind == Some(kind) { Ok(()) } else { refused() }
    }

    pub(super) fn fill<'de, S: DeserializeSeed<'de>>(
        &mut self,
        run: &mut Run,
        seed: S,
    ) -> Result<S::Value, Refused> {
        self.attempt(run, type_name::<S::Value>(), |probe| seed.deserialize(probe))
    }

    /// Tries to make a value of this place, and records what follows from the outcome.
    pub(super) fn attempt<R>(
        &mut self,
        run: &mut Run,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        if self.dead {
            return refused();
        }
        let (news, dummy) = (run.news, run.dummy);
        run.dummy = dummy.max(self.refusals);
        let result = go(Probe { node: self, run });
        run.dummy = dummy;
        if result.is_ok() {
            self.succeeded(run);
        } else if run.news == news {
            // If something new was found below, the next pass may succeed.
            self.failed(run, type_name);
        }
        result
    }

    fn succeeded(&mut self, run: &mut Run) {
        let lean = matches!(self.kind, Some(Kind::Record(_) | Kind::TooLarge));
        if !self.done && (lean || self.all_done()) {
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

    pub(super) fn die(&mut self, run: &mut Run) {
        (self.dead, self.done) = (true, true);
        run.news += 1;
    }

    pub(super) fn all_done(&self) -> bool {
        self.parts.iter().all(|part| part.done)
    }

    pub(super) fn has_dead_part(&self) -> bool {
        self.parts.iter().any(|part| part.dead)
    }

    /// True if no value can be made here because none can be made of a part.
    fn starved(&self) -> bool {
        match self.kind {
            Some(Kind::Enum(_)) => self.parts.iter().all(|part| part.dead),
            Some(Kind::Struct(_) | Kind::Tuple(_) | Kind::Record(_) | Kind::TooLarge) => self.has_dead_part(),
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
        self.parts.len() == count && self.all_done()
    }

    /// How the walk ends at this place, if it does.
    pub(super) fn end(&self, run: &Run, frame: &Frame) -> Option<Kind> {
        let full = run.nodes >= NODES_MAX && self.kind.is_none();
        let too_large = full || self.kind == Some(Kind::TooLarge);
        let end = run.levels_to(frame).map(Kind::Record).or(too_large.then_some(Kind::TooLarge));
        end.filter(|_| run.lean_from.is_none())
    }

    /// Ends the walk; the value comes from a part that is not shown.
    pub(super) fn lean<R>(
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

    /// The variant to offer: one that is not known yet, or one that ends.
    pub(super) fn choose(&self, run: &Run) -> Option<usize> {
        if let Some(steered) = self.parts.iter().position(|part| part.on_the_way && !part.dead) {
            return Some(steered);
        }
        let alive: Vec<usize> = (0..self.parts.len()).filter(|&i| !self.parts[i].dead).collect();
        let unknown = self.unknown_variant().filter(|_| run.lean_from.is_none());
        unknown.or_else(|| alive.get(run.dummy % alive.len().max(1)).copied())
    }
}
