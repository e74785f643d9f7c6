//! How records are handled that a source or a parsing step cannot read.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_connector_api::{DeadLetter, Record, RecordId};
use tidegate_protocol::{Error, Result};

use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::Outlet;
use crate::metrics::Counter;
use crate::metrics::descriptors;
use crate::step::{Step, StepKind};

/// What happens to a record that a source or a parsing step cannot read, or whose event time is not plausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The job ends with a message that names the record.
    Fail,
    /// The record is counted and dropped.
    Skip,
    /// The record is counted and goes to the sink of the step's dead letters; see [`crate::Stream::dead_letters`].
    DeadLetter,
}

/// Where the errors of a parsing step go.
pub(crate) struct ErrorRoute {
    step: Arc<Step>,
    /// The number of the step's operator chain.
    chain: usize,
    /// The route of the source; it applies to a step for which the author has set neither a policy nor a sink.
    source: Option<Rc<ErrorRoute>>,
    /// What the author asked for; see [`ErrorRoute::policy`].
    pub(crate) asked: Cell<Option<OnError>>,
    pub(crate) letters: Outlet<DeadLetter>,
    pub(crate) has_letters: Cell<bool>,
    pub(crate) malformed: Counter,
}

impl ErrorRoute {
    /// The route of a step. With a `source`, records go where those of the source go, unless the author says otherwise.
    pub(crate) fn new(chain: &OperatorChain, step: &Arc<Step>, source: Option<Rc<Self>>) -> Self {
        Self {
            step: step.clone(),
            chain: chain.id,
            source,
            asked: Cell::new(None),
            letters: Outlet::new(),
            has_letters: Cell::new(false),
            malformed: chain.counter(step, descriptors::MALFORMED),
        }
    }

    /// True if it is the route of the source that this operator chain reads.
    pub(crate) fn is_of_source_of(&self, chain: &OperatorChain) -> bool {
        self.chain == chain.id && self.step.kind() == StepKind::Source
    }

    fn policy(&self) -> OnError {
        let unasked = if self.has_letters.get() { OnError::DeadLetter } else { OnError::Fail };
        self.asked.get().unwrap_or(unasked)
    }

    /// The source's route, if there is one and the author has set neither a policy nor a sink for this step.
    fn deferred_to(&self) -> Option<&ErrorRoute> {
        let is_unasked = self.asked.get().is_none() && !self.has_letters.get();
        self.source.as_deref().filter(|_| is_unasked)
    }

    /// Refuses dead letters without a sink, and a sink for dead letters that would receive none.
    pub(crate) fn check(&self) -> Result<()> {
        let name = self.step.name();
        match self.policy() {
            OnError::DeadLetter if !self.has_letters.get() => Err(Error::job(format!(
                "'{name}' is followed by .on_error(OnError::DeadLetter), but it has no sink for its dead letters: add \
                 .dead_letters(..), or drop such records with .on_error(OnError::Skip)"
            ))),
            policy @ (OnError::Skip | OnError::Fail) if self.has_letters.get() => Err(Error::job(format!(
                "'{name}' is followed by .dead_letters(..) and by .on_error(OnError::{policy:?}), with which no record \
                 goes there: leave one of the two out"
            ))),
            _ => Ok(()),
        }
    }

    /// Handles a record as the policy says.
    pub(crate) fn handle(&self, chain: &OperatorChain, letter: impl FnOnce() -> DeadLetter) -> Result<()> {
        self.malformed.add(1);
        let to = self.deferred_to().unwrap_or(self);
        match to.policy() {
            OnError::Skip => {}
            OnError::DeadLetter => {
                let letter = Record { timestamp: i64::MIN, id: RecordId::offset(0), value: letter() };
                to.letters.records(&mut vec![letter]);
            }
            OnError::Fail => {
                let letter = letter();
                return Err(chain.site.error(format_args!(
                    "{}; give the step .dead_letters(..) or .on_error(OnError::Skip) to go on after records like this",
                    letter.error
                )));
            }
        }
        Ok(())
    }
}
