//! The state that the passes share: the position of the walk, and whether it still finds anything new.

use super::node::Kind;

/// What the passes share.
#[derive(Default)]
pub(super) struct Run {
    /// The composite types that the walk is in, the outermost first.
    pub(super) stack: Vec<Frame>,
    /// Where the stack's lean part begins; None if what the walk meets is to be noted.
    pub(super) lean_from: Option<usize>,
    /// The dummy to offer.
    pub(super) dummy: usize,
    pub(super) nodes: usize,
    /// True if no option, sequence or map is to hold anything; see [`super::trial`].
    pub(super) bare: bool,
    /// The number of things that were found out so far.
    pub(super) news: usize,
}

pub(super) struct Frame {
    /// The name of the visitor's type: it holds the generic arguments too, so that a `Pair<Pair<u8>>` does not count as
    /// recursive.
    pub(super) visitor: &'static str,
    /// None for a newtype, which is no level of the fingerprint.
    pub(super) kind: Option<Kind>,
}

impl Run {
    pub(super) fn meets_in_lean_part(&self, frame: &Frame) -> bool {
        self.lean_from.is_some_and(|from| self.stack[from..].iter().any(|f| f.visitor == frame.visitor))
    }

    /// How many levels further out the same type is being walked already. A sequence, a map or an option may come once
    /// more, so that a recursion is cut at the struct and not at the sequence around it.
    pub(super) fn levels_to(&self, frame: &Frame) -> Option<usize> {
        let again = matches!(frame.kind, Some(Kind::Option | Kind::Seq | Kind::Map));
        let mut found = (0..self.stack.len()).rev().filter(|&i| self.stack[i].visitor == frame.visitor);
        let at = found.nth(usize::from(again))?;
        Some(self.stack[at..].iter().filter(|f| f.kind.is_some()).count())
    }
}
