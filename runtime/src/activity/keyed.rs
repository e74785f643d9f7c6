//! How many records keyed steps have had, and how those are distributed over the key groups of a worker. The worker writes it
//! at every barrier, and any thread may read it.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_protocol::Slot;
use tidegate_protocol::why::{HottestKeyGroup, KeyedLoad};

use crate::step::Step;

/// What a keyed step has had on one worker.
pub(crate) struct KeyedActivity {
    step: Arc<Step>,
    slot: Slot,
    key_groups: u32,
    had: Mutex<(u64, Option<HottestKeyGroup>)>,
}

impl KeyedActivity {
    pub(super) fn new(step: &Arc<Step>, slot: Slot, key_groups: u32) -> Self {
        Self { step: step.clone(), slot, key_groups, had: Mutex::default() }
    }

    /// A barrier has come: so many records since the attempt began, and the hottest key group of the last stretch.
    pub(crate) fn set(&self, records: u64, hottest: Option<HottestKeyGroup>) {
        *self.had.lock().unwrap_or_else(PoisonError::into_inner) = (records, hottest);
    }

    pub(super) fn load(&self) -> KeyedLoad {
        let (records, hottest) = *self.had.lock().unwrap_or_else(PoisonError::into_inner);
        let Self { step, slot, key_groups, .. } = self;
        KeyedLoad { operator: step.name(), worker: *slot, records, key_groups: *key_groups, hottest }
    }
}
