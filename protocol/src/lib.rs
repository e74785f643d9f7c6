//! The types that processes exchange: the numbers that all of them use, the manifest of a snapshot, the plan of a job.
//!
//! Reading order: [`ids`] defines one newtype for every number, each with the sentence that says what it is;
//! [`manifest`] is the file that makes a directory of loose files a snapshot; [`plan`] is what a job consists of, for the
//! program that runs it; [`link`] is what the driver of a job and its processes tell each other, [`process`] what a process and its taskmanager,
//! [`taskmanager`] what that one and the jobmanager, [`why`] what all of them pass on to users; [`error`] is the error type, which says who can fix the cause. Nothing here does I/O beyond
//! turning values into bytes and back, and nothing depends on the dataflow.

pub mod error;
pub mod ids;
pub mod job_state;
pub mod link;
pub mod manifest;
mod nesting;
pub mod plan;
pub mod process;
pub mod taskmanager;
pub mod why;

pub use error::{Error, ErrorContext, ErrorKind, Result};
pub use ids::{Attempt, Epoch, JobId, KeyGroup, KeyGroups, Slot, TaskManagerId};
pub use job_state::JobState;
pub use manifest::{FileRef, Manifest, ManifestError};
pub use plan::{Plan, PlanSettings, SourcePlan};
