//! The identity of a step of a job: its kind, its name, its uid.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The kind of a step. A snapshot holds its name, and a step of another kind cannot be restored from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    Source,
    Map,
    TryMap,
    Filter,
    FlatMap,
    FilterMap,
    Inspect,
    Split,
    EventTime,
    Union,
    Rebalance,
    Broadcast,
    Window,
    Aggregate,
    Process,
    Sink,
    DeadLetters,
    /// An operator chain, for metrics.
    Chain,
    /// The description of the job, for the watchdog.
    Build,
}

impl StepKind {
    /// The name, as snapshots and messages have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Map => "map",
            Self::TryMap => "try_map",
            Self::Filter => "filter",
            Self::FlatMap => "flat_map",
            Self::FilterMap => "filter_map",
            Self::Inspect => "inspect",
            Self::Split => "split",
            Self::EventTime => "event_time",
            Self::Union => "union",
            Self::Rebalance => "rebalance",
            Self::Broadcast => "broadcast",
            Self::Window => "window",
            Self::Aggregate => "aggregate",
            Self::Process => "process",
            Self::Sink => "sink",
            Self::DeadLetters => "dead_letters",
            Self::Chain => "chain",
            Self::Build => "build",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a step of a job, which may be given after the step was made.
#[derive(Debug)]
pub(crate) struct Step {
    kind: StepKind,
    /// The step that this one is named after.
    after: Option<Arc<Step>>,
    names: Mutex<(String, Option<String>)>,
}

impl Step {
    pub(crate) fn new(kind: StepKind, name: &str) -> Arc<Self> {
        Arc::new(Self { kind, after: None, names: Mutex::new((name.to_owned(), None)) })
    }

    /// A step that is named after another one, also if that one is renamed later.
    pub(crate) fn after(kind: StepKind, other: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { kind, after: Some(other.clone()), names: Mutex::default() })
    }

    pub(crate) fn kind(&self) -> StepKind {
        self.kind
    }

    pub(crate) fn name(&self) -> String {
        match &self.after {
            Some(other) => format!("{}.{}", other.name(), self.kind),
            None => self.names.lock().unwrap_or_else(PoisonError::into_inner).0.clone(),
        }
    }

    pub(crate) fn rename(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).0 = name.to_owned();
    }

    /// The identity of the step in a snapshot: its name, unless it was given a uid, which stays when the name changes.
    pub(crate) fn uid(&self) -> String {
        if let Some(other) = &self.after {
            return format!("{}.{}", other.uid(), self.kind);
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.1.clone().unwrap_or_else(|| names.0.clone())
    }

    pub(crate) fn set_uid(&self, uid: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(uid.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_about_steps_without_a_name_are_about_those_that_make_watermarks() {
        assert_eq!(StepKind::EventTime.name(), tidegate_control::rules::EVENT_TIME);
    }
}
