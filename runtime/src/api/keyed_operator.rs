//! An operator behind an exchange by key, while the job is described.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::manifest::StateType;
use tidegate_protocol::{Error, Result};

use crate::api::plain::{Last, Stream};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::Outlet;
use crate::keyed_process::KeyedProcess;
use crate::operators::process::ProcessStep;
use crate::operators::window::FIRED;
use crate::step::Step;
use crate::window::Windows;

/// The operator of a process function, with its output and its side output.
pub(super) type ProcessOperator<F> =
    (KeyedOperator<ProcessStep<F>>, Outlet<<F as KeyedProcess>::Out>, Outlet<<F as KeyedProcess>::Side>);

/// An operator that has its place in the graph.
pub(super) struct KeyedOperator<R> {
    pub(super) job: Rc<crate::api::job::JobInner>,
    pub(super) chain: Rc<OperatorChain>,
    pub(super) step: Arc<Step>,
    /// The source whose records come here without an event time, if there is one.
    pub(super) untimed: Option<Arc<Step>>,
    pub(super) operator: std::marker::PhantomData<R>,
}

impl<R> KeyedOperator<R> {
    pub(super) fn declare(&self, suffix: &'static str, state: Result<StateType>) {
        self.job.declare_state(&self.step, suffix, state);
    }

    /// State by window and key. The size and slide of windows, and when they are over, are part of its type: rows are
    /// stored by window, and nothing is kept of windows that are over.
    pub(super) fn declare_by_window(&self, state: Result<StateType>, windows: Windows, lateness_ms: i64) {
        let lateness = Duration::from_millis(lateness_ms.max(0) as u64);
        let windowed = |fingerprint: String| format!("{fingerprint} in {windows}, lateness {lateness:?}");
        let state = state.map(|state| StateType { fingerprint: windowed(state.fingerprint), ..state });
        if let (true, Ok(state)) = (lateness_ms > 0, &state) {
            self.declare(FIRED, Ok(state.clone()));
        }
        self.declare("", state);
    }

    /// A stream of records with the event time of those that they were made of.
    pub(super) fn stream<U: 'static>(&self, outlet: Outlet<U>) -> Stream<U> {
        self.stream_of(outlet, self.untimed.clone())
    }

    /// A stream of records that are given an event time here, as by a timer or a window.
    pub(super) fn timed_stream<U: 'static>(&self, outlet: Outlet<U>) -> Stream<U> {
        self.stream_of(outlet, None)
    }

    fn stream_of<U: 'static>(&self, outlet: Outlet<U>, untimed: Option<Arc<Step>>) -> Stream<U> {
        let last = Last { step: self.step.clone(), route: None, untimed };
        Stream::new(self.job.clone(), self.chain.clone(), outlet, last)
    }

    /// Refuses windows of event time for records without one.
    pub(super) fn check_is_timed(&self) {
        if let Some(source) = &self.untimed {
            let error = Error::job(format!(
                "it has windows of event time, and the records of the source '{}' come to it without an event time: add \
                 .event_time(..) between that source and .key_by(..), or use windows of processing time \
                 (of_processing_time instead of of)",
                source.name()
            ));
            self.job.refuse_step(&self.step, error);
        }
    }
}
