//! Where the state stores of a running attempt are, `local/<attempt>/<slot>` in the checkpoint directory, and the staged
//! files of the running epoch, `local/<attempt>/staged`: on one file system with the snapshots, so that files are linked
//! between the two. They are of no use after the attempt.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_protocol::{Attempt, ErrorContext, Result, Slot};

/// The directory of all running stores.
#[derive(Clone, Debug)]
pub(crate) struct WorkingDirectory(PathBuf);

impl WorkingDirectory {
    /// The one in a checkpoint directory.
    pub(crate) fn within(root: &Path) -> Self {
        Self(root.join("local"))
    }

    /// The one with this path.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Removes the running stores of earlier attempts.
    pub(crate) fn clean(&self) -> Result<()> {
        if self.0.exists() {
            fs::remove_dir_all(&self.0).context(|| format!("remove {}", self.0.display()))?;
        }
        fs::create_dir_all(&self.0).context(|| format!("make {}", self.0.display()))
    }

    /// Where the workers write the staged files of the running epoch.
    pub(crate) fn staged(&self, attempt: Attempt) -> PathBuf {
        self.0.join(attempt.to_string()).join("staged")
    }

    /// Where a worker's running store is.
    pub(crate) fn store(&self, attempt: Attempt, slot: Slot) -> PathBuf {
        self.0.join(attempt.to_string()).join(slot.to_string())
    }
}
