//! The steps, one file for each kind. None of them depends on timely: they receive and emit batches of records.

pub(crate) mod aggregate;
pub(crate) mod broadcast;
pub(crate) mod error_route;
pub(crate) mod flat_map_with_state;
pub(crate) mod key_group_load;
pub(crate) mod local_aggregate;
pub(crate) mod merge;
pub(crate) mod process;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod stateless;
mod sweep;
pub(crate) mod window;
