//! Rules about starting a job: over its plan and the manifest of a snapshot, without the job's code.
//!
//! - `fits`: whether the job can be run, and go on from the snapshot; what has changed since.
//! - `assignment`: which worker reads which partitions.
//! - `store_ids`: the numbers by which operators find their state.
//!
//! They are pure functions, so that a job that runs by itself and a jobmanager that has only read the job's plan decide the
//! same. Which snapshot to restore from is decided by `tidegate-snapshots`, because it has to read files for that.

mod assignment;
mod fits;
mod store_ids;

pub use assignment::{Assigned, Assignment, restored_partitions};
pub use fits::{
    EVENT_TIME, OperatorFit, changes, check_fits, check_fits_but_for_gone, check_parallelism, check_places,
    check_unfinished, operators_fit,
};
pub use store_ids::{store_ids, with_store_ids};
