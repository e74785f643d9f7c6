//! The context of a step: its operator chain, and its entry in the chain's activity, which other threads read.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use tidegate_connector_api::Record;
use tidegate_protocol::{Error, Result};

use super::error_site::AtKey;
use super::operator_chain::OperatorChain;
use crate::activity::Activity;
use crate::step::Step;

/// The context of a step.
pub(crate) struct StepContext {
    pub(crate) chain: Rc<OperatorChain>,
    activity: Arc<Activity>,
    step: usize,
}

impl StepContext {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>) -> Self {
        Self {
            chain: chain.clone(),
            activity: chain.site.activity().clone(),
            step: chain.site.step(step, false),
        }
    }

    /// A step whose records have the hash of its key.
    pub(crate) fn keyed(chain: &Rc<OperatorChain>, step: &Arc<Step>) -> Self {
        Self { step: chain.site.step(step, true), ..Self::new(chain, step) }
    }

    /// From here on this step's code runs, for records.
    #[inline]
    pub(crate) fn enter(&self) {
        self.activity.enter(self.step);
    }

    /// From here on this step's code runs, and not for a record.
    pub(crate) fn enter_apart(&self) {
        self.activity.enter_apart(self.step);
    }

    /// The code now runs for this record.
    #[inline]
    pub(crate) fn record<T>(&self, record: &Record<T>) {
        self.activity.record(record.id, record.timestamp);
    }

    /// The code now runs for this key.
    #[inline]
    pub(crate) fn key<'a, K: Serialize>(&'a self, key: &'a K) -> AtKey<'a, K> {
        self.chain.site.key(key)
    }

    /// The result of this step's code. An error ends the job, with a message that names the place.
    pub(crate) fn or_fail<R>(&self, result: Result<R>) -> Option<R> {
        result.map_err(|error| self.fail(error)).ok()
    }

    #[cold]
    fn fail(&self, error: Error) {
        // Records that the code emitted before the error may have entered another step.
        self.enter();
        self.chain.fail(error.context(self.chain.site.describe()));
    }
}
