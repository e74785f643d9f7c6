//! Snapshots that cannot be completed: the disk refuses their manifests.
//!
//! A manifest is written beside its place and then renamed. Where a directory has the name of the file that is
//! written first, that is refused; the job must give the snapshot up, say so, and have everything in the next one.

use crate::damage;
use crate::failure::{Context, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Words of a job that has aborted a checkpoint, and of one for which it was the last.
pub const ABORTED: [&str; 2] = ["was aborted", "could not be written"];

/// Directories that are in the way; dropping this removes them.
pub struct Refused {
    dirs: Vec<PathBuf>,
    last: Option<u64>,
}

impl Refused {
    /// The next `epochs` snapshots under `checkpoints`.
    pub fn next(checkpoints: &Path, epochs: u64) -> Result<Refused> {
        let mut refused = Refused { dirs: Vec::new(), last: None };
        if epochs > 0 {
            fs::create_dir_all(checkpoints).context(format!("cannot create {}", checkpoints.display()))?;
            let newest = damage::newest_epoch(checkpoints);
            for epoch in newest + 1..=newest + epochs {
                refused.block(&checkpoints.join(format!(".manifest-{epoch:011}.json.part")))?;
                refused.last = Some(epoch);
            }
        }
        Ok(refused)
    }

    /// The last epoch whose snapshot is refused, if any is.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// A file that a kill has left has no business there any more.
    fn block(&mut self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(e).context(format!("cannot remove {}", path.display()))?
            }
            _ => {}
        }
        fs::create_dir(path).context(format!("cannot create {}", path.display()))?;
        self.dirs.push(path.to_path_buf());
        Ok(())
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.dirs.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    }
}
