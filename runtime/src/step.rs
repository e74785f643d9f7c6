//! The identity of a step of a job: its kind, its name, its uid.

use std::sync::{Arc, Mutex, PoisonError};

/// The name of a step of a job, which may be given after the step was made.
#[derive(Debug)]
pub(crate) struct Step {
    kind: &'static str,
    /// The step that this one is called after.
    after: Option<Arc<Step>>,
    names: Mutex<(String, Option<String>)>,
}

impl Step {
    pub(crate) fn new(kind: &'static str, name: &str) -> Arc<Self> {
        Arc::new(Self { kind, after: None, names: Mutex::new((name.to_owned(), None)) })
    }

    /// A step that is called after another one, whatever that comes to be called.
    pub(crate) fn after(kind: &'static str, other: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { kind, after: Some(other.clone()), names: Mutex::default() })
    }

    pub(crate) fn kind(&self) -> &'static str {
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

    /// What the step is called in a snapshot: its name, unless it was given something that stays when the name changes.
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
