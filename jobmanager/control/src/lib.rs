//! The control brain: when an epoch is triggered, completed, published or aborted, and when the job may exit.
//!
//! A pure state machine: [`Control::step`] takes the time and one [`Input`] and appends the [`Action`]s that follow;
//! [`Control::deadline`] returns the time by which it has to be called again. The driver runs one function per action and
//! holds no rule about jobs. A job in one process and a job on a cluster are driven by the same machine.
//!
//! One checkpoint, from left to right:
//!
//! ```text
//!         due           the last ack             the record is durable        everything is visible
//!  Idle ────────> Pending ────────────> Completing ────────────────> Publishing ────────────────> Idle
//!        Trigger     │      Propose         │           Publish                      Collect
//!                    └── declined           └── refused ──> Abort ──> Idle
//! ```
//!
//! Every ack that counts is accepted, with the part of the snapshot that came with it. The committed record `Completed` is
//! the one publication point: the last ack only proposes it.
//!
//! Reading order: [`Input`] and [`Action`] are the interface; `checkpoint` is the checkpoint in flight and `progress` the
//! outcome of those before it; `control` makes the decisions; [`invariants`] are what holds for every sequence of inputs.
//!
//! Not here: barriers, snapshots and staged output (the runtime's), writing records (the driver's), any clock, randomness
//! or I/O, and launching attempts: a [`Control`] manages one running attempt and ends with it. The jobs of a cluster, their
//! attempts and where these run are [`cluster`]'s.
//!
//! ```
//! use tidegate_control::{Action, Control, Input, LedgerEntry, CheckpointSettings, Time};
//! use tidegate_protocol::{Attempt, Epoch, Slot};
//!
//! let (attempt, epoch) = (Attempt(1), Epoch(1));
//! let mut control = Control::new(CheckpointSettings { interval_ms: Some(1_000), ..CheckpointSettings::default() }, attempt);
//! let mut step = |ms, input| {
//!     let mut actions = Vec::new();
//!     control.step(Time(ms), input, &mut actions);
//!     actions
//! };
//! let completed = LedgerEntry::Completed { attempt, epoch, finished: false };
//! assert_eq!(step(0, Input::Started { restored: None, older: vec![], last_epoch: Epoch(0) }), []);
//! assert_eq!(step(1_000, Input::Tick), [Action::Trigger { attempt, epoch, last: None }]);
//! assert_eq!(
//!     step(1_003, Input::Acked { attempt, epoch, slot: Slot(0) }),
//!     [Action::Accept { attempt, epoch, slot: Slot(0) }, Action::Propose(completed)]
//! );
//! assert_eq!(step(1_004, Input::Committed(completed)), [Action::Publish { attempt, epoch }]);
//! ```

mod action;
mod checkpoint;
pub mod cluster;
mod control;
mod input;
pub mod invariants;
mod progress;
pub mod rules;
mod settings;
mod time;
mod violation;

pub use action::{Action, Exit, Last};
pub use checkpoint::CheckpointPhase;
pub use control::Control;
pub use input::{Input, LedgerEntry};
pub use settings::CheckpointSettings;
pub use time::Time;
pub use violation::Violation;
