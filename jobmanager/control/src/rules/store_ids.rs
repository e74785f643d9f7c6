//! The numbers by which operators find their rows in a state store.

use std::collections::BTreeMap;

use tidegate_protocol::manifest::OperatorEntry;
use tidegate_protocol::{Manifest, Plan};

/// The prefix of every operator's keys in the store: operators of the snapshot keep theirs, new operators get the numbers
/// that follow.
pub fn store_ids(plan: &Plan, restored: Option<&Manifest>) -> BTreeMap<String, u16> {
    let old = |uid: &String| restored.and_then(|m| m.operators.get(uid)).map(|o| o.store_id);
    let mut next = restored.iter().flat_map(|m| m.operators.values()).map(|o| o.store_id + 1).max();
    let mut ids = BTreeMap::new();
    for (uid, _) in plan.operators.iter().filter(|(_, o)| o.state.is_some()) {
        let id = old(uid).unwrap_or_else(|| {
            let id = next.unwrap_or(1);
            next = Some(id + 1);
            id
        });
        ids.insert(uid.clone(), id);
    }
    ids
}

/// The operators as a manifest lists them.
pub fn with_store_ids(plan: &Plan, store_ids: &BTreeMap<String, u16>) -> BTreeMap<String, OperatorEntry> {
    let mut operators = plan.operators.clone();
    for (uid, operator) in &mut operators {
        operator.store_id = store_ids.get(uid).copied().unwrap_or(0);
    }
    operators
}
