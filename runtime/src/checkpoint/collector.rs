//! Gathers what a worker's operator chains hand over at a barrier.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_connector_api::Staging;
use tidegate_failpoint::point;
use tidegate_protocol::manifest::OperatorSnapshot;
use tidegate_protocol::{Epoch, Result};

use super::snapshot_thread::{CollectedEpoch, SnapshotThread};
use crate::state::barriers::Barriers;
use crate::state::store::Rows;
use crate::step::Step;

/// Collects the parts that the chains of a worker hand over for the barrier that is under way.
pub(crate) struct Collector {
    barriers: std::rc::Rc<Barriers>,
    thread: SnapshotThread,
    parts: RefCell<SnapshotParts>,
}

/// What the operators of a worker hand over at a barrier.
#[derive(Default)]
pub(crate) struct SnapshotParts {
    /// Changes of the state store.
    pub(crate) rows: Rows,
    /// Everything else, by operator uid.
    pub(crate) operators: BTreeMap<String, OperatorSnapshot>,
    /// Output whose staging goes on in the background, with its sink.
    pub(crate) stagings: Vec<(Arc<Step>, Staging)>,
}

impl SnapshotParts {
    /// The part of one operator, made if there is none yet.
    pub(crate) fn operator(&mut self, uid: &str) -> &mut OperatorSnapshot {
        self.operators.entry(uid.to_owned()).or_default()
    }

    /// Keeps a value under a name in the operator's own part.
    pub(crate) fn keep(&mut self, uid: &str, name: &str, value: Value) {
        let extra = &mut self.operator(uid).extra;
        if !extra.is_object() {
            *extra = Value::Object(serde_json::Map::new());
        }
        extra[name] = value;
    }
}

impl Collector {
    pub(crate) fn new(barriers: std::rc::Rc<Barriers>, thread: SnapshotThread) -> Self {
        Self { barriers, thread, parts: RefCell::default() }
    }

    /// A chain has reached the barrier of an epoch, and hands over its part except for the rows that it copies later.
    pub(crate) fn arrive(
        &self,
        chain: usize,
        epoch: Epoch,
        fill: impl FnOnce(&mut SnapshotParts) -> Result<()>,
    ) -> Result<()> {
        self.barriers.arrive(chain, epoch)?;
        fill(&mut self.parts.borrow_mut())
    }

    /// A chain that has reached the barrier copies rows; `copy` returns true if none of its rows are left. After the last
    /// chain of the worker, all parts are sent to the snapshot thread.
    pub(crate) fn copy(&self, chain: usize, copy: impl FnOnce(&mut Rows) -> Result<bool>) -> Result<()> {
        if !copy(&mut self.parts.borrow_mut().rows)? {
            return Ok(());
        }
        let epoch = self.barriers.under_way();
        if self.barriers.copied(chain)
            && let Some(epoch) = epoch
        {
            let SnapshotParts { rows, operators, stagings } = self.parts.take();
            point("barrier.collected");
            self.thread.write(CollectedEpoch { epoch, rows, operators, stagings });
        }
        Ok(())
    }
}
