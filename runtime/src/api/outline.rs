//! What a dataflow consists of, as a list that can be compared and read.
//!
//! Every worker describes the job for itself, and the workers' operators find each other by their place in the
//! description. A build function that describes something else at another call (because it goes through a `HashMap`, say)
//! would have one worker send records to another's wrong step. So the description keeps a list of its parts in their
//! order, the plan holds the list of the job that was checked, and a worker with another list is refused before it wires
//! anything.
//!
//! Not here: what a step's function does, and with which arguments. Two closures of one type look alike.

use std::fmt;
use std::sync::Arc;

use tidegate_protocol::Slot;
use tidegate_protocol::manifest::StateType;

use crate::step::Step;
use tidegate_protocol::{Error, Result};

/// One part of a dataflow.
pub(crate) enum Part {
    /// A step. It may still be given another name.
    Step(Arc<Step>),
    /// An operator of the engine, in which one or more steps run.
    OperatorChain { id: usize, name: String },
    /// What the part that follows reads: one of the outputs of a step, which are counted from 1.
    Reads { step: Arc<Step>, output: usize },
    /// Records on their way from one operator to another.
    Edge { from: usize, to: usize, route: String, record: String },
    /// What a step keeps.
    State { step: Arc<Step>, suffix: &'static str, state: StateType },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => {
                let (kind, name, uid) = (step.kind(), step.name(), step.uid());
                write!(f, "the {kind} '{name}'")?;
                if uid != name { write!(f, " with the uid '{uid}'") } else { Ok(()) }
            }
            Self::OperatorChain { id, name } => write!(f, "operator {id}, for '{name}'"),
            Self::Reads { step, output } => write!(f, "what reads output {output} of '{}'", step.name()),
            Self::Edge { from, to, route, record } => {
                write!(f, "records of type {record} from operator {from} to operator {to}, {route}")
            }
            Self::State { step, suffix, state } => {
                write!(f, "the state of '{}{suffix}', {} ({})", step.name(), state.name, state.fingerprint)
            }
        }
    }
}

/// The parts of a dataflow in the order in which they were described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline(Vec<String>);

impl Outline {
    /// The parts, as they are shown to people.
    pub(crate) fn parts(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn of(parts: &[Part]) -> Self {
        Self(parts.iter().map(ToString::to_string).collect())
    }

    /// Refuses a worker whose dataflow is not the one that was checked, which is `self`.
    pub(crate) fn check(&self, worker: Slot, described: &Self) -> Result<()> {
        let (plan, here) = (&self.0, &described.0);
        let longest = plan.len().max(here.len());
        let Some(first) = (0..longest).find(|&i| plan.get(i) != here.get(i)) else { return Ok(()) };
        let show = |part: Option<&String>| part.map_or("its end", String::as_str).to_owned();
        Err(Error::job(format!(
            "worker {worker} describes another dataflow than the one that was checked before the start. Part {} of it is \
             {} on worker {worker}, and was {}. The build function is called once for the check and once for every worker, \
             and must describe the same dataflow every time: do not loop over a HashMap or a HashSet in it (their order \
             differs from call to call; use a BTreeMap or a Vec), and let nothing in it depend on a counter, the time or \
             a random number",
            first + 1,
            show(here.get(first)),
            show(plan.get(first)),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::StepKind;

    #[test]
    fn the_first_difference_is_named() {
        let outline = |parts: &[&str]| Outline(parts.iter().map(ToString::to_string).collect());
        let plan = outline(&["the source 'in'", "the sink 'a'"]);
        let differs = |parts: &[&str]| plan.check(Slot(1), &outline(parts)).unwrap_err().to_string();
        assert!(plan.check(Slot(1), &plan).is_ok());
        let text = differs(&["the source 'in'", "the sink 'b'"]);
        assert!(text.contains("Part 2 of it is the sink 'b' on worker 1, and was the sink 'a'."), "{text}");
        let text = differs(&["the source 'in'"]);
        assert!(text.contains("Part 2 of it is its end on worker 1, and was the sink 'a'."), "{text}");
        let text = differs(&["the source 'in'", "the sink 'a'", "the sink 'b'"]);
        assert!(text.contains("Part 3 of it is the sink 'b' on worker 1, and was its end."), "{text}");
    }

    #[test]
    fn a_step_is_listed_with_the_names_that_it_has_in_the_end() {
        let step = Step::new(StepKind::Map, "map-1");
        let parts = [Part::Step(step.clone())];
        step.rename("double");
        step.set_uid("old");
        assert_eq!(Outline::of(&parts).0, ["the map 'double' with the uid 'old'"]);
    }
}
