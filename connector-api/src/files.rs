//! What connectors that keep files do to them in more than one place.

use std::fs::File;
use std::io;
use std::path::Path;

use tidegate_protocol::{Error, Result};

/// An error of the environment, about a path: `cannot {doing} {path}`, with its cause.
pub fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::environment(format!("cannot {doing} {}", path.display())).caused_by(error)
}

/// Makes the names in a directory durable: those of files that were made, renamed or removed there.
///
/// # Errors
/// If the directory cannot be synced.
pub fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|e| failed("sync the directory", path, e))
}
