//! Violations of the invariants.

use std::fmt;

use tidegate_protocol::Epoch;

use crate::action::Action;
use crate::checkpoint::CheckpointPhase;

/// An invariant that does not hold: a bug of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Not published <= completed <= triggered.
    Order {
        /// The highest epoch published.
        published: Option<Epoch>,
        /// The highest epoch completed.
        completed: Option<Epoch>,
        /// The highest epoch triggered.
        triggered: Epoch,
    },
    /// The checkpoint in flight is in a phase that the rest of the state contradicts.
    Phase {
        /// The epoch in flight.
        epoch: Epoch,
        /// The phase that it cannot be in.
        phase: CheckpointPhase,
    },
    /// Nothing is in flight, and yet a completed epoch is not published.
    Unpublished {
        /// The highest epoch completed.
        completed: Option<Epoch>,
        /// The highest epoch published.
        published: Option<Epoch>,
    },
    /// The list of snapshots is out of order, or longer than it may be.
    Snapshots(Vec<Epoch>),
    /// The attempt has exited with a checkpoint in flight.
    ExitInFlight,
    /// Something is due, and not done.
    Late,
    /// The highest epoch triggered, completed or published went back.
    WentBack,
    /// An aborted epoch is in flight, complete, or was never triggered.
    Aborted(Vec<Epoch>),
    /// The acknowledgements that count and the parts that were accepted are not the same.
    Unaccepted(Epoch),
    /// An action that the input does not justify.
    Unjustified(Action),
    /// An action after the exit.
    AfterExit(Action),
    /// An action of another attempt.
    OtherAttempt(Action),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |epoch: &Option<Epoch>| epoch.map_or_else(|| "none".to_owned(), |e| e.to_string());
        match self {
            Self::Order { published, completed, triggered } => {
                let (published, completed) = (number(published), number(completed));
                write!(
                    f,
                    "published {published} <= completed {completed} <= triggered {triggered} does not hold"
                )
            }
            Self::Phase { epoch, phase } => write!(f, "epoch {epoch} cannot be {phase}"),
            Self::Unpublished { completed, published } => {
                let (completed, published) = (number(completed), number(published));
                write!(f, "idle, completed {completed}, and published only {published}")
            }
            Self::Snapshots(epochs) => write!(f, "the snapshots {epochs:?} are out of order or too many"),
            Self::ExitInFlight => f.write_str("exited with a checkpoint in flight"),
            Self::Late => f.write_str("something is due and not done"),
            Self::WentBack => f.write_str("an epoch triggered, completed or published went back"),
            Self::Aborted(epochs) => write!(f, "the epochs {epochs:?} cannot have been aborted"),
            Self::Unaccepted(epoch) => {
                write!(f, "the acknowledgements that count for epoch {epoch} are not the accepted ones")
            }
            Self::Unjustified(action) => write!(f, "the input does not justify the action: {action}"),
            Self::AfterExit(action) => write!(f, "after the exit: {action}"),
            Self::OtherAttempt(action) => write!(f, "the action is of another attempt: {action}"),
        }
    }
}

impl std::error::Error for Violation {}
