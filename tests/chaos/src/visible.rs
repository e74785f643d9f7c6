//! What a reader of an output directory sees: the `*.jsonl` files whose names begin with no dot.

use crate::failure::{Context, Failure, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A visible file: its name and all its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleFile {
    /// Its name, without the directory.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The names of the visible files, in order. A directory that does not exist yet has none.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(format!("cannot list {}", dir.display()))?,
    };
    let mut names: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| is_visible(n)).collect();
    names.sort();
    Ok(names)
}

fn is_visible(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".jsonl")
}

/// Every visible file. A file whose last line has no end is a finding.
pub fn files(dir: &Path) -> Result<Vec<VisibleFile>> {
    names(dir)?.into_iter().map(|name| file(dir, name)).collect()
}

/// One visible file, read whole.
pub fn file(dir: &Path, name: String) -> Result<VisibleFile> {
    let bytes = fs::read(dir.join(&name)).context(format!("cannot read the visible file {name}"))?;
    match bytes.last() {
        None | Some(b'\n') => Ok(VisibleFile { name, bytes }),
        Some(_) => Err(torn(&name, &bytes)),
    }
}

fn torn(name: &str, bytes: &[u8]) -> Failure {
    let start = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let line = String::from_utf8_lossy(&bytes[start..]);
    let head: String = line.chars().take(80).collect();
    Failure::new(format!("torn line in the visible file {name}: {head}"))
}

/// The rows of a file's bytes.
pub fn rows(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}
