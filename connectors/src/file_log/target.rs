//! The directory that a sink writes to, locked against other runs and cleaned up before an attempt starts.

use std::fs;
use std::path::PathBuf;

use tidegate_connector_api::SinkTarget;
use tidegate_protocol::{Epoch, Error, Result};

use super::names::{PublishedName, StagedName};
use super::storage;

/// An output directory, for as long as an attempt lasts.
pub(super) struct OutputDirectory {
    path: PathBuf,
    /// Without the lock, another run would remove what this one has staged.
    _lock: fs::File,
}

impl OutputDirectory {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let lock = path.join(".lock");
        let file = fs::File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(|e| storage::failed("open", &lock, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _lock: file }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::environment(format!(
                "the output directory {} is being written by another run; stop that one first, or give this one a \
                 directory of its own",
                path.display()
            ))),
            Err(fs::TryLockError::Error(e)) => Err(storage::failed("lock", &lock, e)),
        }
    }

    fn refuse_output_of_another_run(&self, names: &[String]) -> Result<()> {
        let Some(found) = names.iter().find(|name| PublishedName::parse(name).is_some()) else {
            return Ok(());
        };
        Err(Error::job(format!(
            "the output directory {} already holds output ({found}) of another run, and there is no snapshot to go on \
             from; use an empty directory, or the checkpoint directory that goes with the output",
            self.path.display()
        )))
    }
}

impl SinkTarget for OutputDirectory {
    fn recover(&mut self, restored: Option<Epoch>) -> Result<Vec<String>> {
        let names = storage::names(&self.path)?;
        if restored.is_none() {
            self.refuse_output_of_another_run(&names)?;
        }
        let mut taken_back = Vec::new();
        for name in names {
            let published = PublishedName::parse(&name);
            if published.is_some_and(|published| Some(published.epoch) > restored) {
                storage::remove(&self.path.join(&name))?;
                taken_back.push(name);
            } else if StagedName::parse(&name).is_some() {
                storage::remove(&self.path.join(&name))?;
            }
        }
        storage::sync_directory(&self.path)?;
        Ok(taken_back)
    }
}
