//! What a job on a cluster is doing, in the words of Flink.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum JobState {
    /// It has not run yet.
    Created,
    /// Its workers run.
    Running,
    /// It was running, and is about to run again.
    Restarting,
    /// It is to stop; what it has read so far is being completed.
    Stopping,
    /// It has come to its end, or was stopped.
    Finished,
    /// It was ended by `cancel`.
    Canceled,
    /// It has failed for good.
    Failed,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Running,
        Self::Restarting,
        Self::Stopping,
        Self::Finished,
        Self::Canceled,
        Self::Failed,
    ];

    /// True if nothing follows.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Canceled | Self::Failed)
    }

    /// The state as it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Stopping => "STOPPING",
            Self::Finished => "FINISHED",
            Self::Canceled => "CANCELED",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_shown_as_it_is_in_json() {
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
