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
