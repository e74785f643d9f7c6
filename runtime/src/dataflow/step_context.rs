//! What a step knows of where it is: its operator chain, and its place in what others see of that.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use tidegate_connector_api::Record;
use tidegate_protocol::{Error, Result};

use super::error_site::AtKey;
use super::operator_chain::OperatorChain;
use crate::activity::Activity;
use crate::step::Step;

/// What every step knows of where it is.
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

    /// From here on it is this step's code that runs, for records.
    #[inline]
    pub(crate) fn enter(&self) {
        self.activity.enter(self.step);
    }

    /// From here on it is this step's code that runs, and not for a record.
    pub(crate) fn enter_apart(&self) {
        self.activity.enter_apart(self.step);
    }

    /// It is this record that the code runs for.
    #[inline]
    pub(crate) fn record<T>(&self, record: &Record<T>) {
        self.activity.record(record.id, record.timestamp);
    }

    /// It is this key that the code runs for.
    #[inline]
    pub(crate) fn key<'a, K: Serialize>(&'a self, key: &'a K) -> AtKey<'a, K> {
        self.chain.site.key(key)
    }

    /// What came of this step's code; an error ends the job, with where it was.
    pub(crate) fn or_fail<R>(&self, result: Result<R>) -> Option<R> {
        result.map_err(|error| self.fail(error)).ok()
    }

    #[cold]
    fn fail(&self, error: Error) {
        // What it has emitted before may have entered another step.
        self.enter();
        self.chain.fail(error.context(self.chain.site.describe()));
    }
}
