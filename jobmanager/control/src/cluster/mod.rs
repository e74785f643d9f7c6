//! The brain of a cluster: which jobs there are, where their processes run, when an attempt is started anew, and what
//! follows from everything that happens.
//!
//! A pure state machine like [`Control`](crate::Control), which it has one of for every running attempt:
//! [`Brain::step`] takes the time and one [`ClusterInput`] and appends the [`ClusterAction`]s that follow.
//!
//! - `record`, `ledger`: the durable facts. An effect that must not be forgotten follows only when its record is committed.
//! - `input`, `action`: the interface.
//! - `brain`: takes inputs, and passes them on to the jobs; `submission`: a job until it is in the ledger.
//! - `job`: a job from its record to its end; `attempt`: one attempt of it; `operations`: its savepoints and stops.
//! - `deadlines`: when which job has to be advanced.
//! - `taskmanagers`: who is connected, and how many slots are free; `placement`: where processes go.
//! - `restart`: when the next attempt follows a failed one, if it does.
//! - `view`: what people are shown.
//!
//! Life of an attempt, from left to right; each arrow is what is waited for:
//!
//! ```text
//!           manifest read,       record          all listen,            all ready
//!           delay over, slots    committed       first prepared
//!  Waiting ───────────────> Proposed ──────> Starting ──────> (begun) ──────> Running
//!     ^                        Launch           Begin                           │
//!     └──────────── an attempt has failed: Kill ────────────────────────────────┘
//! ```
//!
//! A brain that begins with a ledger that has a running attempt *adopts* it: it waits until the taskmanagers have said which
//! processes they run, and goes on with the attempt if all of its processes do.
//!
//! Not here: I/O of any kind, clocks and randomness; what a checkpoint is ([`Control`](crate::Control)).

mod action;
mod attempt;
mod auto_parallelism;
mod brain;
mod deadlines;
mod input;
mod job;
mod ledger;
mod operations;
mod placement;
mod record;
mod restart;
mod submission;
mod taskmanagers;
mod view;

pub use action::{Answer, ClusterAction, CopyAction, StoreAction};
pub use brain::{Brain, ClusterSettings};
pub use input::{ClusterInput, NotWritten, Now, Request, RequestId, RunJob, SnapshotRead};
pub use ledger::{JobFacts, Ledger};
pub use placement::{Offer, Placed, Rank, place};
pub use record::{Done, Ending, JobSettings, JobSpec, Record, Stop};
pub use submission::Fits;
pub use view::{CheckpointView, JobView, OperationView, ProcessView, TaskManagerView};
